"""
A client that half-closes behind a relay: C{portforward} and SOCKS.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from twisted.protocols.socks import SOCKSv4Factory
from zope.interface import implementer

from twisted_term import TerminatingFactory

from .support import SECONDS, SocketTestCase

_SIZE = 3_000_000


@implementer(IHalfCloseableProtocol)
class Counting(Protocol):
    """
    Answers the end of what the client sends, as C{wc} does, after some time.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.count = 0

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def readConnectionLost(self) -> None:
        deferLater(reactor, 1, self._answer)

    def _answer(self) -> None:
        self.transport.write(b"%d" % self.count + b" " * _SIZE)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(self.count)


def ask(port: int, greeting: bytes) -> bytes:
    """
    Send much, half-close, and read to the end.
    """
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        answer = b""
        if greeting:
            client.sendall(greeting)
            answer = client.recv(8)
        client.sendall(b"x" * _SIZE)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(1 << 16):
            answer += data
        return answer


class RelayTests(SocketTestCase):
    """
    Nothing comes back through bare Twisted's relays.
    """

    def backend(self) -> int:
        factory: Any = Factory.forProtocol(Counting)
        factory.lost = self.lost = []
        return self.listen(factory)

    @inlineCallbacks
    def answers(self, relay: Any, greeting: bytes = b"") -> Any:
        relay.noisy = False
        answer = yield deferToThread(ask, self.listen(relay), greeting)
        self.assertEqual(len(answer.strip()), len(greeting[:8]))
        port = self.listen(TerminatingFactory(relay))
        answer = yield deferToThread(ask, port, greeting)
        answer = answer[len(greeting[:8]) :]
        self.assertEqual(answer, b"%d" % _SIZE + b" " * _SIZE)

    def test_portforward(self) -> Any:
        """
        C{twisted.protocols.portforward}.
        """
        return self.answers(ProxyFactory("127.0.0.1", self.backend()))

    def test_socks(self) -> Any:
        """
        C{twisted.protocols.socks}.
        """
        address = socket.inet_aton("127.0.0.1")
        greeting = struct.pack(">BBH", 4, 1, self.backend()) + address + b"\0"
        return self.answers(SOCKSv4Factory(None), greeting)

    @inlineCallbacks
    def test_gone(self) -> Any:
        """
        A client that goes away is noticed where its answer goes.
        """
        relay = ProxyFactory("127.0.0.1", self.backend())
        relay.noisy = False
        port = self.listen(TerminatingFactory(relay))
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(b"x")
            yield deferLater(reactor, 0.1)
        yield self.until(lambda: self.lost)
