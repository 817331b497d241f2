"""
What arrives while nobody wants it: counted right, whether the kernel discards
it or we do.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from typing import Any, Optional
from unittest import skipUnless

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import Outcome, TerminationPolicy
from twisted_term.connection.beneath import bottom
from twisted_term.connection.beneath import descriptor as _descriptor
from twisted_term.connection.beneath import discard as _discard

from .certificates import context, serverOptions
from .support import SECONDS, SocketTestCase, expect

_SIZE = 5_000_000
_LINUX = sys.platform.startswith("linux")


def _connect(address: Any) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(SECONDS)
    client.connect(address)
    return client


def _send(client: socket.socket, size: int, reset: bool = False) -> None:
    """
    Have a request answered, which is the end of what the server wants; then
    send more, as much as it takes.
    """
    with client:
        client.sendall(b"r")
        expect(client.recv(1), b"a")
        try:
            for _ in range(0, size, 50_000):
                client.sendall(b"u" * 50_000)
        except ConnectionError:
            return
        if reset:
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            return
        if isinstance(client, ssl.SSLSocket):
            client.unwrap()
        client.shutdown(socket.SHUT_WR)
        expect(client.recv(1), b"")


@skipUnless(_LINUX, "discards without copying on Linux only")
class DoReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = _connect(listening.getsockname())
            self.server, _ = listening.accept()
        self.addCleanup(self.client.close)
        self.addCleanup(self.server.close)
        self.server.settimeout(SECONDS)
        self.counts: list[int] = []

        class Below:
            socket = self.server
            bufferSize = 600

        self.below: Any = Below()

    def _discard(self, small: bool = False) -> None:
        self.doRead: Any = _discard.discarding(self.below, self.counts.append, small)

    def test_counts(self) -> None:
        """
        The bytes are counted, and go nowhere.
        """
        self.client.sendall(b"u" * 1000)
        self._discard()
        self.assertIsNone(self.doRead())
        self.assertEqual(self.counts, [1000])
        self.assertFalse(any(_discard._NOWHERE))

    def test_small(self) -> None:
        """
        Small reads are as large as the transport's own, where there is so
        much memory to name.
        """
        self.client.sendall(b"u" * 1000)
        self._discard(small=True)
        self.doRead()
        self.doRead()
        self.assertEqual(self.counts, [600, 400])
        self.below.bufferSize = 1 << 40
        self.client.sendall(b"u")
        self._discard(small=True)
        self.doRead()
        self.assertEqual(self.counts, [600, 400, 1])

    def test_nothing(self) -> None:
        """
        Where nothing has arrived, nothing happens.
        """
        self.server.setblocking(False)
        self._discard()
        self.assertIsNone(self.doRead())
        self.assertEqual(self.counts, [])

    def test_fin(self) -> None:
        """
        FIN is told as Twisted's own C{doRead} tells it.
        """
        self._discard()
        self.client.shutdown(socket.SHUT_WR)
        self.assertIs(self.doRead(), CONNECTION_DONE)

    def test_reset(self) -> None:
        """
        And so is RST.
        """
        self._discard()
        zero = struct.pack("ii", 1, 0)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, zero)
        self.client.close()
        self.assertIs(self.doRead(), CONNECTION_LOST)

    def test_others(self) -> None:
        """
        What is no TCP socket reads as before.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        for other in (ours, None):
            self.below.socket = other
            self._discard()
            self.assertIsNone(self.doRead)


class DiscardTests(SocketTestCase):
    def answering(self, policy: Optional[TerminationPolicy] = None) -> Any:
        """
        A factory that answers the first bytes, closes, and notes whether the
        kernel discards what follows.
        """

        def received(server: Any, data: bytes) -> None:
            server.transport.write(b"a")
            server.transport.loseConnection()
            self.below = bottom(server.transport.wrapped)
            self.received.append(data)

        def discarding(*args: Any) -> Any:
            doRead = _discard.discarding(*args)
            self.kernel = doRead is not None
            return doRead

        self.kernel = False
        self.patch(_descriptor, "discarding", discarding)
        self.received: list[bytes] = []
        return self.recorder(received, policy)

    @inlineCallbacks
    def ending(self, factory: Any, client: socket.socket, **options: Any) -> Any:
        yield deferToThread(_send, client, options.pop("size", _SIZE), **options)
        report = yield factory.ended
        self.assertEqual(self.received, [b"r"])
        self.assertNotIn("doRead", vars(self.below))
        return report

    @inlineCallbacks
    def check(self, kernel: bool, factory: Any, client: socket.socket) -> Any:
        report = yield self.ending(factory, client)
        self.assertEqual(self.kernel, kernel)
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertEqual(report.bytesDiscarded, _SIZE)
        self.assertIsNot(report.delivered, False)

    def connect(self, factory: Any) -> socket.socket:
        return _connect(("127.0.0.1", self.listen(factory)))

    def test_plain(self) -> Any:
        """
        On Linux the kernel discards; every byte is counted, and FIN is seen.
        """
        factory = self.answering()
        return self.check(_LINUX, factory, self.connect(factory))

    def test_elsewhere(self) -> Any:
        """
        Without Linux the same comes of it.
        """
        self.patch(_discard, "_LINUX", False)
        factory = self.answering()
        return self.check(False, factory, self.connect(factory))

    @inlineCallbacks
    def test_unix(self) -> Any:
        """
        A UNIX socket reads as before.
        """
        path, factory = self.mktemp(), self.answering()
        port = yield UNIXServerEndpoint(reactor, path).listen(factory)
        self.addCleanup(port.stopListening)
        yield self.check(False, factory, _connect(path))

    @inlineCallbacks
    def test_tls(self) -> Any:
        """
        TLS has to be read, for its close_notify.
        """
        factory = self.answering()
        port = reactor.listenSSL(0, factory, serverOptions(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        plain = _connect(("127.0.0.1", port.getHost().port))
        client = yield deferToThread(
            context().wrap_socket, plain, server_hostname="localhost"
        )
        report = yield self.ending(factory, client)
        self.assertFalse(self.kernel)
        self.assertEqual(report.bytesDiscarded, _SIZE)

    @inlineCallbacks
    def test_startTLS(self) -> Any:
        """
        TLS that begins while work in flight holds the end off is read again.
        """
        options = serverOptions()

        def received(server: Any, data: bytes) -> None:
            hold = server.transport.hold()
            server.transport.write(b"a")
            server.transport.loseConnection()
            server.transport.startTLS(options)
            server.transport.write(b"t")
            hold.release()

        def exchange(port: int) -> bytes:
            with _connect(("127.0.0.1", port)) as plain:
                plain.sendall(b"r")
                expect(plain.recv(1), b"a")
                with context().wrap_socket(plain, server_hostname="localhost") as tls:
                    return tls.recv(1)

        factory = self.recorder(received)
        answer = yield deferToThread(exchange, self.listen(factory))
        self.assertEqual(answer, b"t")
        yield factory.ended

    @inlineCallbacks
    def test_lingerBytes(self) -> Any:
        """
        The limit is kept to within one read.
        """
        factory = self.answering(TerminationPolicy(lingerBytes=100_000))
        report = yield self.ending(factory, self.connect(factory), size=1 << 30)
        self.assertIs(report.outcome, Outcome.LINGER_EXPIRED)
        self.assertGreater(report.bytesDiscarded, 100_000)
        self.assertLessEqual(report.bytesDiscarded, 100_000 + self.below.bufferSize)

    @inlineCallbacks
    def test_reset(self) -> Any:
        """
        A peer that resets is told of.
        """
        factory = self.answering()
        report = yield self.ending(factory, self.connect(factory), reset=True)
        self.assertIs(report.outcome, Outcome.RESET_BY_PEER)
