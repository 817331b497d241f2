"""
A protocol that nobody knows: only the kernel can tell that its peer has gone.
"""

from __future__ import annotations

import socket
import subprocess
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import TimeoutFactory
from twisted.python.components import registerAdapter
from twisted.trial.unittest import TestCase
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

from .network import inNetwork
from .processes import script
from .support import SECONDS, SocketTestCase, once


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


#: A server that works for its clients, and two of these: one closes, and the other
#: one half-closes.  It has a network of its own, whose kernel forgets a connection
#: that was closed after two seconds, and not after sixty.
_TRACKING = """
import socket, subprocess, sys, time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted_term import TerminatingFactory

FIN_TIMEOUT, ANSWER, CLOSE_WAIT = 2, 6, "08"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
Path("/proc/sys/net/ipv4/tcp_fin_timeout").write_text(str(FIN_TIMEOUT))

class Working(Protocol):
    lost = None
    def dataReceived(self, data):
        self.name = data.decode()
        made[self.name] = self
        self.begin = reactor.seconds()
        work = deferLater(reactor, ANSWER)
        work.addCallback(lambda _: self.transport.write(b"answer" * 100_000))
        if sys.argv[1] == "term":
            self.transport.track(work)
    def connectionLost(self, reason):
        assert self.lost is None
        self.lost = reactor.seconds() - self.begin

def client(close):
    with socket.create_connection(address) as connection:
        connection.sendall(b"closes" if close else b"halfCloses")
        time.sleep(0.2)
        if close:
            return 0
        connection.shutdown(socket.SHUT_WR)
        count = 0
        while data := connection.recv(1 << 16):
            count += len(data)
        return count

def waiting():
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[3] == CLOSE_WAIT for row in rows)

@inlineCallbacks
def main():
    closes = deferToThread(client, True)
    halfCloses = deferToThread(client, False)
    while len(made) < 2:
        yield deferLater(reactor, 0.01)
    yield closes
    while made["closes"].lost is None:
        yield deferLater(reactor, 0.01)
    told = made["closes"].lost
    count = yield halfCloses
    yield deferLater(reactor, 0.5)
    print(told < FIN_TIMEOUT, told < ANSWER, count, waiting())
    reactor.stop()

made = {}
factory = Factory.forProtocol(Working)
if sys.argv[1] == "term":
    factory = TerminatingFactory(factory)
host = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost()
address = host.host, host.port
reactor.callWhenRunning(lambda: main().addErrback(lambda f: (print(f), reactor.stop())))
reactor.run()
"""


@once
class ForgottenTests(TestCase):
    """
    A protocol that has nothing to say, and whose client closes and sends no reset.
    """

    @inlineCallbacks
    def test_keepAlive(self) -> Any:
        """
        The application is told when the client's kernel has forgotten the
        connection, before its work is done, and no connection stays in CLOSE_WAIT.
        A client that half-closes is left alone, though its answer takes three times
        as long.  Bare Twisted tells at once, and loses that answer.
        """
        for way, told in (("bare", "True True 0 0"), ("term", "False True 600000 0")):
            command = script(self, _TRACKING, way)
            done = yield deferToThread(
                subprocess.run,
                inNetwork(*command),
                capture_output=True,
                text=True,
                timeout=2 * SECONDS,
            )
            self.assertEqual(done.stdout.strip(), told, done.stderr)


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
