"""
Connections of mixed and hostile kinds, over TCP, UNIX and TLS: each one is told
once, with an outcome that what was sent allows for, and nothing is left.

C{HOSTILE} is how many there are.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineReceiver

from twisted_term import Outcome, State, TerminationMixin, TerminationPolicy

from .certificates import context, needs, serverOptions
from .ends import KINDS, EndsTestCase
from .support import SECONDS, sockets

_COUNT = int(os.environ.get("HOSTILE", "400"))
_AT_ONCE = 50
_RESET = b"\1\0\0\0\0\0\0\0"
_POLICY = TerminationPolicy(
    flushTimeout=1.5,
    workTimeout=1.5,
    lingerTime=1.5,
    lingerIdle=0.75,
    halfCloseIdle=1.5,
    handshakeTimeout=1.5,
)


class AttackedError(Exception):
    """
    What the application raises.
    """


class Attacked(TerminationMixin, LineReceiver):
    """
    Does as it is told.
    """

    terminationPolicy = _POLICY
    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    factory: Any

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told: list[str] = []
        self.report: Any = None

    def lineReceived(self, line: bytes) -> None:
        name, _, text = line.partition(b" ")
        call = getattr(self, f"do_{name.decode('latin-1')}", None)
        if call is None:
            self.transport.write(line + b"\n")
        else:
            call(text)

    def do_CLOSE(self, text: bytes) -> None:
        self.transport.loseConnection()

    def do_NOW(self, text: bytes) -> None:
        self.transport.closeConnection()

    def do_HALF(self, text: bytes) -> None:
        self.transport.loseWriteConnection()

    def do_ABORT(self, text: bytes) -> None:
        self.transport.abortConnection()

    def do_RAISE(self, text: bytes) -> None:
        raise AttackedError

    def do_SEND(self, text: bytes) -> None:
        self.transport.write(bytes(int(text)))

    def do_HOLD(self, text: bytes) -> None:
        hold = self.transport.hold()
        if text == b"short":
            reactor.callLater(0.1, hold.release)

    def do_TERM(self, text: bytes) -> None:
        self.transport.terminate(float(text))

    def do_STARTTLS(self, text: bytes) -> None:
        self.transport.startTLS(self.factory.options)

    def do_PAUSE(self, text: bytes) -> None:
        self.transport.pauseProducing()
        reactor.callLater(0.1, self.transport.resumeProducing)

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append("lost")

    def terminated(self, report: Any) -> None:
        self.told.append("terminated")
        self.report = report


_COMMANDS = (
    b"hello",
    b"SEND 100",
    b"SEND 500000",
    b"CLOSE",
    b"NOW",
    b"HALF",
    b"ABORT",
    b"RAISE",
    b"HOLD short",
    b"HOLD long",
    b"TERM 0",
    b"TERM 0.1",
    b"TERM 5",
    b"STARTTLS",
    b"PAUSE",
    b"\xff\x00",
    b"x" * 5000,
)
#: What ends a connection at once, whatever the peer does.
_ENDS = {
    b"ABORT": Outcome.ABORTED,
    b"NOW": Outcome.CLOSED,
    b"RAISE": Outcome.LOST,
    b"TERM 0": Outcome.DEADLINE_EXPIRED,
}


class Plan(NamedTuple):
    """
    What one client does.

    @ivar garbage: what it says in the place of a TLS handshake.
    @ivar end: how it ends.
    """

    kind: str
    small: bool
    garbage: Optional[bytes]
    commands: tuple[bytes, ...]
    end: str

    @property
    def handshake(self) -> bool:
        return self.kind == "tls" and self.garbage is None

    def possible(self) -> set[Outcome]:
        """
        Which ends there can be, from what the client does alone.
        """
        if self.garbage is not None:
            # Who closes has not read what the server has said: that is a reset.
            return {Outcome.TLS_FAILED, Outcome.RESET_BY_PEER}
        found = {
            outcome for command, outcome in _ENDS.items() if command in self.commands
        }
        if any(command.startswith(b"TERM") for command in self.commands):
            found.add(Outcome.DEADLINE_EXPIRED)
        # Each ends by itself in the end, or its client closes it.
        found |= {*_GONE, Outcome.FLUSH_EXPIRED, Outcome.LINGER_EXPIRED}
        if self.kind == "tls":
            found.add(Outcome.TRUNCATED)
            if self.end in ("reset", "fin reset", "close"):  # in the handshake
                found.add(Outcome.TLS_FAILED)
        if b"STARTTLS" in self.commands:
            found |= {Outcome.TLS_FAILED, Outcome.TRUNCATED}
        return found

    def certain(self) -> Optional[Outcome]:
        """
        The end that there must be; C{None} where there are several.
        """
        patient = self.end == "stay" and not self.small
        if self.garbage is not None or not self.commands or not patient:
            return None
        return _ENDS.get(self.commands[0])


_GONE = frozenset([Outcome.CLEAN, Outcome.RESET_BY_PEER])


def _plans(seed: int, hello: bytes) -> Iterator[Plan]:
    chance = random.Random(seed)
    while True:
        kind, garbage = chance.choice(KINDS), None
        if kind == "tls" and chance.random() < 0.4:
            garbage = chance.choice(
                [
                    hello,
                    hello[: chance.randrange(len(hello))],
                    chance.randbytes(chance.randrange(1, 2000)),
                    b"GET / HTTP/1.1\r\n\r\n",
                ]
            )
        commands = chance.choices(_COMMANDS, k=chance.randrange(6))
        end = chance.choice(["reset", "close", "fin", "fin reset", "stay", "unwrap"])
        yield Plan(kind, chance.random() < 0.3, garbage, tuple(commands), end)


def _hello() -> bytes:
    arrived, sending = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(arrived, sending, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return sending.read()


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


def _attack(client: socket.socket, plan: Plan) -> Any:
    """
    Be that client.

    @return: its socket, as it is left.
    """
    client.settimeout(SECONDS)
    with contextlib.suppress(OSError, ValueError):
        if plan.handshake:
            client = context().wrap_socket(client, server_hostname="localhost")
        elif plan.garbage is not None:
            client.sendall(plan.garbage)
        if plan.garbage is None and plan.commands:
            # At once: nobody resets between two of them.
            client.sendall(b"".join(command + b"\n" for command in plan.commands))
        if plan.end == "reset":
            _reset(client)
        elif plan.end == "close":
            client.close()
        elif plan.end in ("fin", "fin reset"):
            client.shutdown(socket.SHUT_WR)
            if plan.end == "fin reset":
                _reset(client)
        elif plan.end == "unwrap" and isinstance(client, ssl.SSLSocket):
            client.settimeout(0.01)
            client.unwrap()
    return client


class HostileTests(EndsTestCase):
    timeout = 900

    @inlineCallbacks
    def test_mixed(self) -> Any:
        """
        Some hundreds of them, fifty at a time.
        """
        needs("OpenSSL")
        self.upcoming: list[Attacked] = []
        factory: Any = Factory()
        factory.noisy = False
        factory.options = serverOptions()

        def build(address: object) -> Attacked:
            protocol = self.upcoming.pop()
            protocol.factory = factory
            return protocol

        factory.buildProtocol = build
        self.addresses = {}
        for kind in KINDS:
            yield self.serve(kind, factory)
            self.addresses[kind] = self.address
        yield deferLater(reactor, 0)
        before, calls = sockets(), len(reactor.getDelayedCalls())
        plans, done = _plans(1, _hello()), 0
        raised = 0
        while done < _COUNT:
            count = min(_AT_ONCE, _COUNT - done)
            for attacked in (yield self.together([next(plans) for _ in range(count)])):
                self.judge(attacked)
                raised += attacked.report.outcome is Outcome.LOST
            done += count
        yield self.until(lambda: sockets() == before)
        yield self.until(lambda: len(reactor.getDelayedCalls()) <= calls + 1)
        logged = self.flushLoggedErrors()
        self.assertEqual({failure.type for failure in logged}, {AttackedError})
        self.assertEqual(len(logged), raised)

    @inlineCallbacks
    def together(self, plans: list[Plan]) -> Any:
        """
        @return: a Deferred of their protocols, once all have ended.
        """
        attacked, clients = [], []
        for plan in plans:
            one = Attacked(plan)
            attacked.append(one)
            self.upcoming.append(one)
            unix = plan.kind == "unix"
            client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            if plan.small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(self.addresses[plan.kind])
            yield self.until(lambda: not self.upcoming)
            clients.append(deferToThread(_attack, client, plan))
        left = yield DeferredList(clients, fireOnOneErrback=True)
        # Those whose end is bounded end while their clients are there.
        yield deferLater(reactor, 0.5)
        for _, client in left:
            client.close()
        deadline = reactor.seconds() + SECONDS
        while reactor.seconds() < deadline:
            if all(one.report is not None for one in attacked):
                break
            yield deferLater(reactor, 0.05)
        still = [(one.plan, one.transport.state) for one in attacked if not one.report]
        self.assertEqual(still, [])
        return attacked

    def judge(self, attacked: Attacked) -> None:
        """
        Compare a report with what was done.
        """
        report, plan = attacked.report, attacked.plan
        said = f"{report}: {plan}"
        self.assertEqual(attacked.told, ["lost", "terminated"], said)
        self.assertIn(report.outcome, plan.possible(), said)
        if plan.certain() is not None:
            self.assertIs(report.outcome, plan.certain(), said)
        self.assertEqual(
            report.outcome is Outcome.LOST,
            report.reason.check(AttackedError) is not None,
        )
        if report.outcome is Outcome.CLEAN:
            self.assertIsNot(report.delivered, False, said)
        if report.bytesUnacknowledged is not None:
            self.assertIs(report.delivered, report.bytesUnacknowledged == 0, said)
        if plan.kind == "unix":
            self.assertIs(report.delivered, None, said)
        if plan.kind != "tls" and b"STARTTLS" not in plan.commands:
            self.assertIs(report.closeNotifySent, None, said)
        if report.outcome is Outcome.LINGER_EXPIRED:
            self.assertIn(State.LINGERING, report.seconds, said)
