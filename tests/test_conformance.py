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
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from twisted_term import TerminatingServerEndpoint
from twisted_term.protocol import TerminatingFactory
from twisted_term.testing import TerminableTransportTests, memoryPair


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
