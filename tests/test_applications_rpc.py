"""
Remote calls: AMP and Perspective Broker, in a drain.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.amp import AMP, Command, Integer
from twisted.spread.pb import (
    PBClientFactory,
    PBConnectionLost,
    PBServerFactory,
    Referenceable,
    Root,
)

from .support import SocketTestCase


class Double(Command):
    arguments = [(b"number", Integer())]
    response = [(b"double", Integer())]


class Asked(AMP):
    """
    Answers, when some time has passed.
    """

    def double(self, number: int) -> Any:
        return deferLater(reactor, 1, lambda: {"double": 2 * number})

    Double.responder(double)


class Callback(Referenceable):  # type: ignore[misc]
    """
    The same, for PB.
    """

    def remote_double(self, number: int) -> Any:
        return deferLater(reactor, 1, lambda: 2 * number)


class CallTests(SocketTestCase):
    """
    A question that the server has asked is answered before the end.
    """

    @inlineCallbacks
    def test_amp(self) -> Any:
        """
        AMP.
        """
        found = yield self._amp(bare=False)
        self.assertEqual(found, {"double": 42})
        yield self.assertFailure(self._amp(bare=True), ConnectionLost)

    @inlineCallbacks
    def _amp(self, bare: bool) -> Any:
        served: list[AMP] = []
        factory = Factory.forProtocol(lambda: served.append(AMP()) or served[-1])
        port = self.serveEither(factory, bare)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        yield connectProtocol(endpoint, Asked())
        yield self.until(lambda: served and served[0].transport)
        answer = served[0].callRemote(Double, number=21)
        ended = [] if bare else [one.whenTerminated() for one in self.transports]
        self.stop()
        found = yield answer
        yield gatherResults(ended)
        return found

    @inlineCallbacks
    def test_pb(self) -> Any:
        """
        PB.
        """
        found = yield self._pb(bare=False)
        self.assertEqual(found, 42)
        yield self.assertFailure(self._pb(bare=True), PBConnectionLost)

    @inlineCallbacks
    def _pb(self, bare: bool) -> Any:
        asked: list[Any] = []

        class Asks(Root):  # type: ignore[misc]
            def remote_begin(self, callback: Any) -> None:
                asked.append(callback.callRemote("double", 21))

        port = self.serveEither(PBServerFactory(Asks()), bare)
        client = PBClientFactory()
        client.noisy = False
        reactor.connectTCP("127.0.0.1", port, client)
        root = yield client.getRootObject()
        yield root.callRemote("begin", Callback())
        ended = [] if bare else [one.whenTerminated() for one in self.transports]
        self.stop()
        found = yield asked[0]
        yield gatherResults(ended)
        return found
