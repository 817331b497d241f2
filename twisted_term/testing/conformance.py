"""
Tests that every terminable transport must pass.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..connection.report import Initiator, Outcome, State, Termination
from ..interfaces import ITerminableTransport, ITerminationListener
from ..policy import TerminationPolicy

#: More than the kernel buffers on the way, so that the flush takes a while.
_MUCH = 8_000_000


@implementer(ITerminationListener)
class Terminated(Protocol):
    """
    The protocol on the transport that is tested.  It records how it is called.

    @ivar received: bytes received.
    @ivar lost: the reason of each call of C{connectionLost}.
    @ivar reports: the report of each call of C{terminated}.
    """

    def __init__(self) -> None:
        self.received = 0
        self.lost: list[Failure] = []
        self.reports: list[Termination] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason)

    def terminated(self, report: Termination) -> None:
        self.reports.append(report)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Terminated):
    """
    The same, and it is told of the ends of the two directions, too.
    """

    readLost = writeLost = 0

    def readConnectionLost(self) -> None:
        self.readLost += 1

    def writeConnectionLost(self) -> None:
        self.writeLost += 1


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """
    The protocol at the other end.

    @ivar received: bytes received.
    @ivar end: C{"FIN"}; C{"lost"} for any other end; C{None} before the end.
    @ivar lost: has C{connectionLost} been called?
    """

    lost = False

    def __init__(self) -> None:
        self.received = 0
        self.end: Optional[str] = None

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def readConnectionLost(self) -> None:
        self.end = "FIN"

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.end = self.end or "lost"
        self.lost = True


class TerminableTransportTests:
    """
    Mix it in before a trial C{TestCase}, and define C{makePair}.

    @cvar policy: the policy that C{makePair} has to give to the transport.
    @cvar resets: does the peer see that it was reset, and not closed?
    @cvar knowsDelivery: can the transport say whether the peer has what was written?
    """

    policy = TerminationPolicy(lingerTime=2.0, lingerIdle=1.0)
    resets = True
    knowsDelivery = True

    def makePair(self, server: Protocol, peer: Protocol) -> Any:
        """
        Connect C{server}, on the transport that is tested, with C{peer}, on a
        transport that can C{loseWriteConnection}.

        @return: C{None}, or a Deferred, when both are connected.
        """
        raise NotImplementedError

    def until(self, condition: Callable[[], Any]) -> Any:
        """
        @return: a Deferred that fires when the condition has come true.
        """
        from twisted.internet import reactor

        return self._poll(condition, reactor)

    @inlineCallbacks
    def _poll(self, condition: Callable[[], Any], reactor: Any) -> Any:
        for _ in range(2000):
            if condition():
                return
            yield deferLater(reactor, 0.01)
        self._case.fail("nothing happens")

    @property
    def _case(self) -> Any:
        return self

    @inlineCallbacks
    def _connect(self, server: Optional[Terminated] = None) -> Any:
        server, peer = server or Terminated(), Peer()
        yield self.makePair(server, peer)
        yield self.until(lambda: server.transport and peer.transport)
        return server, peer

    @inlineCallbacks
    def _ended(self, server: Terminated, outcome: Outcome, by: Initiator) -> Any:
        """
        Check that the connection has ended once, with this outcome and initiator.
        """
        yield self.until(lambda: server.reports)
        (report,) = server.reports
        self._case.assertEqual((report.outcome, report.initiator), (outcome, by))
        self._case.assertEqual(len(server.lost), 1)
        if not self.knowsDelivery:
            self._case.assertIsNone(report.delivered)
        elif outcome is Outcome.CLEAN:
            self._case.assertIs(report.delivered, True)
        return report

    @inlineCallbacks
    def _close(self, peer: Peer) -> Any:
        """
        Close the peer, and wait until it is closed.
        """
        if not peer.lost:
            assert peer.transport is not None
            peer.transport.loseConnection()
        yield self.until(lambda: peer.lost)

    @inlineCallbacks
    def test_interface(self) -> Any:
        """
        The transport provides L{ITerminableTransport}.
        """
        server, peer = yield self._connect()
        verifyObject(ITerminableTransport, server.transport)
        self._case.assertIs(server.transport.state, State.OPEN)
        self._case.assertIs(server.transport.protocol, server)
        peer.transport.loseConnection()
        yield self._ended(server, Outcome.CLEAN, Initiator.PEER)
        yield self._close(peer)

    @inlineCallbacks
    def test_loseConnection(self) -> Any:
        """
        All that was written arrives, and then FIN.  What is written later is dropped,
        and counted.
        """
        server, peer = yield self._connect()
        server.transport.write(b"x" * _MUCH)
        server.transport.loseConnection()
        server.transport.loseConnection()
        server.transport.write(b"late")
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (_MUCH, "FIN"))
        peer.transport.loseConnection()
        report = yield self._ended(server, Outcome.CLEAN, Initiator.LOCAL)
        self._case.assertEqual(report.writesDropped, 1)
        yield self._close(peer)

    @inlineCallbacks
    def test_earlyAnswer(self) -> Any:
        """
        A peer that is still sending loses nothing of the answer, and is not
        reset; what it sends is discarded.
        """
        server, peer = yield self._connect()
        peer.transport.write(b"u" * _MUCH)
        yield self.until(lambda: server.received)
        server.transport.write(b"x" * _MUCH)
        server.transport.loseConnection()
        received = server.received
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (_MUCH, "FIN"))
        peer.transport.loseConnection()
        report = yield self._ended(server, Outcome.CLEAN, Initiator.LOCAL)
        self._case.assertEqual(server.received, received)
        self._case.assertEqual(report.bytesDiscarded, _MUCH - received)
        yield self._close(peer)

    @inlineCallbacks
    def test_loseWriteConnection(self) -> Any:
        """
        The peer sees FIN behind what was written, and the application goes on
        reading; both are told.
        """
        server, peer = yield self._connect(HalfCloseable())
        server.transport.write(b"x" * _MUCH)
        server.transport.loseWriteConnection()
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (_MUCH, "FIN"))
        yield self.until(lambda: server.writeLost)
        self._case.assertIs(server.transport.state, State.HALF_CLOSED)
        peer.transport.write(b"y" * _MUCH)
        peer.transport.loseWriteConnection()
        yield self._ended(server, Outcome.CLEAN, Initiator.LOCAL)
        self._case.assertEqual(server.received, _MUCH)
        self._case.assertEqual((server.readLost, server.writeLost), (1, 1))
        yield self._close(peer)

    @inlineCallbacks
    def test_peerHalfCloses(self) -> Any:
        """
        A peer that half-closes gets the answer that is under way, also from a
        protocol that knows nothing of half-close.
        """
        server, peer = yield self._connect()
        server.transport.write(b"x" * _MUCH)
        peer.transport.loseWriteConnection()
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (_MUCH, "FIN"))
        yield self._ended(server, Outcome.CLEAN, Initiator.PEER)
        yield self._close(peer)

    @inlineCallbacks
    def test_peerHalfClosesKnowing(self) -> Any:
        """
        A protocol that is half-closeable writes for as long as it likes.
        """
        server, peer = yield self._connect(HalfCloseable())
        peer.transport.write(b"y")
        peer.transport.loseWriteConnection()
        yield self.until(lambda: server.readLost)
        self._case.assertIs(server.transport.state, State.OPEN)
        server.transport.write(b"x" * _MUCH)
        server.transport.loseConnection()
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (_MUCH, "FIN"))
        yield self._ended(server, Outcome.CLEAN, Initiator.PEER)
        yield self._close(peer)

    @inlineCallbacks
    def test_hold(self) -> Any:
        """
        While a hold is taken no FIN is sent, and what is written arrives.
        """
        server, peer = yield self._connect()
        work: Deferred[None] = Deferred()
        with server.transport.hold():
            server.transport.track(work)
            server.transport.loseConnection()
            server.transport.write(b"12")
        yield self.until(lambda: peer.received == 2)
        self._case.assertIs(server.transport.state, State.FLUSHING)
        self._case.assertIsNone(peer.end)
        server.transport.write(b"34")
        work.callback(None)
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (4, "FIN"))
        peer.transport.loseConnection()
        yield self._ended(server, Outcome.CLEAN, Initiator.LOCAL)
        yield self._close(peer)

    @inlineCallbacks
    def test_producer(self) -> Any:
        """
        A registered producer is in flight until it unregisters.
        """
        server, peer = yield self._connect()
        producer = _Producer(server.transport, 50)
        server.transport.registerProducer(producer, False)
        server.transport.loseConnection()
        yield self.until(lambda: peer.end)
        self._case.assertEqual((peer.received, peer.end), (50 * 65536, "FIN"))
        peer.transport.loseConnection()
        yield self._ended(server, Outcome.CLEAN, Initiator.LOCAL)
        yield self._close(peer)

    @inlineCallbacks
    def test_abortConnection(self) -> Any:
        """
        Unsent data is discarded, and the peer sees the end; calls that come
        later do nothing.
        """
        server, peer = yield self._connect()
        peer.transport.pauseProducing()
        server.transport.write(b"x" * _MUCH)
        server.transport.abortConnection()
        report = yield self._ended(server, Outcome.ABORTED, Initiator.LOCAL)
        if self.knowsDelivery:
            self._case.assertIs(report.delivered, False)
        peer.transport.resumeProducing()
        yield self.until(lambda: peer.end)
        self._case.assertLess(peer.received, _MUCH)
        if self.resets:
            self._case.assertEqual(peer.end, "lost")
        for call in "abortConnection", "loseConnection", "loseWriteConnection":
            getattr(server.transport, call)()
        peer.transport.loseConnection()
        self._case.assertEqual(len(server.reports), 1)
        yield self._close(peer)

    @inlineCallbacks
    def test_peerResets(self) -> Any:
        """
        A reset by the peer is the end, at once.
        """
        server, peer = yield self._connect()
        peer.transport.write(b"y")
        yield self.until(lambda: server.received)
        peer.transport.abortConnection()
        yield self.until(lambda: server.reports)
        (report,) = server.reports
        self._case.assertIs(report.initiator, Initiator.PEER)
        if self.resets:
            self._case.assertIs(report.outcome, Outcome.RESET_BY_PEER)
        yield self._close(peer)

    @inlineCallbacks
    def test_peerNeverCloses(self) -> Any:
        """
        A peer that never closes is waited for as long as the policy says.
        """
        server, peer = yield self._connect()
        server.transport.write(b"x")
        server.transport.loseConnection()
        yield self._ended(server, Outcome.LINGER_EXPIRED, Initiator.LOCAL)
        self._case.assertEqual((peer.received, peer.end), (1, "FIN"))
        yield self._close(peer)

    @inlineCallbacks
    def test_terminate(self) -> Any:
        """
        At its deadline, C{terminate} resets a connection that still lives.
        """
        server, peer = yield self._connect()
        peer.transport.pauseProducing()
        server.transport.write(b"x" * _MUCH)
        done = server.transport.terminate(0.2)
        yield self._ended(server, Outcome.DEADLINE_EXPIRED, Initiator.LOCAL)
        report = yield done
        self._case.assertIs(report, server.reports[0])
        yield self._close(peer)


class _Producer:
    """
    A pull producer of a few chunks.
    """

    def __init__(self, consumer: Any, chunks: int) -> None:
        self._consumer = consumer
        self._left = chunks

    def resumeProducing(self) -> None:
        self._left -= 1
        self._consumer.write(b"p" * 65536)
        if not self._left:
            self._consumer.unregisterProducer()

    def stopProducing(self) -> None:
        pass


__all__ = ["HalfCloseable", "Peer", "TerminableTransportTests", "Terminated"]
