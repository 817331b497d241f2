"""
The conformance suite, against every kind of transport.
"""

from __future__ import annotations

from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks, succeed
from twisted.internet.endpoints import (
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import directlyProvides

from twisted_term import TerminatingClientEndpoint, TerminatingServerEndpoint
from twisted_term.connection.wrapping import TerminatingFactory
from twisted_term.testing import TerminableTransportTests, memoryPair

from .certificates import clientOptions, serverOptions


def only(protocol: Any) -> Any:
    """
    A factory of one protocol.
    """
    factory: Any = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda _: protocol
    return factory


class OnReactor(TerminableTransportTests):
    """
    Over a real reactor.
    """

    def endpoints(self) -> tuple[Any, Callable[[Any], Any]]:
        raise NotImplementedError

    @inlineCallbacks
    def makePair(self, server: Any, peer: Any) -> Any:
        listening, connecting = self.endpoints()
        port = yield TerminatingServerEndpoint(listening, self.policy).listen(
            only(server)
        )
        self.addCleanup(port.stopListening)  # type: ignore[attr-defined]
        yield connecting(port.getHost()).connect(only(peer))


class TCPTests(OnReactor, TestCase):
    def endpoints(self) -> tuple[Any, Callable[[Any], Any]]:
        return serverFromString(
            reactor, "tcp:0:interface=127.0.0.1"
        ), lambda host: clientFromString(reactor, f"tcp:127.0.0.1:{host.port}")


class TLS13Tests(OnReactor, TestCase):
    """
    Over TLS, close_notify is what tells the peer of an end.
    """

    version = "TLSv1_3"

    @inlineCallbacks
    def makePair(self, server: Any, peer: Any) -> Any:
        """
        Before the handshake is done there is nothing to end.
        """
        done: list[bool] = []
        directlyProvides(peer, IHandshakeListener)
        peer.handshakeCompleted = lambda: done.append(True)
        yield super().makePair(server, peer)
        yield self.until(lambda: done)

    def endpoints(self) -> tuple[Any, Callable[[Any], Any]]:
        from twisted.internet.endpoints import SSL4ServerEndpoint

        options = serverOptions(self.version)
        server = SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
        return server, lambda host: TerminatingClientEndpoint(
            wrapClientTLS(
                clientOptions(),
                clientFromString(reactor, f"tcp:127.0.0.1:{host.port}"),
            )
        )


class TLS12Tests(TLS13Tests):
    version = "TLSv1_2"


class UNIXTests(OnReactor, TestCase):
    resets = knowsDelivery = False

    def endpoints(self) -> tuple[Any, Callable[[Any], Any]]:
        path = self.mktemp()
        return UNIXServerEndpoint(reactor, path), lambda _: UNIXClientEndpoint(
            reactor, path
        )


class MemoryTests(TerminableTransportTests, TestCase):
    """
    In memory, under a Clock.
    """

    knowsDelivery = False

    def makePair(self, server: Any, peer: Any) -> Any:
        self.clock = Clock()
        wrapped = TerminatingFactory(only(server), self.policy).buildProtocol(None)
        memoryPair(self.clock, wrapped, peer)

    def until(self, condition: Callable[[], Any]) -> Any:
        for _ in range(10000):
            if condition():
                return succeed(None)
            self.clock.advance(0.01)
        self.fail("nothing happens")
