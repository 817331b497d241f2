"""
What L{twisted_term.testing} has for suites of others, but for the connection in
memory, which L{tests.test_conformance} tests.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import (
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_term import Outcome, State, Termination, TerminationMixin
from twisted_term.testing import LastEnd, StringTransport


class Later(TerminationMixin, LineReceiver):
    report: Optional[Termination] = None
    lost: Optional[Failure] = None

    def lineReceived(self, line: bytes) -> None:
        self.answer = Deferred().addCallback(self.sendLine)
        self.transport.track(self.answer)
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason

    def terminated(self, report: Termination) -> None:
        self.report = report


class StringTransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.later = Later()
        self.transport = StringTransport(self.later)

    def end(self, error: type, outcome: Outcome) -> None:
        self.transport.clock.pump([0, 0])
        assert self.later.lost is not None and self.later.report is not None
        self.assertTrue(self.later.lost.check(error))
        self.assertIs(self.later.report.outcome, outcome)
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.transport.clock.getDelayedCalls(), [])

    def test_works(self) -> None:
        """
        With work in flight the end waits, and the reactor stays clean; trial looks.
        """
        self.later.dataReceived(b"question\r\n")
        self.assertIs(self.later.transport.state, State.FLUSHING)
        self.transport.clock.advance(60)
        self.assertFalse(self.transport.disconnecting)
        self.later.answer.callback(b"answer")
        self.transport.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), b"answer\r\n")
        self.end(ConnectionDone, Outcome.CLEAN)

    def test_forgotten(self) -> None:
        """
        Work that is never done is bounded by the policy, on that clock.
        """
        self.later.dataReceived(b"question\r\n")
        self.transport.clock.pump([1.0] * 605)
        self.end(ConnectionAborted, Outcome.FLUSH_EXPIRED)

    def test_aborted(self) -> None:
        """
        A reset is told as one.
        """
        self.later.transport.abortConnection()
        self.assertTrue(self.transport.disconnecting)
        self.end(ConnectionAborted, Outcome.ABORTED)

    def test_later(self) -> None:
        """
        The connection may be made later, by the test.
        """
        later, transport = Later(), StringTransport()
        transport.protocol = later
        later.makeConnection(transport)
        later.transport.loseConnection()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(later.lost)
        transport.clock.advance(0)
        self.assertIsNotNone(later.report)


class Once(TerminationMixin, Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.loseConnection()


class Asking(Protocol):
    """
    It goes on for a while after the server has ended.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"x")


class LastEndTests(TestCase):
    def setUp(self) -> None:
        self.lastEnd = LastEnd(self)
        self.reports: list[Termination] = []

    @inlineCallbacks
    def ask(self, count: int) -> Any:
        endpoint = serverFromString(reactor, "term:tcp:0:interface=127.0.0.1")
        port = yield endpoint.listen(Factory.forProtocol(Once))
        self.addCleanup(port.stopListening)
        text = f"term:tcp:127.0.0.1:{port.getHost().port}"
        for _ in range(count):
            client = yield connectProtocol(clientFromString(reactor, text), Asking())
            client.transport.callWhenTerminated(self.reports.append)

    @inlineCallbacks
    def test_wait(self) -> Any:
        """
        It fires when all have ended, at both ends, and at once where none lives; and
        again.
        """
        self.successResultOf(self.lastEnd.wait())
        for count in (3, 6):
            yield self.ask(3)
            waiting = self.lastEnd.wait()
            self.assertNoResult(waiting)
            yield waiting
            self.assertEqual(len(self.reports), count)
            self.successResultOf(self.lastEnd.wait())

    @inlineCallbacks
    def test_cleanUp(self) -> Any:
        """
        A test need not wait: its clean-up does, and trial finds nothing left.
        """
        yield self.ask(3)
        self.assertEqual(self.reports, [])
