"""
What goes wrong with bare Twisted, as C{docs/explanation/tcp.rst} says, and not with
ours, on the same script.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, Callable, Optional

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twisted_term import TerminatingFactory, TerminationPolicy

from .certificates import connectTLS, receiveTLS, serverOptions
from .processes import connect
from .support import SocketTestCase, exchange, upload


class _Bare(Protocol):
    """
    Does as the test says when the first byte has come.
    """

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        received, self.factory.received = self.factory.received, lambda _: None
        received(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.callback(reason.getErrorMessage())


class _Late:
    """
    A push producer, whose second half is late.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        consumer.registerProducer(self, True)
        consumer.write(b"1")
        self._call = reactor.callLater(0.2, self._finish)

    def _finish(self) -> None:
        self._consumer.write(b"2")
        self._consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        if self._call.active():
            self._call.cancel()


def later(protocol: Any) -> None:
    """
    Answer in a moment.
    """
    transport = protocol.transport
    work: Deferred[None] = Deferred()
    work.addCallback(lambda _: transport.write(b"answer"))
    if hasattr(transport, "track"):
        transport.track(work)
    reactor.callLater(0.2, work.callback, None)


class BareTwistedTests(SocketTestCase):
    """
    One script, for both.
    """

    def listenTLS(self, factory: Any) -> int:
        """
        As C{listen}, with TLS.
        """
        self.addCleanup(deferLater, reactor, 0.3)
        port = reactor.listenSSL(0, factory, serverOptions(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def factories(
        self, received: Any, policy: Optional[TerminationPolicy] = None
    ) -> list[tuple[Any, Any]]:
        """
        @return: the factory, and what is to listen; of bare Twisted, and ours.
        """
        made = []
        for wrap in (lambda bare: bare, lambda bare: TerminatingFactory(bare, policy)):
            factory: Any = Factory.forProtocol(_Bare)
            factory.noisy = False
            factory.received = received
            factory.lost = Deferred()
            made.append((factory, wrap(factory)))
        return made

    @inlineCallbacks
    def both(
        self,
        listen: Callable[[Any], int],
        received: Callable[[Any], None],
        client: Callable[[int], Any],
    ) -> Any:
        """
        @param received: what the server does on the first byte.
        @param client: called in a thread, with the port.
        @return: what C{client} says of bare Twisted, and of ours.
        """
        said = []
        for factory, listening in self.factories(received):
            said.append((yield deferToThread(client, listen(listening))))
            yield factory.lost
            if listening is factory:  # its TLS does not bear to be lost while it reads
                yield deferLater(reactor, 0)
                self.flushLoggedErrors(AttributeError)
        return said

    @inlineCallbacks
    def outlives(
        self,
        listen: Callable[[Any], int],
        received: Callable[[Any], None],
        connected: Callable[[int], Any],
    ) -> Any:
        """
        With a peer that does nothing the bare connection is still there when
        ours has reached its limit.
        """
        policy = TerminationPolicy(flushTimeout=0.5, lingerIdle=0.5)
        (bare, bareListening), (ours, oursListening) = self.factories(received, policy)
        clients = []
        for listening in (bareListening, oursListening):
            clients.append((yield deferToThread(connected, listen(listening))))
        yield ours.lost
        self.assertFalse(bare.lost.called)
        for client in clients:
            client.close()
        yield bare.lost

    @inlineCallbacks
    def test_earlyAnswer(self) -> Any:
        """
        The client is reset, and the server told that it was closed cleanly.
        """

        def answer(protocol: Any) -> None:
            protocol.transport.write(bytes(1_000_000))
            protocol.transport.loseConnection()
            protocol.factory.lost.addCallback(reasons.append)

        reasons: list[str] = []
        (_, end), ours = yield self.both(
            self.listen, answer, lambda port: upload(port, True)
        )
        self.assertEqual((end, ours), ("RST", (1_000_000, "FIN")))
        self.assertIn("closed cleanly", reasons[0])

    @inlineCallbacks
    def test_halfClose(self) -> Any:
        """
        The answer to a client that half-closes is dropped.
        """
        said = yield self.both(
            self.listen, later, lambda port: exchange(port, b"x", True)
        )
        self.assertEqual(said, [(0, "FIN"), (6, "FIN")])

    @inlineCallbacks
    def test_producer(self) -> Any:
        """
        FIN comes in the middle of a producer's data, by either call.
        """
        for name in "loseConnection", "loseWriteConnection":

            def answer(protocol: Any, name: str = name) -> None:
                _Late(protocol.transport)
                getattr(protocol.transport, name)()

            said = yield self.both(
                self.listen, answer, lambda port: exchange(port, b"x")
            )
            self.assertEqual(said, [(1, "FIN"), (2, "FIN")], name)

    def test_neverReads(self) -> Any:
        """
        The end waits for ever for a peer that reads nothing.
        """

        def answer(protocol: Any) -> None:
            protocol.transport.write(bytes(50_000_000))
            protocol.transport.loseConnection()

        return self.outlives(
            self.listen, answer, lambda port: connect(port, b"x", small=True)
        )

    @inlineCallbacks
    def test_peersCloseNotify(self) -> Any:
        """
        TLS: the answer to a client that sends close_notify is dropped.
        """

        def client(port: int) -> Any:
            tls = connectTLS(port, b"x")
            timeout = tls.gettimeout()
            tls.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()
            tls.settimeout(timeout)
            return receiveTLS(tls)

        said = yield self.both(self.listenTLS, later, client)
        self.assertEqual(said, [(b"", "close_notify"), (b"answer", "close_notify")])

    def test_neverClosesTLS(self) -> Any:
        """
        TLS: the end waits for ever for the peer's close_notify.
        """

        def answer(protocol: Any) -> None:
            protocol.transport.write(b"answer")
            protocol.transport.loseConnection()

        return self.outlives(
            self.listenTLS, answer, lambda port: connectTLS(port, b"x")
        )

    @inlineCallbacks
    def test_halfCloseOverTLS(self) -> Any:
        """
        TLS: C{loseWriteConnection} sends FIN without a close_notify.
        """

        def answer(protocol: Any) -> None:
            protocol.transport.write(b"answer")
            protocol.transport.loseWriteConnection()

        (_, end), ours = yield self.both(
            self.listenTLS, answer, lambda port: receiveTLS(connectTLS(port, b"x"))
        )
        self.assertEqual((end, ours), ("FIN", (b"answer", "close_notify")))
