"""
Remote calls: AMP and Perspective Broker, in a drain.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.amp import AMP, Command, Integer
from twisted.spread.pb import PBClientFactory, PBServerFactory, Referenceable, Root

from twisted_term import TerminatingFactory

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
        served: list[AMP] = []
        factory = Factory.forProtocol(lambda: served.append(AMP()) or served[-1])
        port = self.listen(TerminatingFactory(factory))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        yield connectProtocol(endpoint, Asked())
        yield self.until(lambda: served and served[0].transport)
        answer = served[0].callRemote(Double, number=21)
        transport: Any = served[0].transport
        ended = transport.whenTerminated()
        transport.drain()
        found = yield answer
        self.assertEqual(found, {"double": 42})
        yield ended

    @inlineCallbacks
    def test_pb(self) -> Any:
        """
        PB.
        """
        asked: list[Any] = []

        class Asks(Root):  # type: ignore[misc]
            def remote_begin(self, callback: Any) -> None:
                asked.append(callback.callRemote("double", 21))
                asked.append(callback.broker.transport)

        port = self.listen(TerminatingFactory(PBServerFactory(Asks())))
        client = PBClientFactory()
        client.noisy = False
        reactor.connectTCP("127.0.0.1", port, client)
        root = yield client.getRootObject()
        yield root.callRemote("begin", Callback())
        answer, transport = asked
        ended = transport.whenTerminated()
        transport.drain()
        found = yield answer
        self.assertEqual(found, 42)
        yield ended
