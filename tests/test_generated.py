"""
Generated sequences of calls and events, on the state machine and on sockets.

C{HYPOTHESIS_PROFILE=search} looks for new ones, and for longer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from functools import wraps
from typing import Any, Callable, Optional

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_term import (
    Outcome,
    State,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminationPolicy,
)
from twisted_term.connection.machine import Input, Node
from twisted_term.connection.shell import Connection
from twisted_term.interfaces import ITerminationListener
from twisted_term.policy import limitOptions, policyOptions
from twisted_term.termserver.demo import DemoFactory, payload

from .rules import Rules
from .support import once, sockets

_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "report_multiple_bugs": False,
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile("ci", derandomize=True, max_examples=1000, **_COMMON)
settings.register_profile("search", max_examples=20_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def shown(test: Callable[..., None]) -> Callable[..., None]:
    """
    Let trial, which knows no notes of exceptions, show the example that fails.
    """

    @wraps(test)
    def run(self: Any) -> None:
        try:
            test(self)
        except Exception as error:
            notes = "\n".join(getattr(error, "__notes__", ()))
            raise self.failureException(f"{error!r}\n{notes}") from error

    return run


_ANY = st.sampled_from([event for event in Input if event is not Input.FIN_SENT])


class AnyOrder(RuleBasedStateMachine):
    """
    Any input at any time; but our FIN is out only where it has been sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rules = Rules()
        self.node = Node.OPEN

    @rule(event=_ANY, meanwhile=st.lists(_ANY, max_size=3))
    def happens(self, event: Input, meanwhile: list[Input]) -> None:
        self.node = self.rules.check(self.node, event, meanwhile)

    @precondition(lambda self: self.rules.finAsked and not self.rules.finSent)
    @rule()
    def finSent(self) -> None:
        self.node = self.rules.check(self.node, Input.FIN_SENT)


@once
class MachineTests(SynchronousTestCase):
    @shown
    def test_anyOrder(self) -> None:
        """
        The machine keeps the rules, whatever comes.
        """
        run_state_machine_as_test(
            AnyOrder, settings=settings(settings(), stateful_step_count=30)
        )


_input = Connection.input
_POLICY = TerminationPolicy(
    flushTimeout=6, workTimeout=8, lingerTime=7, lingerIdle=3, halfCloseIdle=5
)
_SHORTEST, _ALL = 3, 60  # seconds: no limit, and surely all of them
_TICK = 0.25
_MOST_TURNS = 5000
_RESET = struct.pack("ii", 1, 0)
_PATTERN = bytes(range(251)) * 64_000
_SIZES = (1, 100, 5_000, 100_000, 1_000_000)


def pattern(start: int, count: int) -> bytes:
    """
    Bytes that tell their place.
    """
    first = start % 251
    return _PATTERN[first : first + count]


@implementer(ITerminationListener)
class Application(Protocol):
    """
    Records what it is told.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.told: list[str] = []
        self.report: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append("connectionLost")

    def terminated(self, report: Any) -> None:
        self.told.append("terminated")
        self.report = report


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Application):
    """
    Goes on after the peer's FIN.
    """

    def readConnectionLost(self) -> None:
        self.told.append("readConnectionLost")

    def writeConnectionLost(self) -> None:
        self.told.append("writeConnectionLost")


@implementer(IPushProducer)
class Producer:
    stopped = False

    def pauseProducing(self) -> None:
        pass

    resumeProducing = pauseProducing

    def stopProducing(self) -> None:
        self.stopped = True


class Run:
    """
    One connection over the loopback, and what must be true of it.  Time is a
    L{Clock}'s; the sockets, and the reactor that serves them, are real.

    @ivar accepted: bytes written in time.
    @ivar dropped: writes that were not.
    @ivar got: what the peer has read, and C{peerEnd} how that ended.
    @ivar peerSent: bytes that the peer's kernel took.
    @ivar peerDone: has the peer sent its FIN?
    @ivar peerGone: has the peer reset, or closed before it had seen our end?
    @ivar waited: seconds since the end was asked for.
    """

    def __init__(self, reactor: Any, factory: Any, port: int) -> None:
        self._reactor = reactor
        self.clock = factory.clock = Clock()
        self.rules = Rules()
        self._node = Node.OPEN
        self.accepted = self.dropped = self.peerSent = 0
        self.got = bytearray()
        self.peerEnd: Optional[str] = None
        self.peerGone = self.peerDone = self.aborted = False
        self.waited = 0.0
        self._receivedAtClose: Optional[int] = None
        self._holds: list[Any] = []
        self._producer: Optional[Producer] = None
        self._sealed = self._peerToldOfReset = False
        self._peer = socket.socket()
        # Little, so that large writes have to wait in the process.
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self._peer.connect(("127.0.0.1", port))
        self._peer.setblocking(False)
        built = factory.wrappedFactory.built
        for _ in range(_MOST_TURNS):
            if built:
                break
            reactor.iterate(0.001)
        self.application = built.pop()
        self.transport = self.application.transport

    def input(self, connection: Connection, event: Input, quiet: bool = False) -> None:
        """
        The connection's own, which is checked on the way, against the rules.

        @param quiet: all is acknowledged when the peer's FIN comes.
        """
        assert connection.node is self._node
        self._check(event)
        if connection.ending is None and self._node.working and not self._working():
            self._check(Input.WORK_DONE)  # which is known when the end begins
        if quiet:
            self._check(Input.ACKNOWLEDGED)
        if self._node.leaving:  # nobody has to be asked
            self._check(Input.MAY_CLOSE)
        _input(connection, event, quiet)

    def _check(self, event: Input) -> None:
        self._node = self.rules.check(self._node, event)

    # What is known.

    def _working(self) -> bool:
        return bool(self._holds or self._producer)

    def _seal(self) -> None:
        if self.rules.asked and not self._working():
            self._sealed = True

    def _open(self) -> bool:
        return self.rules.end is None and not self._sealed

    # What the application does.

    def write(self, count: int) -> None:
        data = pattern(self.accepted, count)
        if self._open():
            self.accepted += count
        elif self.application.report is None:
            self.dropped += 1
        self.transport.write(data)

    def hold(self) -> None:
        hold = self.transport.hold()
        if self._open():
            self._holds.append(hold)

    def release(self) -> None:
        if self._holds:
            self._holds.pop().release()

    def register(self) -> None:
        if self._producer is None:
            producer = Producer()
            accepting = self._open()
            self.transport.registerProducer(producer, True)
            assert producer.stopped != accepting
            if accepting:
                self._producer = producer

    def unregister(self) -> None:
        if self._producer is not None:
            self._producer = None
            self.transport.unregisterProducer()

    def loseWrite(self) -> None:
        self.transport.loseWriteConnection()
        self._seal()

    def lose(self) -> None:
        if self._receivedAtClose is None:
            self._receivedAtClose = len(self.application.received)
        self.transport.loseConnection()
        self._seal()

    def abort(self) -> None:
        self.aborted = self.aborted or self.rules.end is None
        self.transport.abortConnection()

    def pause(self) -> None:
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()

    # What the peer does.

    def peerWrite(self, count: int) -> None:
        if self._peer.fileno() == -1 or self.peerDone:
            return
        try:
            self.peerSent += self._peer.send(pattern(self.peerSent, count))
        except BlockingIOError:
            pass
        except ConnectionError:
            self._peerToldOfReset = True  # and it is not told twice

    def peerRead(self) -> None:
        if self._peer.fileno() == -1 or self.peerEnd is not None:
            return
        try:
            while data := self._peer.recv(1 << 20):
                self.got += data
        except BlockingIOError:
            return
        except ConnectionError:
            self.peerEnd = "RST"
        else:
            self.peerEnd = "RST" if self._peerToldOfReset else "FIN"
        if self.peerEnd == "FIN":
            # It comes after an end was asked for, and behind all else.
            assert self.rules.asked and not self._working()
            assert len(self.got) == self.accepted

    def peerHalfClose(self) -> None:
        if self._peer.fileno() != -1:
            with contextlib.suppress(OSError):  # reset already
                self._peer.shutdown(socket.SHUT_WR)
                self.peerDone = True

    def peerClose(self) -> None:
        if self._peer.fileno() != -1:
            self.peerGone = self.peerGone or self.peerEnd is None
            self.peerDone = True
            self._peer.close()

    def peerReset(self) -> None:
        if self._peer.fileno() != -1:
            self.peerGone = True
            self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._peer.close()

    # What time does.

    def turn(self, seconds: float = 0.0, pause: float = 0.0) -> None:
        """
        One turn of the reactor, and of the clock.
        """
        if self.rules.asked:
            self.waited += seconds
        self.clock.advance(seconds)
        self._reactor.iterate(pause)
        self.clock.advance(0)
        self._seal()

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / _TICK)):
            self.turn(_TICK)

    # The end.

    def finish(self, fair: bool) -> None:
        """
        Bring the end about: with a peer that reads all there is, and closes,
        or with one that does nothing any more, nor the application.
        """
        if fair:
            while self._holds:
                self.release()
            self.unregister()
            self.resume()
        self.lose()
        for _ in range(_MOST_TURNS):
            if self.application.report is not None:
                break
            if fair:
                self.turn(0.001, 0.001)
                self.peerRead()
                if self.peerEnd is not None:
                    self.peerClose()
            else:
                assert self.waited < _ALL, self.transport
                self.turn(_TICK)
        self.turn()
        self.peerRead()
        self._peer.close()
        self.check(fair)

    def check(self, fair: bool) -> None:
        """
        Compare.
        """
        application, report, rules = (
            self.application,
            self.application.report,
            self.rules,
        )
        told, got, outcome = application.told, len(self.got), report.outcome
        assert told[-2:] == ["connectionLost", "terminated"], told
        assert len(set(told)) == len(told), told
        assert self.transport.state is rules.state
        assert not self.clock.getDelayedCalls()
        assert not self._reactor.getDelayedCalls()

        # The outcome.
        possible = {Outcome.ABORTED} if self.aborted else {Outcome.CLEAN}
        if self.peerGone and not self.aborted:
            possible.add(Outcome.RESET_BY_PEER)
        if (not fair or self.waited >= _SHORTEST) and not self.aborted:
            possible |= {Outcome.FLUSH_EXPIRED, Outcome.LINGER_EXPIRED}
            if not fair and not self.peerDone and not self.peerGone:
                possible -= {Outcome.CLEAN}  # which takes the peer's FIN
        assert outcome in possible, (outcome, possible)
        assert report.delivered is (report.bytesUnacknowledged == 0)
        if outcome is Outcome.CLEAN:
            assert report.delivered

        # The bytes, there and back.
        assert self.got == pattern(0, self.accepted)[:got]
        received = bytes(application.received)
        assert received == pattern(0, self.peerSent)[: len(received)]
        if self._receivedAtClose is not None:
            assert len(received) == self._receivedAtClose, "delivered after close"
        if not self.peerGone:
            assert got >= self.accepted - report.bytesUnacknowledged
            if outcome is Outcome.CLEAN:
                assert (got, self.peerEnd) == (self.accepted, "FIN")
                assert len(received) + report.bytesDiscarded == self.peerSent
            if rules.end is not State.ABORTED:
                assert report.writesDropped == self.dropped


_CALLS: tuple[Callable[[Run], None], ...] = (
    Run.hold,
    Run.release,
    Run.register,
    Run.unregister,
    Run.loseWrite,
    Run.lose,
    Run.pause,
    Run.resume,
    Run.peerRead,
    Run.peerHalfClose,
    Run.turn,
    # Rather late: hardly anything is left to happen then.
    Run.abort,
    Run.peerClose,
    Run.peerReset,
)
_STEPS = st.one_of(
    st.tuples(st.sampled_from(_CALLS)),
    st.tuples(st.sampled_from([Run.write, Run.peerWrite]), st.sampled_from(_SIZES)),
    st.tuples(st.just(Run.wait), st.sampled_from([1.0, 4.0])),
)


class PrivateReactorTests(SynchronousTestCase):
    """
    Hypothesis calls a test again and again, so that each call has to be over
    when it returns; the sockets are served by a reactor of the test's own.
    """

    def setUp(self) -> None:
        self.reactor = EPollReactor()
        self.addCleanup(self._closeReactor)
        self.factory = TerminatingFactory(self.made(), self.policy)
        self.listening = self.reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.port = self.listening.getHost().port

    policy: TerminationPolicy

    def made(self) -> Factory:
        raise NotImplementedError

    def _closeReactor(self) -> None:
        self.listening.stopListening()
        self.reactor.iterate(0)
        self.reactor.fireSystemEvent("shutdown")
        for reader in self.reactor._internalReaders:
            reader.connectionLost(None)
        self.reactor._poller.close()


@once
class SocketTests(PrivateReactorTests):
    """
    The same on sockets.
    """

    policy = _POLICY

    def made(self) -> Factory:
        factory = Factory()
        factory.noisy = False
        factory.built = self.built = []
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        return factory

    def build(self, address: object) -> Application:
        application = HalfCloseable() if self.halfCloseable else Application()
        self.built.append(application)
        return application

    @shown
    @given(
        st.booleans(),
        st.booleans(),
        st.lists(st.tuples(_STEPS, st.booleans()), max_size=15),
    )
    def test_anyOrder(
        self, halfCloseable: bool, fair: bool, steps: list[tuple[Any, bool]]
    ) -> None:
        """
        Calls and events in any order, with or without a turn of the reactor
        behind each: no byte is lost that need not be, the outcome is one that
        is possible, and nothing is left.
        """
        self.halfCloseable = halfCloseable
        before = sockets()
        run = Run(self.reactor, self.factory, self.port)
        self.patch(Connection, "input", lambda *given: run.input(*given))
        for (call, *arguments), turns in steps:
            call(run, *arguments)
            if turns:
                run.turn()
        run.finish(fair)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(sockets(), before)


_WORDS = st.sampled_from(
    ["ECHO", "SEND", "PUSH", "PULL", "WAIT", "STATUS", "HELP", "echo", "do_ECHO"]
)
_ARGUMENTS = st.one_of(
    st.text(max_size=20),
    st.integers(-1, 200_000).map(str),
    st.floats().map(str),
    st.just("9" * 10_000),
)
_ANY_LINES = st.one_of(
    st.binary(max_size=20),
    st.tuples(_WORDS, _ARGUMENTS).map(lambda pair: " ".join(pair).encode()),
    _WORDS.map(str.encode),
)
_LINES = _ANY_LINES.map(lambda line: line.replace(b"\n", b"")).filter(
    lambda line: line.rstrip(b"\r") not in (b"SHUTDOWN", b"CLOSE", b"ABORT")
)
#: What ends a connection, and how that looks.
_LAST = st.sampled_from(
    [
        (b"", "FIN"),
        (b"ECHO unfinished", "FIN"),
        (b"SHUTDOWN\n", "FIN"),
        (b"SHUTDOWN\nECHO unanswered\n", "FIN"),
        (b"CLOSE\r\nABORT\n", "FIN"),
        (b"x" * 16_386, "FIN"),
        (b"ABORT\n", "RST"),
    ]
)
_MARK = b"\x01mark\n"
_UNLIMITED = TerminationPolicy(**dict.fromkeys(limitOptions))


@once
class DemoTests(PrivateReactorTests):
    """
    A fuzzer for the demo's command parser.
    """

    policy = _UNLIMITED

    def made(self) -> Factory:
        self.clock = Clock()
        self.demo = DemoFactory(self.clock)
        return self.demo

    def exchange(self, request: bytes, size: int) -> tuple[bytes, str]:
        """
        Send a request in pieces, half-close, and receive until the end.
        """
        got, end, sent, done = bytearray(), "", 0, False
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.setblocking(False)
            for _ in range(_MOST_TURNS):
                self.reactor.iterate(0.001 if done else 0)
                self.clock.advance(86400)  # the longest WAIT
                try:
                    if sent < len(request):
                        sent += client.send(request[sent : sent + size])
                    elif not done:
                        done = True
                        client.shutdown(socket.SHUT_WR)
                    while data := client.recv(1 << 20):
                        got += data
                except BlockingIOError:
                    continue
                except OSError:
                    end = "RST"
                else:
                    end = "FIN"
                break
        return bytes(got), end

    @shown
    @given(st.lists(_LINES, max_size=10), _LAST, st.sampled_from([100, 1 << 16]))
    def test_commands(
        self, lines: list[bytes], last: tuple[bytes, str], size: int
    ) -> None:
        """
        Each line, whatever it is, gets an answer of one line, or a payload,
        and the connection goes on, until it ends as it should.
        """
        marked = [line + b"\nECHO " + _MARK for line in lines]
        got, end = self.exchange(b"".join(marked) + last[0], size)
        self.assertEqual(end, last[1])
        *answers, rest = got.split(_MARK)
        if end == "FIN":
            self.assertEqual(len(answers), len(lines))
            self.assertLessEqual(rest.count(b"\n"), 1)
        for answer in answers:
            if b"\n" in answer:
                self.assertEqual(answer.index(b"\n"), len(answer) - 1)
            else:
                self.assertEqual(answer, payload(0, len(answer)))
        for _ in range(_MOST_TURNS):
            if not self.demo.connections:
                break
            self.reactor.iterate(0.001)
            self.clock.advance(1)
        self.assertEqual(self.demo.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


_NAMES = st.sampled_from(
    [*policyOptions, "drainTimeout", "interface", "host", "port", "domain", "mode"]
)
_KINDS = st.sampled_from(
    ["tcp", "tcp6", "term", "ssl", "tls", "unix", "systemd", "haproxy", "fd", "x"]
)
_VALUES = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        [
            "8080",
            "0",
            "-1",
            "none",
            "nan",
            "inf",
            "1e999",
            "INET",
            "65536",
            "1_0",
            "\\:\\:1",
        ]
    ),
)
_PARTS = st.one_of(_VALUES, _KINDS, st.tuples(_NAMES, _VALUES).map("=".join))
_STRINGS = st.one_of(
    st.text(max_size=10),
    st.tuples(_KINDS, st.lists(_PARTS, max_size=5)).map(
        lambda pair: ":".join((pair[0], *pair[1]))
    ),
)


@once
class EndpointStringTests(SynchronousTestCase):
    """
    A fuzzer for endpoint strings.
    """

    def check(self, parse: Callable[..., Any], text: str, kind: type) -> None:
        # Twisted's own tokenizer fails at a backslash with nothing behind it.
        assume((len(text) - len(text.rstrip("\\"))) % 2 == 0)
        try:
            endpoint = parse(MemoryReactorClock(), f"term:{text}")
        except ValueError as error:
            self.assertEqual(len(str(error).splitlines()), 1)
        else:
            self.assertIsInstance(endpoint, kind)

    @shown
    @given(_STRINGS)
    def test_server(self, text: str) -> None:
        """
        An endpoint, or a ValueError of one line.
        """
        self.check(serverFromString, text, TerminatingServerEndpoint)

    @shown
    @given(_STRINGS)
    def test_client(self, text: str) -> None:
        """
        An endpoint, or a ValueError of one line.
        """
        self.check(clientFromString, text, TerminatingClientEndpoint)
