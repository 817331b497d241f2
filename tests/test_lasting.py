"""
A reset behind bytes is told, on a reactor that asks a socket only once after its
error, as uvloop's does, too.
"""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import Any, Callable, Optional
from unittest import skipUnless

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import Initiator, Outcome, State, TerminationPolicy
from twisted_term.connection.beneath.lasting import forgets, lasting

from .ends import KINDS, Ended, EndsTestCase
from .support import SECONDS

_RESET = b"\1\0\0\0\0\0\0\0"


def _reset(client: Any, kind: str) -> None:
    """
    End it by a reset.  A UNIX socket's is that its peer has not read everything.
    """
    if kind != "unix":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


class Reading:
    """
    A transport that reads a byte at a time, as long as it is a reader of its
    reactor's.
    """

    def __init__(self, skt: socket.socket) -> None:
        self.socket = skt
        self.fileno = skt.fileno
        self.got = 0
        self.reads = True
        self.reactor = SimpleNamespace(
            getReaders=lambda: [self] if self.reads else [],
        )
        self.received: Callable[[], object] = lambda: None

    def doRead(self) -> Optional[Exception]:
        try:
            data = self.socket.recv(1)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.got += 1
        self.received()
        return None


class ReadTests(SynchronousTestCase):
    """
    What one call of the reactor's reads.
    """

    def connect(self, kind: str) -> Any:
        """
        @return: our side, which does not block, and the peer's.
        """
        if kind == "unix":
            ours, peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as port:
                peer = socket.create_connection(port.getsockname())
                ours, _ = port.accept()
        self.addCleanup(ours.close)
        self.addCleanup(peer.close)
        ours.setblocking(False)
        transport = Reading(ours)
        return transport, peer, lasting(transport, transport.doRead)

    def test_reset(self) -> None:
        """
        After a reset it reads what came before, and the reset.
        """
        for kind in ("tcp", "unix"):
            transport, peer, read = self.connect(kind)
            transport.socket.send(b"unread")
            peer.sendall(b"hello")
            _reset(peer, kind)
            self.assertIs(read(), CONNECTION_LOST)
            self.assertEqual(transport.got, 5)

    def test_finAndReset(self) -> None:
        """
        It reads the FIN that came before.
        """
        transport, peer, read = self.connect("tcp")
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        _reset(peer, "tcp")
        self.assertIn(read(), (CONNECTION_LOST, CONNECTION_DONE))
        self.assertEqual(transport.got, 5)

    def test_alive(self) -> None:
        """
        While there is a connection it reads once, half-closed or not.
        """
        for kind in ("tcp", "unix"):
            transport, peer, read = self.connect(kind)
            peer.sendall(b"hello")
            self.assertIs(read(), None)
            transport.socket.shutdown(socket.SHUT_WR)
            self.assertIs(read(), None)
            self.assertEqual(transport.got, 2)

    def test_nothing(self) -> None:
        """
        Nothing to read is no error.
        """
        *_, read = self.connect("tcp")
        self.assertIs(read(), None)

    def test_paused(self) -> None:
        """
        Who has paused is given nothing more, for the reactor asks it anew.
        """
        transport, peer, read = self.connect("tcp")
        transport.received = lambda: setattr(transport, "reads", False)
        peer.sendall(b"hello")
        _reset(peer, "tcp")
        self.assertIs(read(), None)
        self.assertEqual(transport.got, 1)
        transport.reads, transport.received = True, lambda: None
        self.assertIs(read(), CONNECTION_LOST)
        self.assertEqual(transport.got, 5)

    def test_closed(self) -> None:
        """
        Nor who has closed.
        """
        transport, peer, read = self.connect("tcp")
        transport.received = transport.socket.close
        peer.sendall(b"hello")
        _reset(peer, "tcp")
        self.assertIs(read(), None)
        self.assertEqual(transport.got, 1)

    def test_whose(self) -> None:
        """
        It is for uvloop alone.
        """
        uvloop = (
            "uvloop" in type(getattr(reactor, "_asyncioEventloop", None)).__module__
        )
        self.assertIs(forgets(reactor), uvloop)
        self.assertIs(forgets(None), False)


class Bare(Protocol):
    """
    Notes what it is told.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.factory.told.append(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.factory.told.append("data")

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.told.append("lost")


class Keeping(Ended):
    """
    Tells what has arrived, and how often it was told of the end.
    """

    def dataReceived(self, data: bytes) -> None:
        self.factory.count += len(data)
        super().dataReceived(data)


class ResetTests(EndsTestCase):
    """
    On real sockets, and the reactor that there is.
    """

    @inlineCallbacks
    def reset(
        self,
        kind: str,
        received: Callable[..., object],
        sent: int = 100,
        fin: bool = False,
        policy: Any = None,
    ) -> Any:
        """
        A client sends something, and resets at once.

        @param fin: with FIN before the reset.

        @return: a Deferred of the factory, and the report.
        """
        factory = self.ended(Keeping, received=received)
        factory.count = 0
        self.patch(Keeping, "terminationPolicy", policy)
        # What is not read makes a UNIX socket's close a reset.
        factory.made = lambda one: one.transport.write(b"unread")
        connect = yield self.serve(kind, factory)
        client = yield deferToThread(connect)
        yield deferLater(reactor, 0.05)
        # In one turn of the reactor's, which sees all of it at once.
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.sendall(bytes(sent))
        if fin:
            client.shutdown(socket.SHUT_WR)
        _reset(client, kind)
        return factory, (yield self.report(factory))

    @inlineCallbacks
    def test_open(self) -> Any:
        """
        A connection in which no end has begun: it is told at once, and who has
        more than one read's bytes in its socket is given them.
        """
        for kind in KINDS:
            for sent in 100, 300_000:
                factory, report = yield self.reset(kind, lambda one, data: None, sent)
                self.assertIs(report.outcome, Outcome.RESET_BY_PEER, kind)
                self.assertIs(report.initiator, Initiator.PEER)
                if kind != "tls":
                    self.assertGreaterEqual(factory.count, 100)

    @inlineCallbacks
    def test_held(self) -> Any:
        """
        Work in flight, FIN and reset.
        """
        factory, report = yield self.reset(
            "tcp", lambda one, data: one.transport.hold(), fin=True
        )
        self.assertIs(report.outcome, Outcome.RESET_BY_PEER)
        self.assertEqual(factory.count, 100)

    @inlineCallbacks
    def test_paused(self) -> Any:
        """
        An application that pauses is told once it reads again.
        """

        def pause(one: Any, data: bytes) -> None:
            one.transport.pauseProducing()
            reactor.callLater(0.2, one.transport.resumeProducing)

        for kind in KINDS:
            _, report = yield self.reset(kind, pause)
            self.assertIs(report.outcome, Outcome.RESET_BY_PEER, kind)

    @inlineCallbacks
    def test_writing(self) -> Any:
        """
        An application that answers each read is told, too.
        """
        for kind in KINDS:
            _, report = yield self.reset(
                kind, lambda one, data: one.transport.write(data), 300_000
            )
            self.assertIs(report.outcome, Outcome.RESET_BY_PEER, kind)

    @inlineCallbacks
    def test_lingering(self) -> Any:
        """
        An end that was asked for: long before its limits.
        """
        policy = TerminationPolicy(lingerTime=None, lingerIdle=None, linger="always")
        for kind in KINDS:
            factory = self.ended(Keeping)
            factory.count = 0
            self.patch(Keeping, "terminationPolicy", policy)
            factory.made = lambda one: one.transport.write(b"unread")
            made: list[Any] = []
            factory.received = lambda one, data, made=made: (
                made.append(one.transport),
                one.transport.loseConnection(),
            )
            connect = yield self.serve(kind, factory)

            client = yield deferToThread(connect)
            client.sendall(b"?")
            yield self.until(
                lambda made=made: made and made[0].state is State.LINGERING
            )
            client.settimeout(SECONDS)
            for _ in range(3):  # the first ones are read in another way
                yield deferToThread(client.sendall, bytes(100))
                yield deferLater(reactor, 0.05)
            yield deferToThread(client.sendall, bytes(100_000))
            _reset(client, kind)
            report = yield self.report(factory)
            self.assertIn(
                report.outcome, (Outcome.RESET_BY_PEER, Outcome.CLEAN), (kind, report)
            )
            self.assertGreaterEqual(report.bytesDiscarded, 300)

    @skipUnless(forgets(reactor), "it is a fault of uvloop's")
    @inlineCallbacks
    def test_bare(self) -> Any:
        """
        Bare Twisted is not told there.  If this fails, uvloop has mended it, and
        C{lasting} is not needed any more.
        """
        factory: Any = Factory.forProtocol(Bare)
        factory.noisy = False
        factory.told = []
        client = socket.create_connection(("127.0.0.1", self.listen(factory)))
        yield self.until(lambda: factory.told)
        client.sendall(b"hello")
        _reset(client, "tcp")
        yield deferLater(reactor, 0.5)
        transport, *told = factory.told
        transport.abortConnection()
        self.assertEqual(told, ["data"])
