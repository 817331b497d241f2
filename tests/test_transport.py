"""
The transport and its bounds, under a Clock, around a fake transport.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.interfaces import (
    ISystemHandle,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from twisted_term import (
    Outcome,
    State,
    TerminatingTransport,
    TerminationPolicy,
)
from twisted_term.connection.beneath.kernel import SendQueue
from twisted_term.interfaces import ITerminableTransport

from .doubles import HalfCloseable, Producer, TransportTestCase, Wire


class BoundTests(TransportTestCase):
    """
    Each wait has its bound, and ends at it: not before, and at most an eighth
    (or the first look's 0.1 s) after it.
    """

    def assertBound(self, limit: float, ended: State) -> None:
        before = self.transport.state
        self.advance(limit - 0.125)
        self.assertIs(self.transport.state, before)
        self.advance(limit / 8 + 0.75)
        self.assertIs(self.transport.state, ended)

    def test_flushTimeout(self) -> None:
        """
        A peer that acknowledges nothing is reset; one that acknowledges a
        little has the whole limit anew.
        """
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.advance(7)
        self.owe(900, 100)
        self.advance(7)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.advance(3)
        self.assertReset()
        report = self.end()
        self.assertIs(report.outcome, Outcome.FLUSH_EXPIRED)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, 900)

    def test_workTimeout(self) -> None:
        """
        A hold that is never released is given up.
        """
        self.connect()
        self.transport.hold()
        self.transport.loseConnection()
        self.assertBound(80, State.ABORTED)
        self.assertEqual(self.fins(), 0)
        self.end()

    def test_lingerIdle(self) -> None:
        """
        A peer that neither sends nor closes is closed on after C{lingerIdle}.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.assertBound(4, State.CLOSED)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_resetUntold(self) -> None:
        """
        A reset that only the kernel knows of is told when the limit is reached.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.wire.queue = SendQueue(0, 0, True)
        self.assertBound(4, State.CLOSED)
        self.assertIs(self.reports[0].outcome, Outcome.RESET_BY_PEER)

    def test_lingerTime(self) -> None:
        """
        A peer that goes on sending is closed on after C{lingerTime}; what it
        sends is discarded and counted.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        for _ in range(15):
            self.advance(1)
            self.below.dataReceived(b"12345")
        self.assertIs(self.transport.state, State.LINGERING)
        for _ in range(4):
            self.advance(1)
            if self.transport.state is State.LINGERING:
                self.below.dataReceived(b"")
        report = self.end()
        self.assertIs(report.outcome, Outcome.LINGER_EXPIRED)
        self.assertEqual(report.bytesDiscarded, 75)
        self.assertEqual(self.application.told, ["made", "lost"])

    def test_lingerBeginsWhenAllIsAcknowledged(self) -> None:
        """
        While the peer is still taking our bytes, lingering has not begun.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        for taken in range(40):
            self.owe(1000 - taken, taken)
            self.advance(1)
        self.assertIs(self.transport.state, State.LINGERING)
        self.owe(0, 1000)
        self.assertBound(4, State.CLOSED)
        self.end()

    def test_lingerBytes(self) -> None:
        """
        A peer that sends more than C{lingerBytes} is closed on.
        """
        self.connect()
        self.transport.policy = TerminationPolicy(lingerBytes=10)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.below.dataReceived(b"x" * 10)
        self.assertIs(self.transport.state, State.LINGERING)
        self.below.dataReceived(b"x")
        self.assertIs(self.transport.state, State.CLOSED)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_halfCloseIdle(self) -> None:
        """
        A half-closed connection on which nothing arrives is reset, but not
        while the application itself has paused reading, for C{workTimeout}.
        """
        self.connect()
        self.transport.loseWriteConnection()
        self.below.writeConnectionLost()
        self.transport.pauseProducing()
        self.advance(70)
        self.assertIs(self.transport.state, State.HALF_CLOSED)
        self.transport.resumeProducing()
        self.advance(100)
        self.assertReset()
        self.end()

    def test_lastAck(self) -> None:
        """
        After both FINs, the acknowledgement of our bytes is waited for.
        """
        for acknowledged, ended in ((True, State.CLOSED), (False, State.ABORTED)):
            self.connect()
            self.owe(10)
            self.below.readConnectionLost()
            self.below.writeConnectionLost()
            self.assertIs(self.transport.state, State.LINGERING)
            if acknowledged:
                self.owe(0, 10)
            self.advance(10)
            self.assertIs(self.transport.state, ended)
            self.assertIs(self.end().delivered, acknowledged)

    def test_none(self) -> None:
        """
        C{None} is no limit.
        """
        self.policy = TerminationPolicy(None, None, None, None, None, None)
        self.connect()
        self.transport.loseConnection()
        self.advance(2)
        self.below.writeConnectionLost()
        for _ in range(100):
            self.clock.advance(1000)
        self.assertIs(self.transport.state, State.LINGERING)
        self.below.readConnectionLost()
        self.assertEqual(self.application.told, ["made", "lost"])
        self.assertIs(self.reports[0].outcome, Outcome.CLEAN)

    def test_deadline(self) -> None:
        """
        C{terminate} aborts at its deadline, and a later deadline replaces it.
        """
        self.connect()
        self.transport.hold()
        self.transport.terminate(1)
        self.transport.terminate(3)
        self.advance(2)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.advance(1)
        self.assertReset()
        self.assertIs(self.end().outcome, Outcome.DEADLINE_EXPIRED)
        self.assertRaises(ValueError, self.transport.terminate, -1)


class InFlightTests(TransportTestCase):
    """
    No FIN while work is in flight.
    """

    def test_holds(self) -> None:
        """
        The last of several holds counts; releasing one twice changes nothing.
        """
        self.connect()
        first, second = self.transport.hold(), self.transport.hold()
        self.transport.loseConnection()
        first.release()
        first.release()
        self.assertEqual(self.fins(), 0)
        self.transport.write(b"served")
        with second:
            pass
        self.transport.write(b" too")
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.transport.write(b"dropped")
        self.assertEqual(self.wire.written, b"served too")
        self.assertEqual(self.end().writesDropped, 1)

    def test_producer(self) -> None:
        """
        A producer is in flight until it unregisters, and so is a successor that
        it has in the same turn; one that comes too late is told to stop.
        """
        self.connect()
        late = Producer()
        self.transport.registerProducer(Producer(), True)
        self.transport.loseWriteConnection()
        self.assertEqual(self.fins(), 0)
        self.transport.unregisterProducer()
        self.transport.registerProducer(Producer(), True)
        self.clock.advance(0)
        self.assertEqual(self.fins(), 0)
        self.transport.unregisterProducer()
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.transport.registerProducer(late, True)
        self.assertEqual(late.stopped, 1)
        self.end()

    def test_idleProducer(self) -> None:
        """
        A transport that stays registered, as in a proxy, is not in flight when
        it has ended, nor when the peer has sent its FIN: each end would wait
        for the other.  And Twisted is not left to ask it for more.
        """
        for ends in (True, False):
            self.connect()
            producer: Any = Producer()
            directlyProvides(producer, ISystemHandle)
            self.transport.registerProducer(producer, True)
            self.transport.loseConnection()
            self.transport.resumeProducing()
            self.clock.advance(0)
            self.assertEqual(self.fins(), 0)
            if ends:
                producer.disconnected = True
                self.transport.resumeProducing()
            else:
                self.below.readConnectionLost()
                self.advance(0.25)
            self.clock.advance(0)
            self.assertEqual(self.fins(), 1)
            self.assertIs(self.wire.producer, None)
            self.end()

    def test_peerFin(self) -> None:
        """
        The peer's FIN begins the end, and work in flight is finished first.
        """
        self.connect()
        hold = self.transport.hold()
        self.below.readConnectionLost()
        # We have not asked for it: what is buffered is still to be parsed.
        self.assertFalse(self.transport.disconnecting)
        self.assertEqual(self.fins(), 0)
        hold.release()
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.below.writeConnectionLost()
        self.assertIs(self.transport.state, State.CLOSED)
        self.end()


class ReentrancyTests(TransportTestCase):
    """
    Every call may be made from every callback, and repeated.
    """

    def test_fromCallbacks(self) -> None:
        """
        An end that is asked for from a callback comes about once.
        """
        for moment in ("made", "data", "write lost", "read lost"):
            for name in ("loseConnection", "abortConnection", "loseWriteConnection"):
                application = HalfCloseable()

                def act(application: Any = application, name: str = name) -> None:
                    for _ in range(3):
                        getattr(application.transport, name)()

                application.does[moment] = act
                self.connect(application)
                self.below.dataReceived(b"x")
                self.transport.loseWriteConnection()
                self.below.writeConnectionLost()
                if self.transport.state in (State.HALF_CLOSED, State.LINGERING):
                    self.below.readConnectionLost()
                if name == "abortConnection":
                    self.assertReset()
                self.assertLessEqual(self.fins(), 1)
                if self.wire.protocol is not None:
                    self.end()
                self.assertEqual(application.told.count("lost"), 1)
                self.assertEqual(len(self.reports), 1)

    def test_fromProducer(self) -> None:
        """
        A hold's release, from within C{unregisterProducer}, and an abort from
        C{stopProducing}, are no surprise.
        """
        self.connect()
        producer = Producer()
        self.transport.abortConnection()
        producer.stopProducing = (  # type: ignore[method-assign]
            self.transport.abortConnection
        )
        self.transport.registerProducer(producer, True)
        self.assertReset()
        self.end()

    def test_fromConnectionLost(self) -> None:
        """
        After the end, calls are harmless, and a late C{whenTerminated} fires.
        """
        self.connect()
        transport = self.transport

        def act() -> None:
            transport.write(b"x")
            transport.loseConnection()
            transport.abortConnection()
            transport.hold().release()
            transport.terminate(1)

        self.application.does["lost"] = act
        report = self.end()
        self.assertIs(self.successResultOf(transport.whenTerminated()), report)
        self.assertIs(report.outcome, Outcome.LOST)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noCycle(self) -> None:
        """
        What has ended is freed without the garbage collector.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.below.readConnectionLost()
        reference = weakref.ref(self.transport)
        self.application.transport = None
        del self.transport
        self.assertIs(reference(), None)

    def test_classes(self) -> None:
        """
        Nothing keeps a class of transports that was made at run time, when its
        connections have ended.  One of protocols is kept by zope.interface, which
        Twisted asks for IHalfCloseableProtocol.
        """
        references = []
        for _ in range(200):
            wire: Any = type("Wire", (Wire,), {})(Clock())
            application = HalfCloseable()
            transport = TerminatingTransport(wire, application, None, wire.reactor)
            ITerminableTransport.providedBy(transport)
            application.makeConnection(transport)
            transport.loseConnection()
            wire.connectionLost(Failure(CONNECTION_DONE))
            references.append(weakref.ref(type(wire)))
        del wire, application, transport
        gc.collect()
        # Some declarations are kept.
        self.assertLess(sum(found() is not None for found in references), 70)
