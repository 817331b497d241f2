"""
Transports that are no TCP socket: UNIX sockets, stdio, Conch, iosim and
StringTransport.  Work in flight is waited for, then the transport's own close
has to do; whether anything arrived nobody can say.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import (
    Initiator,
    Outcome,
    State,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminationMixin,
)
from twisted_term.testing import Terminated

from .certificates import needs
from .support import SECONDS, SocketTestCase

#: It fits into the kernel's buffer.
_SIZE = 100_000


class Reporting(TerminationMixin, Terminated):
    """
    Echoes, and records.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)

    def terminated(self, report: Any) -> None:
        Terminated.terminated(self, report)


class Answering(Protocol):
    """
    Answers the first bytes, and closes.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"a" * _SIZE)
        self.transport.loseConnection()


class UNIXTests(SocketTestCase):
    @inlineCallbacks
    def test_earlyAnswer(self) -> Any:
        """
        Bare Twisted resets a client that is still sending; here it sees the end
        of the stream.
        """
        from twisted.internet.endpoints import UNIXServerEndpoint

        def client(path: str) -> tuple[int, str]:
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(SECONDS)
                made.connect(path)
                try:
                    for _ in range(64):
                        made.sendall(b"u" * 65536)
                    count = 0
                    while data := made.recv(1 << 16):
                        count += len(data)
                    return count, "end"
                except ConnectionError:
                    return 0, "reset"

        for wrap, expected in (
            (lambda endpoint: endpoint, (0, "reset")),
            (TerminatingServerEndpoint, (_SIZE, "end")),
        ):
            path = self.mktemp()
            factory = Factory.forProtocol(Answering)
            port = yield wrap(UNIXServerEndpoint(reactor, path)).listen(factory)
            found = yield deferToThread(client, path)
            yield port.stopListening()
            self.assertEqual(found, expected)


_STDIO = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted_term import TerminationMixin

class Late(TerminationMixin, Protocol):
    count = 0
    def connectionMade(self):
        self.hold = self.transport.hold()
    def dataReceived(self, data):
        self.count += len(data)
        if self.count == 3:
            reactor.callLater(0.2, self.answer)
    def answer(self):
        self.transport.write(b"a" * 300000)
        self.hold.release()
        self.transport.loseConnection()
    def terminated(self, report):
        print(report, file=sys.stderr)
        reactor.callLater(0, reactor.stop)

serverFromString(reactor, sys.argv[1]).listen(Factory.forProtocol(Late))
reactor.run()
"""


class StdioTests(SynchronousTestCase):
    def test_endOfInput(self) -> None:
        """
        At the end of the input, the answer is still to come.
        """
        for listen in "stdio:", "term:stdio:":
            done = subprocess.run(
                (sys.executable, "-c", _STDIO, listen),
                input=b"ask",
                capture_output=True,
                timeout=SECONDS,
            )
            self.assertEqual(
                (done.stdout.count(b"a"), done.returncode), (300000, 0), done.stderr
            )
            self.assertIn(b"by peer; delivery unknown", done.stderr)
            self.assertNotIn(b"Traceback", done.stderr)


class ConchTests(SynchronousTestCase):
    def test_channel(self) -> None:
        """
        A channel of SSH calls its protocol itself, and cannot be reset.
        """
        needs("twisted.conch.ssh.channel", "bcrypt", "cryptography")
        from twisted.conch.ssh.channel import SSHChannel

        for end in "loseConnection", "loseWriteConnection", "abortConnection":
            connection = mock.Mock()
            channel = SSHChannel(
                remoteWindow=_SIZE, remoteMaxPacket=_SIZE, conn=connection
            )
            protocol = Reporting()
            protocol.makeConnection(channel)
            protocol.dataReceived(b"hello")
            hold = protocol.transport.hold()
            getattr(protocol.transport, end)()
            if end != "abortConnection":
                connection.sendClose.assert_not_called()
                protocol.transport.write(b"more")
            hold.release()
            getattr(protocol.transport, end)()
            connection.sendClose.assert_called_once_with(channel)
            protocol.connectionLost(Failure(ConnectionDone()))
            (report,) = protocol.reports
            self.assertIsNone(report.delivered)
            self.assertEqual(len(protocol.lost), 1)


class FakeTests(SynchronousTestCase):
    """
    What Twisted's users write their tests with.
    """

    ends = "loseConnection", "loseWriteConnection", "abortConnection"

    def test_stringTransport(self) -> None:
        """
        By mixin and by factory, a test goes on as before, and there is a report
        when it says that the connection is lost.
        """
        for make in (
            Reporting,
            lambda: TerminatingFactory(Factory.forProtocol(Terminated)).buildProtocol(
                None
            ),
        ):
            for end in self.ends:
                transport, protocol = StringTransport(), make()
                application = getattr(protocol, "application", protocol)
                protocol.makeConnection(transport)
                protocol.dataReceived(b"hello")
                application.transport.write(b"!")
                self.assertTrue(transport.value().endswith(b"!"))
                self.assertEqual(application.received, 5)
                getattr(application.transport, end)()
                self.assertTrue(transport.disconnecting)
                self.assertEqual(reactor.getDelayedCalls(), [])
                protocol.connectionLost(Failure(ConnectionDone()))
                (report,) = application.reports
                self.assertIsNone(report.delivered)
                self.assertEqual(len(application.lost), 1)

    def test_noPeer(self) -> None:
        """
        A transport without an address, as that of a process, ends all the same.
        """

        def getPeer() -> None:
            raise NotImplementedError

        transport, protocol = StringTransport(), Reporting()
        transport.getPeer = getPeer
        protocol.makeConnection(transport)
        ended = protocol.transport.whenTerminated()
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(protocol.reports, [self.successResultOf(ended)])

    def test_discards(self) -> None:
        """
        What comes after C{loseConnection} is not delivered.
        """
        transport, protocol = StringTransport(), Reporting()
        protocol.makeConnection(transport)
        protocol.transport.loseConnection()
        protocol.dataReceived(b"late")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(protocol.received, 0)
        self.assertEqual(protocol.reports[0].bytesDiscarded, 4)

    def test_disconnection(self) -> None:
        """
        With one that closes, whether it has its protocol before or after.
        """
        for end in self.ends:
            for early in True, False:
                transport, protocol = StringTransportWithDisconnection(), Reporting()
                if early:
                    transport.protocol = protocol
                protocol.makeConnection(transport)
                if not early:
                    transport.protocol = protocol
                getattr(protocol.transport, end)()
                self.assertEqual(len(protocol.lost), 1)
                self.assertEqual(len(protocol.reports), 1)
                self.assertTrue(protocol.reports[0].outcome)

    def test_iosim(self) -> None:
        """
        iosim's pump ends it as it ends Twisted's own.
        """
        for end, outcome, state in (
            ("loseConnection", Outcome.CLEAN, State.CLOSED),
            ("abortConnection", Outcome.ABORTED, State.ABORTED),
        ):
            client, server = Terminated(), Reporting()
            ends = FakeTransport(server, True), FakeTransport(client, False)
            pump = connect(server, ends[0], client, ends[1])
            ends[1].write(b"hello")
            pump.flush()
            self.assertEqual(client.received, 5)
            getattr(server.transport, end)()
            pump.flush()
            (report,) = server.reports
            self.assertIs(report.outcome, outcome)
            self.assertIs(report.initiator, Initiator.LOCAL)
            self.assertIs(server.transport.state, state)
