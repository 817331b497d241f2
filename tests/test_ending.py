"""
One end, look by look, under a Clock: what is noted for the report, when it is looked
again, and what happens in a look.  L{tests.mutation} found what these test.
"""

from __future__ import annotations

import gc
from typing import Any, Callable

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure

from twisted_term import Initiator, Outcome, State, TerminationPolicy
from twisted_term.applications.conversation import Conversation
from twisted_term.connection.beneath import descriptor, kernel
from twisted_term.connection.beneath.kernel import SendQueue
from twisted_term.connection.beneath.lowest import Lowest
from twisted_term.connection.ending import Ending
from twisted_term.connection.timer import timerOf
from twisted_term.interfaces import IConversation

from . import doubles
from .doubles import Application, HalfCloseable, TransportTestCase


class Probed(Application):
    """
    Has work in flight for as long as the test says, and its peer is asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.works: Callable[[], bool] = lambda: True
        self.probes: list[float] = []


class ProbedConversation(Conversation):
    protocol: Probed

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)

    def inFlight(self, transport: Any) -> bool:
        return self.protocol.works()

    def probe(self, transport: Any) -> bool:
        clock: Any = transport.reactor
        self.protocol.probes.append(clock.seconds())
        return True


registerAdapter(ProbedConversation, Probed, IConversation)


def endings() -> int:
    """
    How many there are in this process.
    """
    return sum(type(found) is Ending for found in gc.get_objects())


def _isLate(event: Any) -> bool:
    """
    Is it the line about a write that is too late?
    """
    return "a write after the end" in event.get("log_format", "")


class Later(Clock):
    """
    One that does not begin at 0.
    """

    rightNow = 1000.0


class EndingTestCase(TransportTestCase):
    def setUp(self) -> None:
        self.patch(doubles, "Clock", Later)

    def stop(self) -> None:
        """
        The reactor stops.
        """
        timerOf(self.clock).stop()  # type: ignore[arg-type]


class ReportTests(EndingTestCase):
    """
    What is noted for the report.
    """

    def test_seconds(self) -> None:
        """
        The time in each state, and that of the peer's FIN, count from when the
        connection was made.
        """
        self.connect()
        self.clock.advance(3)
        self.owe(1)
        self.transport.loseConnection()
        self.clock.advance(0.75)
        self.below.writeConnectionLost()
        self.clock.advance(1.5)
        self.below.readConnectionLost()
        self.clock.advance(0.5)
        self.owe(0, 1)
        self.advance(1)
        report = self.end()
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertEqual(report.peerFin, 5.25)
        seconds = dict(report.seconds)
        lingering = seconds.pop(State.LINGERING)
        self.assertEqual(seconds, {State.OPEN: 3.0, State.FLUSHING: 0.75})
        self.assertTrue(2.0 <= lingering <= 2.25, lingering)

    def test_peerFinEnds(self) -> None:
        """
        The time of a FIN that is the end.
        """
        self.connect()
        self.clock.advance(3)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.clock.advance(1.5)
        self.below.readConnectionLost()
        report = self.end()
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertEqual(report.peerFin, 4.5)
        self.assertEqual(report.seconds[State.LINGERING], 1.5)

    def test_closeNotify(self) -> None:
        """
        What TLS has sent is not what it has received.
        """
        for both in ((True, False), (False, True), (None, True), (True, None)):
            self.patch(Lowest, "closeNotify", lambda below, both=both: both)
            self.connect()
            report = self.end()
            found = report.closeNotifySent, report.closeNotifyReceived
            self.assertEqual(found, both)

    def test_writesDropped(self) -> None:
        """
        Each write that is too late is counted, and the first one is logged; what is
        no bytes is refused all the same.
        """
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for count in (0, 1, 3):
            self.connect()
            self.transport.loseConnection()
            for _ in range(count):
                self.transport.write(b"late")
            for call, data in (("write", "late"), ("writeSequence", [b"", "late"])):
                with self.assertRaises(TypeError):
                    getattr(self.transport, call)(data)
            self.assertEqual(self.end().writesDropped, count)
            warned = [event["log_level"] for event in events if _isLate(event)]
            self.assertEqual(warned, [LogLevel.warn] * min(count, 1))
            events.clear()

    def test_bytesAfterPeerFin(self) -> None:
        """
        What is written after the peer's FIN is counted, and what was before it
        is not; a count that shrinks is none.
        """
        for later, count in ((180, 30), (150, 0), (149, 0)):
            self.connect()
            self.owe(100, 50)
            with self.transport.hold():
                self.below.readConnectionLost()
            self.owe(0, later)
            self.clock.advance(0)
            self.below.writeConnectionLost()
            report = self.end()
            self.assertEqual((report.peerFin, report.bytesAfterPeerFin), (0.0, count))

    def test_finFirst(self) -> None:
        """
        Where our FIN came first, nothing can be written after the peer's.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.below.readConnectionLost()
        self.assertIs(self.end().bytesAfterPeerFin, None)

    def test_unknown(self) -> None:
        """
        What the kernel does not say is not known.
        """
        self.connect()
        with self.transport.hold():
            self.below.readConnectionLost()
            self.wire.queue = None
        self.clock.advance(0)
        self.below.writeConnectionLost()
        report = self.end()
        self.assertIs(report.bytesAfterPeerFin, None)
        self.assertIs(report.bytesUnacknowledged, None)
        self.assertIs(report.delivered, None)

    def test_initiator(self) -> None:
        """
        Who begins the end is its initiator, whatever comes after that.
        """
        begins: dict[Initiator, list[Callable[[], object]]] = {
            Initiator.PEER: [
                lambda: self.below.readConnectionLost(),
                lambda: self.wire.connectionLost(Failure(ConnectionLost())),
            ],
            Initiator.LOCAL: [
                lambda: self.transport.loseConnection(),
                lambda: self.transport.loseWriteConnection(),
                lambda: self.transport.abortConnection(),
                lambda: self.transport.closeConnection(),
            ],
        }
        for initiator, ways in begins.items():
            for begin in ways:
                self.connect()
                self.wire.queue = SendQueue(0, 0, True)
                begin()
                self.assertIs(self.end().initiator, initiator)

    def test_freed(self) -> None:
        """
        When it has ended nothing is left of it, without the garbage collector,
        and the reactor's stop finds nobody.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        others = endings()
        for seconds in (0, 1):  # without a look, and with some
            self.connect()
            with self.transport.hold():
                self.below.readConnectionLost()
                self.transport.terminate(60)
                self.clock.advance(seconds)
            self.clock.advance(0)
            self.below.writeConnectionLost()
            self.end()
            self.stop()
            self.application.transport = None
            del self.transport
            self.assertEqual(endings(), others)


class StopTests(EndingTestCase):
    """
    The reactor stops after the peer's FIN, of which it knows no more.
    """

    def test_states(self) -> None:
        """
        The application is told, whatever it is that is waited for.
        """

        def hold() -> None:
            self.transport.hold()
            self.below.readConnectionLost()

        def flush() -> None:
            self.transport.loseWriteConnection()
            self.below.readConnectionLost()

        def acknowledge() -> None:
            self.transport.loseConnection()
            self.below.writeConnectionLost()
            self.below.readConnectionLost()

        for wait in (hold, flush, acknowledge):
            self.connect()
            self.owe(1000)
            wait()
            self.assertNotIn("lost", self.application.told)
            self.stop()
            report = self.end()
            self.assertIs(report.outcome, Outcome.LOST)
            self.assertEqual(report.bytesUnacknowledged, 1000)

    def test_reactorTells(self) -> None:
        """
        While the peer's FIN has not come, the reactor reads the connection, and tells
        of its end itself: nobody else does.
        """
        for begin in ("loseConnection", "loseWriteConnection"):
            self.connect()
            with self.transport.hold():
                getattr(self.transport, begin)()
                self.stop()
                self.assertNotIn("lost", self.application.told)
            self.clock.advance(0)
            self.below.writeConnectionLost()
            self.stop()
            self.assertEqual(self.reports, [])
            self.end()


class LookTests(EndingTestCase):
    """
    When it is looked, and what a look finds.
    """

    def test_afterReset(self) -> None:
        """
        What has been reset is not looked at any more, although the transport
        has not told of its end.
        """
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.advance(1)
        self.transport.abortConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end()

    def test_resetWhenAsked(self) -> None:
        """
        Nor is one that is reset by who is asked whether work is in flight,
        whenever that is.
        """
        for last in (1, 2, 3):
            self.connect(Probed())
            asked: list[None] = []

            def works(last: int = last, asked: list[None] = asked) -> bool:
                asked.append(None)
                if len(asked) == last:
                    self.transport.abortConnection()
                return True

            self.application.works = works  # type: ignore[attr-defined]
            self.transport.loseConnection()
            self.advance(1)
            self.assertEqual(len(asked), last)
            self.assertReset()
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.end()

    def test_endsInALook(self) -> None:
        """
        A look that finds the work done may end it all.
        """
        self.connect(Probed())
        self.below.readConnectionLost()
        self.wire.loseWriteConnection = (  # type: ignore[method-assign]
            lambda: self.below.writeConnectionLost()
        )
        self.advance(1)
        self.application.works = lambda: False  # type: ignore[attr-defined]
        self.advance(1.25)
        self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_probes(self) -> None:
        """
        A peer that is done is asked a quarter of a second after its FIN, and at
        intervals that double; one that is not is not asked.
        """
        self.connect(Probed())
        self.transport.loseWriteConnection()
        self.advance(10)
        probes = self.application.probes  # type: ignore[attr-defined]
        self.assertEqual(probes, [])
        self.below.readConnectionLost()
        begin = self.clock.seconds()
        for _ in range(1600):
            self.clock.advance(0.0078125)
        after = [probe - begin for probe in probes]
        # When it is looked: the pauses between looks double, too.
        for found, expected in zip(after, (0.3, 1.5, 2.5, 4.5, 8.5)):
            self.assertTrue(0 <= found - expected < 0.02, after)
        self.assertEqual(len(after), 5, after)
        self.transport.abortConnection()
        self.end()

    def test_gone(self) -> None:
        """
        A reset that only the kernel knows of is found at the next look while
        the peer is done and we are not, or while it owes acknowledgements.
        """
        for owed in (False, True):
            self.connect()
            if owed:
                self.owe(10)
                self.transport.loseConnection()
                self.below.writeConnectionLost()
            else:
                self.transport.hold()
            self.below.readConnectionLost()
            self.advance(0.5)
            self.assertNotIn("lost", self.application.told)
            self.wire.queue = SendQueue(10 * owed, 0, True)
            self.advance(1.5)
            self.assertIs(self.end().outcome, Outcome.RESET_BY_PEER)

    def test_open(self) -> None:
        """
        An application that goes on after the peer's FIN has no limit, and the
        kernel is asked every five seconds whether the peer has gone.
        """
        for owed in (0, 1000):
            self.connect(HalfCloseable())
            self.owe(owed)
            self.below.readConnectionLost()
            self.advance(200)
            self.assertIs(self.transport.state, State.OPEN)
            self.wire.queue = SendQueue(owed, 0, True)
            self.advance(5.25)
            self.assertIs(self.end().outcome, Outcome.RESET_BY_PEER)

    def test_silenceBefore(self) -> None:
        """
        What arrived before the application closed puts off no limit of the
        close.
        """
        self.connect()
        self.transport.loseWriteConnection()
        self.below.writeConnectionLost()
        self.advance(28)  # between two looks
        self.below.dataReceived(b"more")
        self.advance(1)
        self.transport.loseConnection()
        self.advance(3.75)
        self.assertIs(self.transport.state, State.LINGERING)
        self.advance(0.875)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_beginsAgain(self) -> None:
        """
        A state that begins between two looks has the whole of its limit.
        """
        self.connect()
        self.owe(1000)
        hold = self.transport.hold()
        self.transport.loseConnection()
        self.looks(2)
        self.clock.advance(0.5)
        hold.release()
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.assertEqual(self.looks(9)[-1], 8.0)
        self.assertReset()
        self.end()

    def test_pausesAtWork(self) -> None:
        """
        While work is in flight and the peer is there, what has no event is only
        the limit.
        """
        self.connect()
        hold = self.transport.hold()
        self.transport.loseConnection()
        self.assertEqual(self.looks(7), [0.1, 0.3, 0.7, 1.5, 3.1, 6.3])
        hold.release()
        self.clock.advance(0)
        self.end()

    def test_lastByte(self) -> None:
        """
        One byte that the peer owes the acknowledgement of is owed, or that is still
        in our own buffer.
        """
        self.connect()
        self.owe(1)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.below.readConnectionLost()
        self.advance(1)
        self.assertIs(self.transport.state, State.LINGERING)
        self.owe(0, 1)
        self.advance(1)
        self.assertIs(self.end().outcome, Outcome.CLEAN)
        self.patch(descriptor, "unsentBytes", lambda transport: 1)
        self.connect()
        self.wire.queue = None
        self.transport.hold()
        self.transport.loseConnection()
        self.advance(9.25)
        self.assertReset()
        self.end()

    def test_arrivesInThePast(self) -> None:
        """
        What arrives after a step of the clock backwards, but before the next look,
        arrives no earlier than the last look.
        """
        self.policy = TerminationPolicy(lingerTime=None, lingerIdle=4)
        self.connect()
        begin = self.clock.seconds()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        looked = self.looks(2.5)[-1]
        self.assertEqual(looked, 2.05)
        self.clock.rightNow -= 1
        self.below.dataReceived(b"more")
        end = begin + looked + 4
        self.clock.pump([1 / 64] * (int(64 * (end - self.clock.seconds())) - 1))
        self.assertIs(self.transport.state, State.LINGERING)
        self.clock.pump([1 / 64] * 2)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_arrivesEarly(self) -> None:
        """
        What arrives before the first look puts the end off; so it does where the
        first look is sooner than usual, and where it is the acknowledgement that
        is awaited.
        """
        for idle, arrives in ((4.0, 0.0625), (0.5, 0.03125)):
            for owed in (False, True):
                self.policy = TerminationPolicy(lingerTime=None, lingerIdle=idle)
                self.connect()
                if owed:
                    self.owe(1)
                self.transport.loseConnection()
                self.below.writeConnectionLost()
                self.owe(0, 1)
                self.clock.advance(arrives)
                self.below.dataReceived(b"more")
                self.clock.pump([1 / 128] * int(128 * idle - 1))
                self.assertIs(self.transport.state, State.LINGERING)
                self.clock.pump([1 / 128] * 64)
                self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def looks(self, seconds: float) -> list[float]:
        """
        When it is looked in so many seconds, from now.
        """
        begin = self.clock.seconds()
        found = []
        while calls := self.clock.getDelayedCalls():
            due = min(call.getTime() for call in calls)
            if due > begin + seconds:
                break
            self.clock.advance(max(0.0, due - self.clock.seconds()))
            found.append(round(due - begin, 4))
        return found

    def test_pausesOwed(self) -> None:
        """
        While acknowledgements are owed, each pause is twice the one before, up to
        an eighth of the limit, and half of what is left of it.
        """
        self.policy = TerminationPolicy(flushTimeout=80)
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        first = [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 22.7, 32.7, 42.7, 52.7, 62.7]
        self.assertEqual(self.looks(70), first)
        self.clock.advance(0)
        # From 62.7 seconds on: half of the 17.3 that are left, and so on.
        halves = [8.65, 12.975, 15.1375, 16.2188, 16.7594, 17.0297, 17.1648, 17.2324]
        begin = self.clock.seconds() - 62.7
        self.assertAlmostEqual(begin, Later.rightNow)
        self.assertEqual(self.looks(17.24), halves)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.looks(0.1)
        self.assertReset()
        self.end()

    def test_pausesLastAck(self) -> None:
        """
        Nothing tells of the last acknowledgement: at first it is looked often.
        """
        self.policy = TerminationPolicy(flushTimeout=80)
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.looks(10)
        self.below.readConnectionLost()
        self.assertEqual(
            self.looks(0.7), [0.005, 0.015, 0.035, 0.075, 0.155, 0.315, 0.635]
        )

    def test_pausesPeerDone(self) -> None:
        """
        While the peer is done and we are not, it is looked once a second, as long
        as work is in flight, or every five.
        """
        for application, last in ((Probed(), 1.0), (HalfCloseable(), 5.0)):
            self.connect(application)
            self.below.readConnectionLost()
            self.looks(30)
            self.assertEqual(self.looks(3 * last)[1:], [2 * last, 3 * last])

    def test_pausesQuiet(self) -> None:
        """
        With nothing owed it is looked at half of the time that is left, and once
        a minute at least.
        """
        self.policy = TerminationPolicy(lingerTime=None, lingerIdle=400)
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        found = self.looks(399.8)
        self.assertEqual(found[:6], [0.1, 60.1, 120.1, 180.1, 240.1, 300.1])
        self.assertEqual(found[6:8], [350.05, 375.025])
        self.assertIs(self.transport.state, State.LINGERING)
        self.looks(0.5)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_steps(self) -> None:
        """
        A step of the clock counts for a quarter more than the pause in which it
        comes, before the first look and after it, and no more.
        """
        self.policy = TerminationPolicy(flushTimeout=1)
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.clock.advance(3600)  # counts for 0.125 seconds
        self.assertIs(self.transport.state, State.FLUSHING)
        self.clock.advance(3600)  # for 0.15625
        self.clock.pump([0.001] * 717)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.clock.pump([0.001] * 4)
        self.assertReset()
        self.end()

    def test_shortLimit(self) -> None:
        """
        A short limit is looked at eight times as well.
        """
        self.policy = TerminationPolicy(flushTimeout=0.4)
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.assertEqual(self.looks(0.21), [0.05, 0.1, 0.15, 0.2])
        self.transport.abortConnection()
        self.end()

    def test_noLimit(self) -> None:
        """
        A limit of nothing is over at the look that finds it, not at the next.
        """
        self.policy = TerminationPolicy(linger="off")
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.assertEqual(self.looks(0.005), [0.005])
        self.owe(0, 1000)
        self.assertEqual(self.looks(1), [0.01])
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_sameNumber(self) -> None:
        """
        A number that is as large as before is no progress.
        """
        self.connect()
        self.patch(
            kernel, "sendQueue", lambda *_: SendQueue(1000, int("1000000"), False)
        )
        self.transport.loseConnection()
        self.advance(9.25)
        self.assertReset()
        self.end()

    def test_ownBuffer(self) -> None:
        """
        Where the kernel does not tell, each change of our own buffer shows that
        something goes on, also if more is written than is taken.
        """
        unsent = [1000]
        self.patch(descriptor, "unsentBytes", lambda transport: unsent[0])
        for step in (1, -1):
            self.connect()
            self.wire.queue = None
            self.transport.hold()
            self.transport.loseConnection()
            for _ in range(30):
                self.advance(1)
                unsent[0] += step
            self.assertIs(self.transport.state, State.FLUSHING)
            self.advance(10.25)
            self.assertReset()
            self.end()

    def test_tinyLimit(self) -> None:
        """
        A limit that is next to nothing does not keep the reactor busy: a look
        is a millisecond after the one before.
        """
        self.policy = TerminationPolicy(workTimeout=1e-6)
        self.connect()
        self.transport.hold()
        self.transport.loseConnection()
        (call,) = self.clock.getDelayedCalls()
        self.assertAlmostEqual(call.getTime() - self.clock.seconds(), 0.001)
        self.clock.advance(0.002)
        self.assertReset()
        self.end()
