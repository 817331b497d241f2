"""
A protocol that nobody knows: only the kernel can tell that its peer has gone.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.policies import TimeoutFactory
from twisted.python.components import registerAdapter
from zope.interface import implementer
from zope.interface.verify import verifyClass

from twisted_term import Outcome, TerminatingFactory, TerminationMixin
from twisted_term.applications import Conversation
from twisted_term.applications.conch import SSH
from twisted_term.applications.ftp import FTP
from twisted_term.applications.http import HTTP1
from twisted_term.applications.http2 import HTTP2
from twisted_term.applications.mail import IMAP4, POP3, SMTP
from twisted_term.applications.relay import Forwarded
from twisted_term.applications.rpc import AMP, PB
from twisted_term.applications.websocket import Autobahn, Twisted
from twisted_term.interfaces import IConversation

from .support import SECONDS, SocketTestCase


class Holding(TerminationMixin, Protocol):
    """
    Has work in flight that never ends.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self.hold = self.transport.hold()

    def terminated(self, report: Any) -> None:
        self.factory.reports.append(report)


@implementer(IHalfCloseableProtocol)
class Deciding(Holding):
    """
    Goes on after the peer's FIN.
    """

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass


class Counting(Protocol):
    """
    A third party's protocol, whose C{left} its adapter reads.
    """

    left = 0


class CountingConversation(Conversation):
    """
    That adapter.
    """

    gone = False

    def inFlight(self, transport: Any) -> bool:
        if self.protocol.left == -1:
            raise ValueError("a bug")
        return bool(self.protocol.left)

    def peerFin(self, transport: Any) -> bool:
        return self.gone


registerAdapter(CountingConversation, Counting, IConversation)


class GoneTests(SocketTestCase):
    """
    TCP's keep-alive, from the peer's FIN on.
    """

    @inlineCallbacks
    def test_keepAlive(self) -> Any:
        """
        A peer that closes is noticed when its kernel has forgotten the
        connection, and one that only half-closes is left alone.
        """
        for kind in (Holding, Deciding):
            factory: Any = Factory.forProtocol(kind)
            factory.noisy = False
            factory.made, factory.reports = [], []
            port = self.listen(factory)
            closes = socket.create_connection(("127.0.0.1", port), SECONDS)
            # What is tcp_fin_timeout for others, see tcp(7).
            closes.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
            halfCloses = socket.create_connection(("127.0.0.1", port), SECONDS)
            yield self.until(lambda made=factory.made: len(made) == 2)
            halfCloses.shutdown(socket.SHUT_WR)
            closes.close()
            yield self.until(lambda reports=factory.reports: reports)
            self.assertIs(factory.reports[0].outcome, Outcome.RESET_BY_PEER)
            yield deferLater(reactor, 2)
            self.assertEqual(len(factory.reports), 1)
            halfCloses.close()
            for protocol in factory.made:
                protocol.transport.abortConnection()
            yield self.until(lambda reports=factory.reports: len(reports) == 2)


class ThirdPartyTests(SocketTestCase):
    """
    An adapter that is registered by somebody else.
    """

    @inlineCallbacks
    def serve(self, wrapped: bool) -> Any:
        made: list[Any] = []
        factory: Any = Factory.forProtocol(
            lambda: made.append(Counting()) or made[-1],
        )
        factory.noisy = False
        if wrapped:
            factory = TimeoutFactory(factory)
        port = self.listen(TerminatingFactory(factory))
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)
        yield self.until(lambda: made and made[0].transport)
        client.setblocking(False)
        return made[0], client

    def ends(self, client: socket.socket) -> bool:
        try:
            return client.recv(1) == b""
        except BlockingIOError:
            return False

    @inlineCallbacks
    def test_inFlight(self) -> Any:
        """
        It says what is in flight, also inside of a C{ProtocolWrapper}.
        """
        for wrapped in (False, True):
            protocol, client = yield self.serve(wrapped)
            protocol.left = 1
            client.shutdown(socket.SHUT_WR)
            yield deferLater(reactor, 0.5)
            self.assertFalse(self.ends(client))
            protocol.left = 0
            yield self.until(lambda client=client: self.ends(client))

    @inlineCallbacks
    def test_gone(self) -> Any:
        """
        It says that the peer has gone.
        """
        self.patch(CountingConversation, "gone", True)
        protocol, client = yield self.serve(False)
        protocol.left = 1
        hold = protocol.transport.hold()
        client.shutdown(socket.SHUT_WR)
        yield self.until(lambda: self.ends(client))
        hold.release()

    @inlineCallbacks
    def test_bug(self) -> Any:
        """
        What it raises is logged, and the connection ends.
        """
        protocol, client = yield self.serve(False)
        protocol.left = -1
        client.shutdown(socket.SHUT_WR)
        yield self.until(lambda: self.ends(client))
        self.assertTrue(self.flushLoggedErrors(ValueError))

    def test_interface(self) -> None:
        """
        All of ours keep to the interface.
        """
        for cls in (
            *(AMP, Autobahn, Conversation, FTP, Forwarded, HTTP1, HTTP2, IMAP4),
            *(PB, POP3, SMTP, SSH, Twisted),
        ):
            verifyClass(IConversation, cls)
