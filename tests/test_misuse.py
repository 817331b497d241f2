"""
Applications that do what they should not, in each callback, over each transport,
in the midst of each end: every end is told, once, and nothing is left.

C{MISUSE} is how many of the combinations are tried; there are some 10,000.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import ssl
from itertools import product
from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_term import ITerminationHook, TerminationMixin, TerminationPolicy

from .certificates import needs, wrap
from .ends import KINDS, EndsTestCase, endWriting
from .support import SECONDS, sockets

_COUNT = int(os.environ.get("MISUSE", "300"))
_AT_ONCE = 40
_SHORT: dict[str, Any] = dict.fromkeys(
    (
        "flushTimeout",
        "workTimeout",
        "lingerTime",
        "lingerIdle",
        "halfCloseIdle",
        "closeTimeout",
        "handshakeTimeout",
    ),
    1.0,
)
_RESET = b"\1\0\0\0\0\0\0\0"


class Misuse(Exception):
    """
    What applications raise here.
    """


class Producer:
    """
    Tells what it is asked.
    """

    def __init__(self, application: Misusing) -> None:
        self.resumeProducing = lambda: application.hit("resume")
        self.pauseProducing = lambda: application.hit("pause")
        self.stopProducing = lambda: application.hit("stop")


def _raise(application: Misusing) -> None:
    raise Misuse


def _all(application: Misusing) -> None:
    transport = application.transport
    for name in (
        "loseWriteConnection",
        "loseConnection",
        "closeConnection",
        "abortConnection",
        "pauseProducing",
        "resumeProducing",
        "stopProducing",
    ):
        getattr(transport, name)()
    transport.write(b"x")
    transport.writeSequence([b"x"])
    transport.hold().release()
    transport.whenTerminated()
    transport.terminate(1)
    transport.terminate(0)


def _replace(application: Misusing) -> None:
    application.replaced = True
    application.transport.protocol = Protocol()


#: What it does, by name.
WHATS: dict[str, Callable[[Any], object]] = {
    "raise": _raise,
    "abort": lambda one: one.transport.abortConnection(),
    "close": lambda one: one.transport.closeConnection(),
    "lose": lambda one: one.transport.loseConnection(),
    "half": lambda one: one.transport.loseWriteConnection(),
    "deadline": lambda one: one.transport.terminate(0),
    "lost": lambda one: one.transport.connectionLost(connectionDone),
    "replace": _replace,
    "all": _all,
}
#: Where.
WHERES = (
    "made",
    "data",
    "read lost",
    "write lost",
    "begins",
    "closes",
    "lost",
    "terminated",
    "when",
    "resume",
    "pause",
    "stop",
)
#: What else it does when the connection is made.
STEPS: dict[str, Callable[[Any], object]] = {
    "write": lambda one: one.transport.write(bytes(300_000)),
    "producer": lambda one: (
        one.transport.registerProducer(Producer(one), True),
        one.transport.write(bytes(3_000_000)),
    ),
    "pull": lambda one: one.pull(),
    "hold": lambda one: one.transport.hold(),
    "half": WHATS["half"],
    "lose": WHATS["lose"],
    "abort": WHATS["abort"],
}
SCRIPTS = (
    ("write",),
    ("write", "lose"),
    ("write", "half"),
    ("write", "abort"),
    ("producer", "lose"),
    ("producer", "half"),
    ("pull", "lose"),
    ("hold", "lose"),
)
#: What the client does.
CLIENTS = ("fin", "reset", "close", "stay")


@implementer(IHalfCloseableProtocol, ITerminationHook)
class Misusing(TerminationMixin, Protocol):
    """
    @ivar told: what it was told.
    @ivar fired: how many of those who wait for the end were told.
    """

    terminationPolicy = TerminationPolicy(**_SHORT)
    replaced = False

    def __init__(self, where: str, what: str, script: tuple[str, ...]) -> None:
        self.where, self.what, self.script = where, what, script
        self.told: list[str] = []
        self.fired = 0

    def hit(self, where: str) -> None:
        self.told.append(where)
        if where == self.where:
            WHATS[self.what](self)

    def pull(self) -> None:
        with contextlib.suppress(Misuse):
            self.transport.registerProducer(Producer(self), False)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.whenTerminated().addCallback(self._fires)
        cancelled = transport.whenTerminated()
        cancelled.addErrback(lambda failure: None)
        cancelled.cancel()
        transport.whenTerminated().addCallback(_raise)
        transport.whenTerminated().addCallback(self._fires)
        transport.whenTerminated().addCallback(lambda report: self.hit("when"))
        self.hit("made")
        for step in self.script:
            STEPS[step](self)

    def _fires(self, report: object) -> None:
        self.fired += 1

    def dataReceived(self, data: bytes) -> None:
        self.hit("data")

    def readConnectionLost(self) -> None:
        self.hit("read lost")
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.hit("write lost")

    def endBegins(self, transport: Any, initiator: Any) -> None:
        self.hit("begins")

    def beforeClose(self, transport: Any) -> None:
        self.hit("closes")

    def connectionLost(self, reason: Any = None) -> None:
        self.hit("lost")

    def terminated(self, report: Any) -> None:
        self.hit("terminated")

    def problems(self) -> list[str]:
        """
        What was not told, or more than once.
        """
        found = [] if self.fired == 2 else [f"whenTerminated fired {self.fired} times"]
        for what in ("lost", "terminated"):
            count = self.told.count(what)
            # Who has been replaced may be told nothing more.
            if count > 1 or not (count or self.replaced):
                found.append(f"told {count} times: {what}")
        for what in ("begins", "closes"):
            if self.told.count(what) > 1:
                found.append(f"asked more than once: {what}")
        return found


def _ends(where: str, what: str, script: tuple[str, ...], client: str) -> bool:
    """
    Has anybody asked for an end?
    """
    if client != "stay":
        return True
    # Twisted keeps a connection whose connectionMade has raised.
    return script != ("write",) and not (where in ("made", "pause") and what == "raise")


def _client(plain: socket.socket, kind: str, how: str) -> None:
    """
    Be a client, until the end.
    """
    with plain, contextlib.suppress(OSError, ssl.SSLError):
        plain.settimeout(SECONDS)
        client = wrap(plain) if kind == "tls" else plain
        client.sendall(b"hello" * 1000)
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if how == "fin":
            endWriting(client)
        if how in ("fin", "stay"):
            while client.recv(1 << 16):
                pass
        client.close()


class MisuseTests(EndsTestCase):
    timeout = 600

    def test_any(self) -> Any:
        """
        What an application may do, but for the exceptions: nothing is logged but
        these.
        """
        return self.trying({*WHATS} - {"lost"}, _COUNT)

    def test_lost(self) -> Any:
        """
        Some call C{connectionLost} of their transport, which is the reactor's to
        call.
        """
        return self.trying({"lost"}, _COUNT // 5)

    @inlineCallbacks
    def trying(self, whats: set[str], count: int) -> Any:
        """
        A sample of all combinations, which is always the same.
        """
        needs("OpenSSL")
        combinations = [
            found
            for found in product(KINDS, WHERES, sorted(whats), SCRIPTS, CLIENTS)
            if _ends(*found[1:])
        ]
        random.Random(1).shuffle(combinations)
        combinations = combinations[:count]
        self.upcoming: list[Misusing] = []
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: self.upcoming.pop()
        addresses = {}
        for kind in KINDS:
            yield self.serve(kind, factory)
            addresses[kind] = self.address
        yield deferLater(reactor, 0)
        before, calls = sockets(), len(reactor.getDelayedCalls())
        wrong = []
        for start in range(0, len(combinations), _AT_ONCE):
            part = combinations[start : start + _AT_ONCE]
            wrong += yield self.together(part, addresses)
        self.assertEqual(wrong, [])
        yield self.until(lambda: sockets() == before)
        yield self.until(lambda: len(reactor.getDelayedCalls()) <= calls + 1)
        gc.collect()  # what nobody has handled is logged
        logged = self.flushLoggedErrors()
        if "lost" not in whats:  # to which Twisted itself has something to say
            for failure in logged:
                self.assertIs(failure.type, Misuse, failure.getTraceback())

    @inlineCallbacks
    def together(self, combinations: list[Any], addresses: dict[str, Any]) -> Any:
        """
        Try some at once.

        @return: a Deferred of those that went wrong, and how.
        """
        tried, clients = [], []
        for kind, where, what, script, how in combinations:
            misusing = Misusing(where, what, script)
            tried.append(misusing)
            self.upcoming.append(misusing)
            family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
            plain = socket.socket(family)
            plain.connect(addresses[kind])
            yield self.until(lambda: not self.upcoming)
            clients.append(deferToThread(_client, plain, kind, how))
        deadline = reactor.seconds() + SECONDS
        while reactor.seconds() < deadline and any(one.problems() for one in tried):
            yield deferLater(reactor, 0.05)
        wrong = [
            (combination, one.problems())
            for combination, one in zip(combinations, tried)
            if one.problems()
        ]
        if not wrong:
            yield DeferredList(clients)
        return wrong
