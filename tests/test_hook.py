"""
The application's own way to close: L{twisted_term.ITerminationHook}.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, Callable, Optional

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.components import registerAdapter
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from twisted_term import (
    DrainingService,
    Initiator,
    ITerminationHook,
    Outcome,
    State,
    TerminatingFactory,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.connection.hook import hookOf
from twisted_term.connection.timer import timerOf
from twisted_term.testing import Peer, memoryPair

from .doubles import Application, TransportTestCase
from .ends import KINDS, EndsTestCase, HalfClosing, endWriting
from .support import SECONDS, receive

_NO_LINGER = TerminationPolicy(lingerTime=0)


@implementer(ITerminationHook)
class Hooked(Application):
    """
    Answers as the test says.
    """

    begins: Any = None
    closes: Any = None

    def endBegins(self, transport: Any, initiator: Any) -> Any:
        self._tell(f"begins, by {initiator.value}")
        return self.begins() if callable(self.begins) else self.begins

    def beforeClose(self, transport: Any) -> Any:
        self._tell("closes")
        return self.closes() if callable(self.closes) else self.closes


@implementer(IHalfCloseableProtocol)
class HalfHooked(Hooked):
    def readConnectionLost(self) -> None:
        self._tell("read lost")

    def writeConnectionLost(self) -> None:
        self._tell("write lost")


class HookTestCase(TransportTestCase):
    def hooked(self, begins: Any = None, closes: Any = None, half: bool = False) -> Any:
        application = HalfHooked() if half else Hooked()
        application.begins, application.closes = begins, closes
        self.connect(application)
        return application

    def asked(self, what: str) -> int:
        return sum(told.startswith(what) for told in self.application.told)

    def finish(self) -> None:
        """
        End, up to where the close is due.
        """
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.below.readConnectionLost()


class BeginTests(HookTestCase):
    """
    What is asked when the end begins.
    """

    def test_interface(self) -> None:
        """
        An application that has both methods provides the interface.
        """
        verifyObject(ITerminationHook, Hooked())

    def test_policy(self) -> None:
        """
        The policy that is returned is this end's, from its first moment on; and
        C{None} leaves it as it is.
        """
        other = TerminationPolicy(lingerTime=1, lingerIdle=None)
        self.hooked(other)
        self.assertIs(self.transport.policy, self.policy)
        self.transport.loseConnection()
        self.assertIs(self.transport.policy, other)
        self.below.writeConnectionLost()
        self.advance(1.25)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)
        self.hooked()
        self.transport.loseConnection()
        self.assertIs(self.transport.policy, self.policy)
        self.end()

    def test_onceForEach(self) -> None:
        """
        Each way in which an end begins asks once, and says who has begun it.
        """
        begins: tuple[tuple[str, Callable[[], object]], ...] = (
            ("local", lambda: self.transport.loseConnection()),
            ("local", lambda: self.transport.loseWriteConnection()),
            ("local", lambda: self.transport.terminate(5)),
            ("local", lambda: self.transport.drain()),
            ("peer", lambda: self.below.readConnectionLost()),
        )
        for who, begin in begins:
            self.hooked()
            hold = self.transport.hold()
            for _ in range(2):
                begin()
                self.transport.loseConnection()
            self.assertEqual(self.asked(f"begins, by {who}"), 1)
            self.assertEqual(self.asked("begins"), 1)
            hold.release()
            self.below.writeConnectionLost()
            if self.transport.state is State.LINGERING:
                self.below.readConnectionLost()
            self.clock.advance(0)
            self.assertEqual(self.asked("begins"), 1)
            self.end()

    def test_halfCloseable(self) -> None:
        """
        The peer's FIN is no end for who can half-close; what he asks for then is.
        """
        application = self.hooked(half=True)
        self.below.readConnectionLost()
        self.assertEqual(application.told, ["made", "read lost"])
        self.transport.loseWriteConnection()
        self.assertEqual(application.told[2:], ["begins, by peer"])
        self.end()

    def test_nothingDoneYet(self) -> None:
        """
        What the hook writes is sent, and what it holds is waited for.
        """

        def begins() -> None:
            self.assertIs(self.transport.state, State.FLUSHING)
            self.transport.write(b"goodbye")
            self.held = self.transport.hold()

        self.hooked(begins)
        self.transport.loseConnection()
        self.assertEqual(self.wire.written, b"goodbye")
        self.assertEqual(self.fins(), 0)
        self.held.release()
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.assertEqual(self.end().writesDropped, 0)

    def test_otherEnd(self) -> None:
        """
        The hook may abort, or close now, in the place of what was asked for.
        """
        for call, state in (
            ("abortConnection", State.ABORTED),
            ("closeConnection", State.CLOSED),
        ):
            for begin in (
                "loseConnection",
                "loseWriteConnection",
                "readConnectionLost",
            ):
                self.hooked(lambda call=call: getattr(self.transport, call)())
                below = begin == "readConnectionLost"
                getattr(self.below if below else self.transport, begin)()
                self.assertIs(self.transport.state, state)
                self.assertEqual(self.fins(), 0)
                self.assertEqual(self.asked("begins"), 1)
                self.end()
                self.assertEqual(self.asked("closes"), 0)

    def test_reentrant(self) -> None:
        """
        The hook may ask for an end itself: it comes, and so does what was asked
        for first, and both are bounded.
        """
        for inner in ("loseConnection", "loseWriteConnection"):
            for begin in (
                "loseConnection",
                "loseWriteConnection",
                "readConnectionLost",
            ):
                self.hooked(lambda inner=inner: getattr(self.transport, inner)())
                hold = self.transport.hold()
                peer = begin == "readConnectionLost"
                getattr(self.below if peer else self.transport, begin)()
                self.assertEqual(self.asked("begins"), 1)
                self.assertIs(self.transport.peerDone, peer)
                closing = "loseConnection" in (inner, begin)
                self.assertIs(self.transport.disconnecting, closing)
                hold.release()
                self.clock.advance(0)
                self.assertEqual(self.fins(), 1)
                self.below.writeConnectionLost()
                if self.wire.protocol is not None:
                    self.below.readConnectionLost()
                self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_raises(self) -> None:
        """
        An exception is logged, and so is what is no policy; the end goes on.
        """

        def raises() -> None:
            raise ValueError("a bug")

        self.hooked(raises)
        self.finish()
        self.assertIs(self.end().outcome, Outcome.CLEAN)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.hooked("no policy")
        self.finish()
        self.assertIs(self.transport.policy, self.policy)
        self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_atOnce(self) -> None:
        """
        An end that comes at once asks nothing.
        """
        for end in ("abortConnection", "closeConnection"):
            self.hooked()
            getattr(self.transport, end)()
            self.end()
            self.assertEqual((self.asked("begins"), self.asked("closes")), (0, 0))
        self.hooked()
        self.end()
        self.assertEqual((self.asked("begins"), self.asked("closes")), (0, 0))


class CloseTests(HookTestCase):
    """
    What is asked before the close.
    """

    def test_atOnce(self) -> None:
        """
        Where nothing is waited for, the close comes at once.
        """
        self.hooked()
        self.finish()
        self.assertEqual(self.asked("closes"), 1)
        self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_waits(self) -> None:
        """
        The close waits for a Deferred, and a failure of it is logged; how the
        connection has ended depends on neither.
        """
        for result in (None, "a result", ValueError("no")):
            for peer in (True, False):
                waiting: Deferred[Any] = Deferred()
                self.hooked(closes=waiting)
                self.transport.loseConnection()
                self.below.writeConnectionLost()
                if peer:
                    self.below.readConnectionLost()
                else:
                    self.advance(5)
                self.assertEqual(self.asked("closes"), 1)
                self.assertIs(self.transport.state, State.LINGERING)
                self.advance(5)
                self.below.dataReceived(b"late")
                self.assertIs(self.transport.state, State.LINGERING)
                if isinstance(result, Exception):
                    waiting.errback(result)
                    self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
                else:
                    waiting.callback(result)
                self.assertIs(self.transport.state, State.CLOSED)
                report = self.end()
                expected = Outcome.CLEAN if peer else Outcome.LINGER_EXPIRED
                self.assertIs(report.outcome, expected)
                self.assertIs(report.delivered, True)
                self.assertEqual(report.bytesDiscarded, 4)
                self.assertNotIn("data", self.application.told)
                self.assertEqual(self.asked("closes"), 1)

    def test_coroutine(self) -> None:
        """
        Or for a coroutine.
        """
        waiting: Deferred[None] = Deferred()

        async def closes() -> None:
            await waiting

        self.hooked(closes=closes)
        self.finish()
        self.assertIs(self.transport.state, State.LINGERING)
        waiting.callback(None)
        self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_peerFin(self) -> None:
        """
        The peer's FIN may come while the close waits.
        """
        waiting: Deferred[None] = Deferred()
        self.hooked(closes=waiting)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.advance(5)
        self.below.readConnectionLost()
        self.assertIs(self.transport.state, State.LINGERING)
        self.advance(1)
        waiting.callback(None)
        report = self.end()
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertGreater(report.peerFin, 4)

    def test_closeTimeout(self) -> None:
        """
        The close waits no longer than C{closeTimeout}, and cancels what it has
        waited for; a step of the clock is not that long.
        """
        for peer in (True, False):
            waiting: Deferred[None] = Deferred()
            failures: list[Any] = []
            waiting.addErrback(failures.append)
            self.policy = TerminationPolicy(lingerTime=1, closeTimeout=8)
            self.hooked(closes=waiting)
            self.transport.loseConnection()
            self.below.writeConnectionLost()
            if peer:
                self.below.readConnectionLost()
            self.advance(1.25)
            self.assertEqual(self.asked("closes"), 1)
            self.advance(6.5)
            self.assertIs(self.transport.state, State.LINGERING)
            self.advance(2)
            self.assertIs(self.transport.state, State.CLOSED)
            self.assertEqual(failures[0].type, CancelledError)
            expected = Outcome.CLEAN if peer else Outcome.LINGER_EXPIRED
            self.assertIs(self.end().outcome, expected)

    def test_noLimit(self) -> None:
        """
        C{closeTimeout=None} waits as long as it takes.
        """
        waiting: Deferred[None] = Deferred()
        self.hooked(TerminationPolicy(closeTimeout=None), waiting)
        self.finish()
        self.advance(1000)
        self.assertIs(self.transport.state, State.LINGERING)
        waiting.callback(None)
        self.assertIs(self.end().outcome, Outcome.CLEAN)

    def test_otherEnd(self) -> None:
        """
        While it waits, C{abortConnection}, C{closeConnection} and the deadline of
        C{terminate} end it at once, and so does a loss; what was waited for is
        cancelled, and what it says later changes nothing.
        """

        def raises(_: object) -> None:
            raise ValueError("a canceller's bug")

        ends: tuple[tuple[Callable[[], object], Outcome], ...] = (
            (lambda: self.transport.abortConnection(), Outcome.ABORTED),
            (lambda: self.transport.closeConnection(), Outcome.CLOSED),
            (
                lambda: (self.transport.terminate(1), self.advance(1)),
                Outcome.DEADLINE_EXPIRED,
            ),
            (lambda: None, Outcome.CLEAN),
        )
        for end, outcome in ends:
            for canceller in (None, raises):
                waiting: Deferred[Any] = Deferred(canceller)
                self.hooked(closes=waiting)
                self.finish()
                end()
                self.assertIs(self.end().outcome, outcome)
                bugs = len(self.flushLoggedErrors(ValueError))
                self.assertEqual(bugs, canceller is not None)
                if canceller is None:
                    self.assertTrue(waiting.called)
                else:
                    waiting.errback(KeyError("late"))
                    self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
                self.assertEqual(len(self.reports), 1)

    def test_raises(self) -> None:
        """
        An exception is logged, and the close comes at once.
        """

        def raises() -> None:
            raise ValueError("a bug")

        self.hooked(closes=raises)
        self.finish()
        self.assertIs(self.end().outcome, Outcome.CLEAN)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_taken(self) -> None:
        """
        A socket that is taken is let go, at once or later, whatever was the end.
        """
        for later in (False, True):
            for peer in (False, True):
                taken: Deferred[Any] = Deferred()
                self.hooked(closes=taken if later else Outcome.TAKEN)
                self.transport.loseConnection()
                self.below.writeConnectionLost()
                if peer:
                    self.below.readConnectionLost()
                else:
                    self.advance(5)
                if later:
                    self.advance(1)
                    taken.callback(Outcome.TAKEN)
                self.assertIs(self.transport.state, State.CLOSED)
                self.assertIs(self.wire._shouldShutdown, False)
                report = self.end()
                self.assertIs(report.outcome, Outcome.TAKEN)
                self.assertIs(report.delivered, True)
                self.assertIn("taken, by local; delivered", str(report))

    def test_oneMethod(self) -> None:
        """
        Either method may be left out.
        """

        @implementer(ITerminationHook)
        class Begins(Application):
            def endBegins(self, transport: Any, initiator: Any) -> Any:
                self.told.append("begins")

        @implementer(ITerminationHook)
        class Closes(Application):
            def beforeClose(self, transport: Any) -> Any:
                self.told.append("closes")

        for kind, told in ((Begins, "begins"), (Closes, "closes")):
            self.connect(kind())
            self.finish()
            self.assertIs(self.end().outcome, Outcome.CLEAN)
            self.assertEqual(self.application.told.count(told), 1)


@implementer(ITerminationHook)
class HookedFactory(Factory):
    pass


class Adapted(Protocol):
    pass


class FoundTests(TransportTestCase):
    """
    Where the hook is found.
    """

    def found(self, protocol: Any, factory: Any = None) -> Any:
        gate = SimpleNamespace(application=protocol, builder=lambda: factory)
        hook = hookOf(gate)
        return None if hook is None else hook._hook

    def test_none(self) -> None:
        """
        Nobody has to have one.
        """
        plain = Factory.forProtocol(Protocol)
        protocol = plain.buildProtocol(None)
        self.assertIs(self.found(protocol), None)
        self.assertIs(self.found(protocol, WrappingFactory(plain)), None)
        self.assertIs(self.found(Protocol()), None)

    def test_order(self) -> None:
        """
        The protocol's comes before that of one inside of it, and that before the
        factory's, and that before what was wrapped.
        """
        outside = HookedFactory.forProtocol(Protocol)
        factory = HookedFactory.forProtocol(Protocol)
        plain = factory.buildProtocol(None)
        self.assertIs(self.found(plain, outside), factory)
        self.assertIs(self.found(Protocol(), outside), outside)
        around = WrappingFactory(WrappingFactory(outside))
        self.assertIs(self.found(Protocol(), around), outside)
        hooked: Any = Hooked()
        hooked.factory = factory
        wrapper: Any = ProtocolWrapper(WrappingFactory(factory), hooked)
        self.assertIs(self.found(wrapper, outside), hooked)
        self.assertIs(self.found(hooked, outside), hooked)
        wrapped: Any = ProtocolWrapper(WrappingFactory(factory), plain)
        self.assertIs(self.found(wrapped, outside), factory)

    def test_adapter(self) -> None:
        """
        An adapter will do.
        """
        hook = Hooked()
        registerAdapter(lambda protocol: hook, Adapted, ITerminationHook)
        self.assertIs(self.found(Adapted()), hook)

    def test_wrappedFactory(self) -> None:
        """
        The factory is found that builds protocols which do not know it, behind
        whatever was wrapped around it.
        """

        class Builds(HookedFactory):
            def buildProtocol(self, addr: Any) -> Protocol:
                return Protocol()

        begun: list[Any] = []
        for around in (
            TerminatingFactory,
            lambda inner: TerminatingFactory(TerminatingFactory(inner)),
            lambda inner: TerminatingFactory(WrappingFactory(inner)),
            lambda inner: WrappingFactory(TerminatingFactory(inner)),
        ):
            factory: Any = Builds()
            factory.endBegins = lambda transport, who: begun.append(transport)
            protocol = around(factory).buildProtocol(None)
            below = StringTransport()
            below.reactor = Clock()  # type: ignore[attr-defined]
            protocol.makeConnection(below)
            while isinstance(protocol, ProtocolWrapper):
                protocol = protocol.wrappedProtocol
            protocol.transport.loseConnection()
            self.assertEqual(len(begun), 1)
            begun.clear()

    def test_memory(self) -> None:
        """
        The connections of L{twisted_term.testing} ask, too.
        """

        class Mixed(TerminationMixin, Hooked):
            def terminated(self, report: Any) -> None:
                self.report = report

        clock, peer = Clock(), Peer()
        mixed: Any = Mixed()
        mixed.begins, mixed.closes = _NO_LINGER, Deferred()
        memoryPair(clock, mixed, peer)
        clock.pump([0] * 5)
        mixed.transport.loseConnection()
        clock.pump([0.1] * 20)
        self.assertEqual(mixed.told[-2:], ["begins, by local", "closes"])
        mixed.closes.callback(Outcome.TAKEN)
        clock.pump([0] * 5)
        self.assertIs(mixed.report.outcome, Outcome.TAKEN)


_LINGER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as taken:
    taken.setblocking(True)
    count = 0
    while data := taken.recv(1 << 20):
        count += len(data)
print(count)
"""


def _endWriting(client: Any) -> Optional[str]:
    """
    FIN, or close_notify, which waits for its answer.

    @return: C{"RST"} if that is the answer.
    """
    try:
        if isinstance(client, ssl.SSLSocket):
            client.unwrap()
        else:
            client.shutdown(socket.SHUT_WR)
    except ConnectionResetError:
        return "RST"
    return None


class SocketTests(EndsTestCase):
    """
    On real sockets.
    """

    def hooked(
        self, begins: Any, closes: Any, protocol: Any = None, **does: Any
    ) -> Any:
        does.setdefault("received", lambda one, data: one.transport.loseConnection())
        factory = self.ended(*([protocol] if protocol else []), **does)
        factory.asked = []

        def endBegins(transport: Any, initiator: Any) -> Any:
            factory.asked.append(initiator)
            return begins

        def beforeClose(transport: Any) -> Any:
            factory.asked.append("close")
            return closes(transport)

        factory.endBegins, factory.beforeClose = endBegins, beforeClose
        alsoProvides(factory, ITerminationHook)
        return factory

    @inlineCallbacks
    def test_waits(self) -> Any:
        """
        The close waits for the application, and the peer has FIN already.
        """
        for kind in KINDS:
            waiting: Deferred[Any] = Deferred()
            factory = self.hooked(None, lambda transport, w=waiting: w)
            connect = yield self.serve(kind, factory)

            def client(connect: Any = connect) -> Any:
                with connect() as connected:
                    connected.sendall(b"?")
                    got = receive(connected)
                    endWriting(connected)
                    return got

            got = yield deferToThread(client)
            self.assertEqual(got, (0, "FIN"), kind)
            yield self.until(lambda f=factory: "close" in f.asked)
            yield deferLater(reactor, 0.3)
            self.assertEqual(factory.reports, [])
            waiting.callback(None)
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.CLEAN, kind)
            self.assertEqual(factory.asked, [Initiator.LOCAL, "close"])

    @inlineCallbacks
    def test_taken(self) -> Any:
        """
        Another process lingers: it has the rest of the upload, the client sees
        FIN and no reset, and here nothing is left of the connection.
        """
        for kind in ("tcp", "unix"):
            children: list[Any] = []

            def closes(transport: Any, children: list[Any] = children) -> Any:
                with transport.socket.dup() as taken:
                    fd = taken.fileno()
                    child = subprocess.Popen(
                        [sys.executable, "-c", _LINGER, str(fd)],
                        pass_fds=[fd],
                        stdout=subprocess.PIPE,
                    )
                children.append(child)
                self.addCleanup(child.kill)
                return Outcome.TAKEN

            factory = self.hooked(_NO_LINGER, closes)
            connect = yield self.serve(kind, factory)
            with (yield deferToThread(connect)) as connected:
                connected.sendall(b"?")
                got = yield deferToThread(receive, connected)
                self.assertEqual(got, (0, "FIN"))
                report = yield self.report(factory)
                self.assertIs(report.outcome, Outcome.TAKEN)
                yield deferToThread(connected.sendall, bytes(5_000_000))
                connected.shutdown(socket.SHUT_WR)
                (child,) = children
                said, _ = yield deferToThread(child.communicate, timeout=SECONDS)
                self.assertEqual(int(said) + report.bytesDiscarded, 5_000_000)
            self.assertEqual(factory.asked, [Initiator.LOCAL, "close"])

    @inlineCallbacks
    def test_takenTLS(self) -> Any:
        """
        Over TLS the socket may be taken as well, behind both close_notify.
        """
        taken: list[Any] = []

        def duplicates(transport: Any) -> Any:
            taken.append(transport.socket.dup())
            return Outcome.TAKEN

        factory = self.hooked(_NO_LINGER, duplicates)
        connect = yield self.serve("tls", factory)
        connected = yield deferToThread(connect)
        with connected:
            connected.sendall(b"?")
            self.assertEqual((yield deferToThread(receive, connected)), (0, "FIN"))
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.TAKEN)
            self.assertIs(report.closeNotifySent, True)
            with taken[0] as plain:
                plain.settimeout(SECONDS)
                with socket.socket(fileno=connected.detach()) as client:
                    client.sendall(b"rest")
                got = yield deferToThread(receive, plain)
                self.assertEqual(got, (4, "FIN"))

    @inlineCallbacks
    def test_reset(self) -> Any:
        """
        A peer that resets while the close waits has reset.
        """
        waiting: Deferred[Any] = Deferred()
        factory = self.hooked(_NO_LINGER, lambda transport: waiting)
        connect = yield self.serve("tcp", factory)
        with connect() as client:
            client.sendall(b"?")
            yield self.until(lambda: "close" in factory.asked)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        report = yield self.report(factory)
        self.assertIs(report.outcome, Outcome.RESET_BY_PEER)
        self.assertTrue(waiting.called)

    @inlineCallbacks
    def test_stop(self) -> Any:
        """
        What waits when the reactor stops is closed in order.
        """
        waiting: Deferred[Any] = Deferred()
        factory = self.hooked(None, lambda transport: waiting, HalfClosing)
        factory.peerFin = lambda one: one.transport.loseConnection()
        factory.received = lambda one, data: None
        connect = yield self.serve("tcp", factory)
        with connect() as client:
            client.sendall(b"?")
            client.shutdown(socket.SHUT_WR)
            yield self.until(lambda: "close" in factory.asked)
            timerOf(reactor).stop()
        report = yield self.report(factory)
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertEqual(factory.asked, [Initiator.PEER, "close"])

    @inlineCallbacks
    def test_drain(self) -> Any:
        """
        A drain asks, waits, and resets at its own limit what waits still.
        """
        for kind in KINDS:
            for inTime in (True, False):
                waiting: Deferred[Any] = Deferred()
                factory = self.hooked(_NO_LINGER, lambda transport, w=waiting: w)
                factory.received = lambda one, data: one.transport.write(data)
                endpoint = serverFromString(reactor, self.endpoint(kind))
                limit = 10 if inTime else 1.5
                service = DrainingService(endpoint, factory, drainTimeout=limit)
                service.startService()
                yield self.until(lambda s=service: s.ports)
                connect = self.connecting(kind, service.ports[0])
                with (yield deferToThread(connect)) as client:
                    client.sendall(b"?")
                    yield deferToThread(client.recv, 1)
                    draining = service.stopService()
                    got = yield deferToThread(receive, client)
                    self.assertEqual(got, (0, "FIN"), kind)
                    yield self.until(lambda f=factory: "close" in f.asked)
                    if inTime:
                        waiting.callback(None)
                    drained = yield draining
                outcome = Outcome.LINGER_EXPIRED if inTime else Outcome.ABORTED
                self.assertEqual(drained.outcomes, {outcome: 1}, kind)
                self.assertEqual(factory.asked, [Initiator.LOCAL, "close"])
                self.assertTrue(waiting.called)

    @inlineCallbacks
    def test_abortive(self) -> Any:
        """
        A peer that misbehaves is reset in the place of an end that takes time,
        whatever begins that, and no FIN comes first.  (A UNIX socket's reset is its
        close.)
        """
        for kind in KINDS:
            for begin in (
                "loseConnection",
                "loseWriteConnection",
                "terminate",
                "drain",
                "peer",
                "answer",
            ):
                yield self.abortive(kind, begin, 1)
                if kind == "tcp":
                    yield self.abortive(kind, begin, 20_000_000)

    @inlineCallbacks
    def abortive(self, kind: str, begin: str, size: int) -> Any:
        """
        @param size: bytes that are written before that.
        @param begin: what begins the end: a method of the transport; the peer's
            FIN; or what the application does at that if it can half-close.
        """
        said = (kind, begin, size)
        byPeer = begin in ("peer", "answer")
        factory = self.hooked(None, None, HalfClosing if begin == "answer" else None)

        def received(one: Any, data: bytes) -> None:
            one.transport.write(bytes(size))
            if not byPeer:
                getattr(one.transport, begin)(*([10] if begin == "terminate" else []))

        def endBegins(transport: Any, initiator: Any) -> None:
            factory.asked.append(initiator)
            transport.abortConnection()
            self.assertIs(transport.state, State.ABORTED)

        factory.received, factory.endBegins = received, endBegins
        factory.peerFin = lambda one: one.transport.loseConnection()
        connect = yield self.serve(kind, factory)
        client, end = (yield deferToThread(connect, True)), None
        with client:
            client.sendall(b"?")
            if byPeer:
                yield deferToThread(client.recv, 1)
                end = yield deferToThread(_endWriting, client)
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.ABORTED, said)
            initiator = Initiator.PEER if byPeer else Initiator.LOCAL
            self.assertIs(report.initiator, initiator, said)
            self.assertEqual(factory.asked, [initiator], said)
            self.assertEqual(factory.lost[0].type, ConnectionAborted, said)
            if kind != "unix":
                self.assertIs(report.delivered, byPeer and size == 1, said)
            count = 0
            if end is None:
                fd = client.detach()
                with socket.socket(fileno=fd) as plain:  # beneath TLS
                    plain.settimeout(SECONDS)
                    count, end = yield deferToThread(receive, plain)
            self.assertEqual(end, "FIN" if kind == "unix" else "RST", said)
            if size > 1:
                self.assertLess(count, size, said)
