"""
The drain's cases at the margin: who comes late, who is told, what fails, and what
is said of it.  Under a Clock, and on real sockets in this process; what needs a
signal is in C{test_drain} and C{test_signals}.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import tempfile
from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_term import (
    DrainingService,
    DrainReport,
    IDrainListener,
    Monitor,
    Outcome,
)
from twisted_term._waiters import Waiters
from twisted_term.drain.drainer import DRAIN_TIMEOUT, Drainer
from twisted_term.drain.port import acceptQueued
from twisted_term.drain.progress import Progress
from twisted_term.web import DrainingSite

from .doubles import Wire
from .support import SECONDS, SocketTestCase, receive


class Port:
    """
    Listens to nothing, and stops when the test says so.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stopping: list[Deferred[None]] = []

    def startListening(self) -> None:
        self.calls.append("start")

    def stopListening(self) -> Deferred[None]:
        self.calls.append("stop")
        self.stopping.append(Deferred())
        return self.stopping[-1]

    def stop(self) -> None:
        self.stopping.pop().callback(None)


class Endpoint:
    """
    Listens when the test says so.
    """

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.listening


@implementer(IDrainListener)
class Told(Factory):
    """
    Records what it is told.
    """

    protocol = Protocol  # type: ignore[assignment]

    def __init__(self) -> None:
        self.told: list[str] = []

    def servingBegins(self) -> None:
        self.told.append("serving")

    def drainBegins(self) -> None:
        self.told.append("drain")


class Strict(Clock):
    """
    Takes no negative time, as no reactor does.
    """

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        if delay < 0:
            raise ValueError(f"{delay} is less than 0")
        return super().callLater(delay, callable, *args, **kw)


class DrainerTestCase(SynchronousTestCase):
    """
    A drainer under a Clock.
    """

    def setUp(self) -> None:
        self.clock: Any = Strict()
        self.reports: list[Any] = []
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def drainer(self, timeout: Any = None, delay: float = 0.0) -> Drainer:
        self.made = drainer = Drainer(self.clock, timeout, delay)
        self.factory = drainer.wrap(Factory.forProtocol(Protocol), None)
        return drainer

    def connect(self) -> Wire:
        protocol: Any = self.factory.buildProtocol(None)  # type: ignore[arg-type]
        wire = Wire(self.clock)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def drain(self) -> None:
        self.made.drain().addCallback(self.reports.append)

    def said(self) -> list[str]:
        """
        What the drain has logged.
        """
        return [
            event["log_format"].format(**event)
            for event in self.events
            if event["log_namespace"] == "twisted_term.drain.progress"
        ]


class PortTests(DrainerTestCase):
    """
    Ports that come late, or come again.
    """

    def test_closing(self) -> None:
        """
        A port that comes once the others are being closed is closed at once, and
        no later than its connections are ended.
        """
        drainer = self.drainer()
        wire = self.connect()
        self.drain()
        port = Port()  # in this very turn
        drainer.listens(port)
        self.assertEqual(port.calls, ["stop"])
        wire.protocol.connectionLost()
        port.stop()
        self.assertEqual(len(self.reports), 1)

    def test_late(self) -> None:
        """
        A port that listens after the drain has begun is closed at once, and
        what it has accepted ends, within C{drainTimeout}.
        """
        for begun in (True, False):  # while the drain lasts, and after it
            drainer = self.drainer(timeout=5)
            wires = [self.connect()] if begun else []
            self.clock.advance(1)
            self.drain()
            self.clock.pump([0, 0])
            self.assertEqual(len(self.reports), 0 if begun else 3)
            self.events.clear()
            port = Port()
            drainer.listens(port)
            self.assertEqual(port.calls, ["stop"])
            wires.append(self.connect())
            self.clock.pump([0, 0, 0.5, 0])
            for wire in wires:
                self.assertIn("loseWriteConnection", wire.calls)
                self.assertNotIn("abortConnection", wire.calls)
            self.clock.advance(5)
            for wire in wires:
                self.assertIn("abortConnection", wire.calls)
                wire.protocol.connectionLost()
            port.stop()
            self.assertEqual(len(self.reports), 1 if begun else 3)
            self.drain()  # who asks now hears of the late one too
            self.assertIn(f"draining, {len(wires)} connections left", self.said()[0])
            counts = self.reports[-1].outcomes
            self.assertEqual(counts, {Outcome.ABORTED: len(wires)})
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_defaults(self) -> None:
        """
        Without a C{readinessDelay} listening stops at once; and what L{DRAIN_TIMEOUT}
        leaves is reset within Kubernetes' 30 seconds.
        """
        self.made = drainer = Drainer(self.clock, DRAIN_TIMEOUT)
        self.factory = drainer.wrap(Factory.forProtocol(Protocol), None)
        port, wire = Port(), self.connect()
        wire.protocol.transport.hold()
        drainer.listens(port)
        self.drain()
        self.assertEqual(port.calls, ["stop"])
        self.clock.pump([0.25] * 99)
        self.assertNotIn("abortConnection", wire.calls)
        self.clock.pump([0.25] * 2)
        self.assertIn("abortConnection", wire.calls)
        wire.protocol.connectionLost()
        port.stop()

    def test_restarted(self) -> None:
        """
        A port that is stopped and listens again is in use again, and its
        connections are drained; in a drain it is closed.
        """
        drainer = self.drainer()
        uses: list[bool] = []
        drainer.whileInUse(uses.append)
        port = Port()
        careful = drainer.listens(port)
        self.assertEqual(drainer.ports, [careful])
        careful.stopListening()
        self.assertEqual(drainer.ports, [])
        self.assertEqual(uses, [True])
        port.stop()
        self.assertEqual(uses, [True, False])
        careful.startListening()
        self.assertEqual(uses, [True, False, True])
        self.assertEqual(drainer.ports, [careful])
        wire = self.connect()
        self.clock.advance(1)
        self.drain()
        self.clock.pump([0, 0])
        self.assertIn("loseWriteConnection", wire.calls)
        port.stop()
        careful.startListening()
        self.assertEqual(port.calls, ["stop", "start", "stop", "start", "stop"])
        self.assertEqual(self.reports, [])
        port.stop()
        wire.protocol.connectionLost()
        self.assertEqual(len(self.reports), 1)
        self.assertEqual(uses, [True, False, True, False])

    def test_before(self) -> None:
        """
        A connection that ends before any drain is in no report.
        """
        drainer = self.drainer()
        uses: list[bool] = []
        drainer.whileInUse(uses.append)
        self.connect().protocol.connectionLost()
        self.assertEqual(uses, [True, False])
        self.drain()
        self.assertEqual(self.reports[0].outcomes, {})
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_askedLater(self) -> None:
        """
        Who asks for it when it is in use already is told so.
        """
        drainer = self.drainer()
        uses: list[bool] = []
        drainer.whileInUse(uses.append)
        self.assertEqual(uses, [])
        self.connect()
        again: list[bool] = []
        drainer.whileInUse(again.append)
        self.assertEqual((uses, again), ([True], [True]))

    def test_restartFails(self) -> None:
        """
        One that cannot listen again stays stopped.
        """
        drainer, port = self.drainer(), Port()
        careful = drainer.listens(port)
        careful.stopListening()
        port.stop()

        def fail() -> None:
            raise ValueError("in use")

        port.startListening = fail  # type: ignore[method-assign]
        self.assertRaises(ValueError, careful.startListening)
        self.assertTrue(careful.stopped)

    def test_restartedWhileStopping(self) -> None:
        """
        One that listens again before it was closed is not taken for closed.
        """
        drainer, port = self.drainer(), Port()
        careful = drainer.listens(port)
        stopped = careful.stopListening()
        careful.startListening()
        port.stop()
        self.successResultOf(stopped)
        self.assertFalse(careful.stopped)


class AbortTests(DrainerTestCase):
    """
    What is left is reset.
    """

    def test_inDelay(self) -> None:
        """
        In C{readinessDelay} an abort stops listening at once; whoever comes in
        all the same is reset too.
        """
        drainer, port = self.drainer(delay=8), Port()
        drainer.listens(port)
        wire = self.connect()
        self.drain()
        self.clock.advance(1)
        self.assertEqual(port.calls, [])
        drainer.abort()
        self.assertEqual(port.calls, ["stop"])
        # No more than the time that the drain waits for what is reset.
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), self.clock.seconds() + 1)
        late = self.connect()
        self.clock.advance(0)
        for each in (wire, late):
            self.assertEqual(each.calls.count("abortConnection"), 1)
            each.protocol.connectionLost()
        self.assertEqual(self.reports, [])
        port.stop()
        self.assertEqual(self.reports[0].outcomes, {Outcome.ABORTED: 2})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unasked(self) -> None:
        """
        An abort is a drain that waits for nothing.
        """
        drainer, port = self.drainer(), Port()
        drainer.listens(port)
        drainer.abort()
        self.assertTrue(drainer.draining)
        port.stop()
        self.drain()
        self.assertEqual(self.reports[0].outcomes, {})
        drainer.abort()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """
        Where nobody is there, an abort is over at once.
        """
        drainer = self.drainer()
        drainer.abort()
        self.drain()
        self.assertEqual([report.left for report in self.reports], [0])
        drainer.abort()
        self.assertEqual(len(self.said()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_raises(self) -> None:
        """
        A connection that cannot be ended, nor reset, keeps neither the others
        from their end nor the drain from its own: the report counts it.
        """
        drainer = self.drainer(timeout=5)
        wires = [self.connect() for _ in range(3)]
        bad = wires[0].protocol.transport

        def fail() -> None:
            raise ValueError("file descriptor cannot be a negative integer (-1)")

        bad.loseConnection = bad.abortConnection = fail
        self.clock.advance(1)
        self.drain()
        self.clock.pump([0, 0])
        for wire in wires[1:]:
            self.assertIn("loseWriteConnection", wire.calls)
        self.clock.advance(5)
        for wire in wires[1:]:
            self.assertIn("abortConnection", wire.calls)
            wire.protocol.connectionLost()
        self.assertEqual(self.reports, [])
        self.clock.advance(1)
        self.assertEqual((self.reports[0].left, drainer.draining), (1, True))
        self.assertIn("1 did NOT end, although they were reset", self.said()[-1])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        wires[0].protocol.connectionLost()
        self.assertEqual(len(self.reports), 1)
        lines = [line for line in self.said() if line.startswith("drained")]
        self.assertEqual(len(lines), 1)
        self.assertEqual(self.reports[0].outcomes, {Outcome.ABORTED: 2})

    def test_collector(self) -> None:
        """
        Python's collector of cycles waits while the connections are ended, and
        runs after that as it did before.
        """
        self.addCleanup(gc.enable)
        meanwhile: list[bool] = []
        for before in (gc.enable, gc.disable):
            before()
            enabled = gc.isenabled()
            self.drainer()
            transport = self.connect().protocol.transport
            transport.loseConnection = lambda: meanwhile.append(gc.isenabled())
            self.clock.advance(1)
            self.drain()
            self.clock.pump([0, 0])
            self.assertIs(gc.isenabled(), enabled)
        self.assertEqual(meanwhile, [False, False])

    def test_madeMeanwhile(self) -> None:
        """
        A connection that is made while others are ended ends half a second
        later.
        """
        self.drainer()
        made: list[Wire] = []
        first, second = self.connect(), self.connect()
        first.protocol.transport.loseConnection = lambda: made.append(self.connect())
        self.clock.advance(1)
        self.drain()
        self.clock.pump([0, 0])
        self.assertIn("loseWriteConnection", second.calls)
        self.assertEqual(made[0].calls, [])
        self.clock.advance(0.5)
        self.assertIn("loseWriteConnection", made[0].calls)

    def test_stillNew(self) -> None:
        """
        A connection that is not half a second old has the rest of it.
        """
        self.drainer()
        wire = self.connect()
        self.clock.advance(0.2)
        self.drain()
        self.clock.pump([0, 0, 0.29])
        self.assertEqual(wire.calls, [])
        self.clock.advance(0.02)
        self.assertIn("loseWriteConnection", wire.calls)

    def test_oneTimer(self) -> None:
        """
        Connections that come in while others are ended have one timer together.
        """
        self.drainer()
        held = self.connect()
        held.protocol.transport.hold()
        self.clock.advance(1)
        self.drain()
        self.clock.pump([0, 0])
        counts = []
        for _ in range(3):
            self.connect()
            self.clock.advance(0)
            counts.append(len(self.clock.getDelayedCalls()))
        self.assertEqual(len(set(counts)), 1, counts)

    def test_clockSetBack(self) -> None:
        """
        After a step of the clock backwards, however small, no connection is new.
        """
        for step in (3600, 0.25):
            self.drainer()
            self.clock.advance(7200)
            wire = self.connect()
            self.clock.rightNow -= step
            self.drain()
            self.clock.pump([0, 0])
            self.assertIn("loseWriteConnection", wire.calls)


class TellTests(DrainerTestCase):
    """
    Who is told of a drain.
    """

    def service(self, factory: Any, **options: Any) -> DrainingService:
        endpoint = Endpoint()
        endpoint.listening = succeed(Port())
        return DrainingService(endpoint, factory, reactor=self.clock, **options)

    def test_listeners(self) -> None:
        """
        A factory is told when serving begins, and when a drain begins, before
        C{readinessDelay}; also inside of others.
        """
        told = Told()
        self.assertTrue(verifyObject(IDrainListener, told))
        inside: Any = WrappingFactory(told)
        for factory in (told, inside, Monitor(clock=self.clock).wrap(inside)):
            told.told = []
            service = self.service(factory, readinessDelay=3)
            service.addEndpoint(Endpoint(), factory)  # told once all the same
            self.assertEqual(told.told, [])
            service.startService()
            self.assertEqual(told.told, ["serving"])
            service.drain()
            service.drain()
            self.assertEqual(told.told, ["serving", "drain"])
            self.clock.advance(3)
            service.startService()
            self.assertEqual(told.told, ["serving", "drain", "serving"])

    def test_raises(self) -> None:
        """
        One that raises is logged, and harms no other.
        """
        told, bad = Told(), Told()

        def fail() -> None:
            raise ValueError("application")

        bad.drainBegins = fail  # type: ignore[method-assign]
        service = self.service(bad)
        service.addEndpoint(Endpoint(), told)
        service.startService()
        service.drain()
        self.assertEqual(told.told, ["serving", "drain"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_site(self) -> None:
        """
        C{DrainingSite.draining} is true from the begin of the drain, and false
        again when the service has started again.
        """
        site = DrainingSite(Resource())
        self.assertTrue(verifyObject(IDrainListener, site))
        service = self.service(site, readinessDelay=1)
        service.startService()
        self.assertFalse(site.draining)
        service.drain()
        self.assertTrue(site.draining)
        self.clock.advance(1)
        service.startService()
        self.assertEqual((site.draining, service.draining), (False, False))

    def test_whenDraining(self) -> None:
        """
        It fires when a drain begins, with a Deferred for each call.
        """
        service = self.service(Told(), readinessDelay=3)
        service.startService()
        asked = [service.whenDraining() for _ in range(3)]
        asked[1].cancel()
        self.failureResultOf(asked[1])
        self.assertNoResult(asked[0])
        service.drain()
        for done in (asked[0], asked[2], service.whenDraining()):
            self.successResultOf(done)
        self.clock.advance(3)
        service.startService()
        self.assertNoResult(service.whenDraining())

    def test_transports(self) -> None:
        """
        Each connection is told with the drain's begin, and one that comes later
        in its next turn, in how many seconds it will be reset.
        """
        for timeout, seconds in ((25.0, 28.0), (None, None)):
            drainer = self.drainer(timeout, delay=3)
            begins = self.factory.whenDraining()
            told: list[Any] = []
            early, other = self.connect(), self.connect()

            def fail(seconds: Any) -> None:
                raise ValueError("application")

            early.protocol.transport.drainBegins = fail
            other.protocol.transport.drainBegins = told.append
            self.assertNoResult(begins)
            drainer.drain()
            self.successResultOf(begins)
            self.assertEqual(told, [seconds])
            self.connect().protocol.transport.drainBegins = told.append
            self.assertEqual(told, [seconds])
            self.clock.advance(0)
            self.assertEqual(told, [seconds, seconds])
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_startedAgain(self) -> None:
        """
        A service that was drained, or aborted, listens again when it is started.
        """
        service = self.service(Told())
        for stop in (service.drain, service.abort, service.drain):
            service.startService()
            self.assertEqual((len(service.ports), service.draining), (1, False))
            stop()
            self.assertEqual((len(service.ports), service.draining), (0, True))

    def test_cancelled(self) -> None:
        """
        Deferreds that are cancelled do not pile up; one that is cancelled by
        another one of them is not called.
        """
        waiters: Waiters[None] = Waiters()
        first, second = waiters.wait(), waiters.wait()
        for _ in range(1000):
            self.failureResultOf(cancelled(waiters.wait()))
        self.assertEqual(len(waiters._waiting or ()), 2)
        first.addCallback(lambda _: second.cancel())
        second.addErrback(lambda failure: None)
        waiters.fire(None)
        self.successResultOf(first)

    def test_ports(self) -> None:
        """
        A service tells its ports.
        """
        service = self.service(Told())
        self.assertEqual(service.ports, [])
        service.startService()
        (port,) = service.ports
        port.stopListening()
        self.assertEqual(service.ports, [])


def cancelled(deferred: Deferred[Any]) -> Deferred[Any]:
    deferred.cancel()
    return deferred


class ProgressTests(DrainerTestCase):
    """
    What is said while it lasts, in the log and to systemd.
    """

    def setUp(self) -> None:
        super().setUp()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.listener.close)
        address = tempfile.mkdtemp() + "/notify"
        self.listener.bind(address)
        self.listener.setblocking(False)
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": address})

    def heard(self) -> list[str]:
        """
        What systemd has heard.
        """
        found = []
        while True:
            try:
                found.append(self.listener.recv(1000).decode())
            except BlockingIOError:
                return found

    def test_comesLater(self) -> None:
        """
        A drain tells once a second how far it has come, and how long it may
        last, also where nobody was there when it began.
        """
        drainer, port = self.drainer(timeout=25, delay=2.5), Port()
        drainer.listens(port)
        self.drain()
        self.assertEqual(self.heard(), [])
        self.clock.advance(1)
        wires = [self.connect() for _ in range(2)]
        self.clock.pump([1, 0.5, 0, 0, 0.5])
        wires[1].protocol.connectionLost()
        self.clock.pump([1, 1])
        wires[0].protocol.connectionLost()
        port.stop()
        self.assertEqual(
            self.said(),
            [
                "draining, 0 connections left, listening for 2 s more",
                "draining, 2 connections left, 2 open, listening for 0 s more",
                "draining, 2 connections left, 2 flushing, 24 s left",
                "draining, 1 connections left, 1 flushing, 24 s left",
                "draining, 1 connections left, 1 flushing, 22 s left",
                "drained 2 connections in 5.000 s; 2 lost; slowest peer 5.000 s",
            ],
        )
        extend = "EXTEND_TIMEOUT_USEC=10000000"
        self.assertEqual(
            self.heard(),
            [
                extend,
                "STATUS=draining, 0 connections left",
                extend,
                "STATUS=draining, 2 connections left",
                "STATUS=draining, 2 connections left",
                extend,
                "STATUS=draining, 1 connections left",
                "STATUS=draining, 1 connections left",  # and no progress
                "STATUS=" + self.said()[-1],
            ],
        )

    def test_firstLine(self) -> None:
        """
        Where nobody was there, the first line comes after a second: when the drain
        began in C{readinessDelay}, and when somebody comes after it.
        """
        drainer, port = self.drainer(timeout=25, delay=2.5), Port()
        drainer.listens(port)
        self.drain()
        self.clock.advance(0.75)
        self.assertEqual(self.said(), [])
        self.clock.advance(0.25)
        self.assertEqual(len(self.said()), 1)
        self.clock.pump([1.5, 0, 0])
        port.stop()
        self.assertEqual(len(self.reports), 1)
        self.events.clear()
        wire = self.connect()
        wire.protocol.transport.hold()
        self.clock.pump([0, 0, 0.75])
        self.assertEqual(self.said(), [])
        self.clock.advance(0.25)
        self.assertEqual(len(self.said()), 1)
        wire.protocol.connectionLost()

    def test_startedAgain(self) -> None:
        """
        The status of a drain is gone when the service has started again.
        """
        endpoint = Endpoint()
        factory = Factory.forProtocol(Protocol)
        service = DrainingService(endpoint, factory, reactor=self.clock)
        service.startService()
        self.assertEqual(self.heard(), [])
        service.drain()
        service.startService()
        self.assertEqual(
            self.heard(), ["STATUS=drained 0 connections in 0.000 s", "STATUS="]
        )

    def test_nobody(self) -> None:
        """
        Where nobody is there, and nothing lasts, there is one line.
        """
        self.drainer()
        self.drain()
        self.assertEqual(self.said(), ["drained 0 connections in 0.000 s"])

    def test_long(self) -> None:
        """
        A drain that lasts for hours keeps no trace of each second.
        """
        self.drainer()
        wire = self.connect()
        wire.protocol.transport.hold()
        self.drain()
        self.clock.pump([1] * 1000)
        self.assertLess(len(self.made._calls), 4)
        self.made.abort()
        wire.protocol.connectionLost()

    def test_levels(self) -> None:
        """
        The deadline, and bytes that were not delivered, are warnings; a good
        end is none.
        """
        self.drainer(timeout=5)
        self.drain()
        self.assertEqual(self.levels(), [LogLevel.info])
        self.drainer(timeout=5)
        wire = self.connect()
        wire.protocol.transport.hold()
        self.drain()
        self.clock.advance(5)
        wire.protocol.connectionLost()
        self.assertIn("drainTimeout=5 is reached: 1 connections are reset", self.said())
        self.assertEqual(self.levels()[-2:], [LogLevel.warn, LogLevel.info])
        for undelivered, left in ((1, 0), (0, 1)):
            Progress().done(DrainReport({}, undelivered, 0, 0.0, None, left))
            self.assertEqual(self.levels()[-1], LogLevel.warn)

    def levels(self) -> list[Any]:
        return [
            event["log_level"]
            for event in self.events
            if event["log_namespace"] == "twisted_term.drain.progress"
        ]

    def test_json(self) -> None:
        """
        Each value of the log events can be written as JSON.
        """
        self.drainer(timeout=5)
        wire = self.connect()
        self.drain()
        self.clock.advance(5)
        wire.protocol.connectionLost()
        self.assertEqual(len(self.said()), 4)
        for event in self.events:
            if event["log_namespace"] == "twisted_term.drain.progress":
                own = {k: v for k, v in event.items() if not k.startswith("log_")}
                json.dumps(own)  # raises where one cannot


class SocketTests(SocketTestCase):
    """
    On real sockets.
    """

    def greeter(self, reply: Callable[[Any], object] = lambda transport: None) -> Any:
        class Greeter(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")  # type: ignore[union-attr]
                reply(self.transport)

        factory: Any = Factory.forProtocol(Greeter)
        factory.noisy = False
        return factory

    def adopted(self) -> tuple[AdoptedStreamServerEndpoint, Any]:
        """
        An endpoint of a socket that listens already, as systemd gives one, and
        its address.
        """
        listening = socket.create_server(("127.0.0.1", 0), backlog=200)
        listening.setblocking(False)
        address = listening.getsockname()
        # It closes the descriptor when it listens, and has one of its own.
        descriptor = listening.detach()
        family = socket.AF_INET
        return AdoptedStreamServerEndpoint(reactor, descriptor, family), address

    @inlineCallbacks
    def test_late(self) -> Any:
        """
        An endpoint that has begun to listen after the drain: who is connected
        to it is served and closed, and its port is.
        """
        self.addCleanup(deferLater, reactor, 0.1)
        adopted, address = self.adopted()
        endpoint = Endpoint()
        service = DrainingService(endpoint, self.greeter(), onSignal=False)
        service.startService()
        client = socket.create_connection(address, SECONDS)
        yield service.drain()
        listens = yield adopted.listen(endpoint.factory)
        endpoint.listening.callback(listens)
        with client:
            result = yield deferToThread(receive, client)
        self.assertEqual(result, (5, "FIN"))
        yield deferLater(reactor, 0)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address)

    @inlineCallbacks
    def test_queue(self) -> Any:
        """
        Of a socket that was handed to us, as many are accepted as had been
        established when listening stopped: not those who come in meanwhile,
        although there is one more for each that is accepted.
        """
        self.addCleanup(deferLater, reactor, 0.1)
        endpoint, address = self.adopted()
        clients = []

        def more(transport: Any = None) -> None:
            self.assertLess(len(clients), 100, "it goes on for ever")
            clients.append(socket.create_connection(address, SECONDS))
            self.addCleanup(clients[-1].close)

        accepted: list[Any] = []

        def made(transport: Any) -> None:
            accepted.append(transport)
            more()

        port = yield endpoint.listen(self.greeter(made))
        for _ in range(7):
            more()
        acceptQueued(port)
        self.assertEqual((len(accepted), len(clients)), (7, 14))
        yield port.stopListening()
        for transport in accepted:
            transport.loseConnection()

    @inlineCallbacks
    def test_ownQueue(self) -> Any:
        """
        Of one of our own, all are accepted; of one that somebody has closed,
        none, and nothing is raised.
        """
        made: list[Any] = []
        self.addCleanup(deferLater, reactor, 0.1)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        service = DrainingService(endpoint, self.greeter(made.append), onSignal=False)
        service.startService()
        (port,) = service.ports
        self.assertTrue(verifyObject(IListeningPort, port))
        host: Any = port.getHost()
        clients = [
            socket.create_connection(("127.0.0.1", host.port), SECONDS)
            for _ in range(20)
        ]
        drained = service.drain()
        self.assertEqual((len(made), service.ports), (20, []))
        for client in clients:
            with client:
                result = yield deferToThread(receive, client)
            self.assertEqual(result, (5, "FIN"))
        report = yield drained
        self.assertEqual(report.outcomes, {Outcome.CLEAN: 20})
        unused: Any = yield endpoint.listen(self.greeter())
        reactor.removeReader(unused)
        unused.socket.close()
        acceptQueued(unused)
