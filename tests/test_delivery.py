"""
C{delivered}: what the report says of the bytes, against what is known of the
peer's kernel.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from fcntl import ioctl
from termios import FIONREAD
from typing import Any, Callable
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from twisted_term import Outcome, TerminationPolicy
from twisted_term.connection.replaced import unsentBytes

from .support import SECONDS, SocketTestCase, exchange, nothing, receive

_DATA = b"x" * 20_000_000
_READ = 1000
_LAST = b"y" * 123
_numbers = itertools.count()

# The client beyond the link.  It answers each line that it is sent with how
# many bytes its kernel has got, read or not; it is killed in the end.
_CLIENT = f"""
import signal, socket, struct, sys, termios
from fcntl import ioctl
signal.alarm(60)
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), {SECONDS})
client.sendall(b"go")
read = 0
while read < {_READ}:
    read += len(client.recv({_READ} - read))
for line in sys.stdin:
    (waiting,) = struct.unpack("i", ioctl(client, termios.FIONREAD, b"0000"))
    print(read + waiting, flush=True)
"""


def run(*command: str) -> None:
    """
    Run a command, which may fail.
    """
    subprocess.run(command, capture_output=True, text=True, check=True)


def waiting(client: socket.socket) -> int:
    """
    Bytes that a socket has for its reader.
    """
    (count,) = struct.unpack("i", ioctl(client.fileno(), FIONREAD, b"0000"))
    return count


def settle(count: Callable[[], int]) -> int:
    """
    The value of a count that has not changed for a second.
    """
    deadline = time.monotonic() + SECONDS
    value, since = count(), time.monotonic()
    while time.monotonic() < since + 1.0 and time.monotonic() < deadline:
        time.sleep(0.05)
        found = count()
        if found != value:
            value, since = found, time.monotonic()
    return value


class DeliveryTests(SocketTestCase):
    """
    On the loopback.
    """

    @inlineCallbacks
    def assertDelivered(self, factory: Any, outcome: Outcome) -> Any:
        report = yield factory.ended
        self.assertIs(report.outcome, outcome)
        self.assertIs(report.delivered, True)
        self.assertEqual(report.bytesUnacknowledged, 0)

    @inlineCallbacks
    def test_clean(self) -> Any:
        """
        Delivered after a clean close.
        """
        factory = self.recorder(
            lambda protocol, data: (
                protocol.transport.write(_DATA),
                protocol.transport.loseConnection(),
            )
        )
        got = yield deferToThread(exchange, self.listen(factory), b"go")
        self.assertEqual(got, (len(_DATA), "FIN"))
        yield self.assertDelivered(factory, Outcome.CLEAN)

    @inlineCallbacks
    def test_peerHalfCloses(self) -> Any:
        """
        Delivered after the peer has half-closed, with the whole answer to
        come; the FIN that is out too is not taken for a byte.
        """
        for end in (nothing, lambda transport: transport.loseConnection()):
            factory = self.recorder(
                lambda protocol, data, end=end: (
                    protocol.transport.write(_DATA),
                    end(protocol.transport),
                )
            )
            got = yield deferToThread(
                exchange, self.listen(factory), b"go", halfClose=True, small=True
            )
            self.assertEqual(got, (len(_DATA), "FIN"))
            yield self.assertDelivered(factory, Outcome.CLEAN)

    @inlineCallbacks
    def test_halfClose(self) -> Any:
        """
        Delivered after our own half-close, which the peer answers.
        """
        factory = self.recorder(
            lambda protocol, data: (
                protocol.transport.write(_DATA),
                protocol.transport.loseWriteConnection(),
            )
        )
        got = yield deferToThread(exchange, self.listen(factory), b"go")
        self.assertEqual(got, (len(_DATA), "FIN"))
        yield self.assertDelivered(factory, Outcome.CLEAN)

    @inlineCallbacks
    def test_peerNeverCloses(self) -> Any:
        """
        Delivered to a peer that has got everything and never closes.
        """
        factory = self.recorder(
            lambda protocol, data: (
                protocol.transport.write(b"bye"),
                protocol.transport.loseConnection(),
            ),
            TerminationPolicy(lingerTime=0.3),
        )
        port = self.listen(factory)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(b"go")
            got = yield deferToThread(receive, client)
            self.assertEqual(got, (3, "FIN"))
            yield self.assertDelivered(factory, Outcome.LINGER_EXPIRED)

    @inlineCallbacks
    def peerResets(self, end: Callable[[Any], object]) -> Any:
        def received(protocol: Any, data: bytes) -> None:
            protocol.transport.write(_DATA)
            end(protocol.transport)
            factory.wrapped = protocol.transport.wrapped

        factory = self.recorder(received)
        port = self.listen(factory)
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)
        client.sendall(b"go")
        read = len((yield deferToThread(client.recv, _READ)))
        yield deferToThread(settle, lambda: waiting(client))
        unsent = unsentBytes(factory.wrapped)
        got = read + waiting(client)
        client.close()  # with bytes unread: RST
        report = yield factory.ended
        self.assertIs(report.outcome, Outcome.RESET_BY_PEER)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, len(_DATA) - got)
        # Some were still Twisted's, and some were our kernel's.
        self.assertGreater(unsent, 0)
        self.assertLess(unsent, report.bytesUnacknowledged)

    def test_peerResetsOpen(self) -> Any:
        """
        Not delivered when the peer resets with bytes outstanding: all that its
        kernel has not got is counted, whether in our kernel or not yet there.
        """
        return self.peerResets(nothing)

    def test_peerResetsFlushing(self) -> Any:
        """
        The same, when the end has been asked for.
        """
        return self.peerResets(lambda transport: transport.loseConnection())

    @inlineCallbacks
    def test_abort(self) -> Any:
        """
        An abort throws away what is outstanding, and the report counts it.
        """
        factory = self.recorder(
            lambda protocol, data: (
                protocol.transport.write(_DATA),
                protocol.transport.abortConnection(),
            )
        )
        got = yield deferToThread(exchange, self.listen(factory), b"go")
        self.assertEqual(got, (0, "RST"))
        report = yield factory.ended
        self.assertIs(report.outcome, Outcome.ABORTED)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, len(_DATA))


class Link:
    """
    A client in a network namespace of its own, and the link to it.
    """

    def __init__(self, test: SocketTestCase) -> None:
        ip = shutil.which("ip")
        if ip is None:
            raise SkipTest("no ip command")
        if os.geteuid() != 0:
            raise SkipTest("network namespaces need root")
        process, number = os.getpid(), next(_numbers)
        self._test = test
        self._name = name = f"term{process}n{number}"
        self._inside = "peer0"
        outside = f"tt{process}n{number}"  # IFNAMSIZ: 15 characters
        subnet = f"10.{process >> 8 & 255}.{process & 255}"
        self.address = f"{subnet}.{4 * number % 256 + 1}"
        try:
            run(ip, "netns", "add", name)
            test.addCleanup(subprocess.run, [ip, "netns", "del", name])
            run(
                *(ip, "link", "add", outside, "type", "veth"),
                *("peer", "name", self._inside, "netns", name),
            )
            test.addCleanup(subprocess.run, [ip, "link", "del", outside])
            run(ip, "address", "add", f"{self.address}/30", "dev", outside)
            run(ip, "link", "set", outside, "up")
            inside = f"{subnet}.{4 * number % 256 + 2}/30"
            run(ip, "-n", name, "address", "add", inside, "dev", self._inside)
            run(ip, "-n", name, "link", "set", self._inside, "up")
            run(ip, "netns", "exec", name, "true")
        except subprocess.CalledProcessError as error:
            raise SkipTest(f"no network namespace: {error.stderr.strip()}") from error
        self._ip = ip

    def connect(self, port: int) -> None:
        """
        Start the client, which connects, sends a request and reads a little.
        """
        self._process = process = subprocess.Popen(
            [
                *(self._ip, "netns", "exec", self._name),
                *(sys.executable, "-c", _CLIENT, self.address, str(port)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._test.addCleanup(self._end, process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def got(self) -> int:
        """
        Bytes that the client's kernel has got.  Blocks.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def cut(self) -> None:
        """
        Take the link down inside: what is sent from now on is lost, and no
        error says so.
        """
        run(self._ip, "-n", self._name, "link", "set", self._inside, "down")


class SilentPeerTests(SocketTestCase):
    """
    The peer is cut off, and nothing tells us.
    """

    @inlineCallbacks
    def cutOff(
        self,
        data: bytes,
        policy: TerminationPolicy,
        end: Callable[[Any], object],
    ) -> Any:
        """
        @param data: what is written on request.
        @param end: what is done with the transport after the cut.
        @return: the report, what the client's kernel has got, and what Twisted
            had not sent at the cut.
        """
        link = Link(self)

        def received(protocol: Any, request: bytes) -> None:
            factory.transport = protocol.transport
            protocol.transport.write(data)

        factory = self.recorder(received, policy)
        port = reactor.listenTCP(0, factory, interface=link.address)
        self.addCleanup(port.stopListening)
        link.connect(port.getHost().port)
        yield deferToThread(settle, link.got)
        link.cut()
        got = yield deferToThread(link.got)
        unsent = unsentBytes(factory.transport.wrapped)
        end(factory.transport)
        report = yield factory.ended
        return report, got, unsent

    @inlineCallbacks
    def test_all(self) -> Any:
        """
        What was in our kernel, and in Twisted's buffer, is not delivered.
        """
        report, got, unsent = yield self.cutOff(
            _DATA,
            TerminationPolicy(flushTimeout=1),
            lambda transport: transport.loseConnection(),
        )
        self.assertIs(report.outcome, Outcome.FLUSH_EXPIRED)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, len(_DATA) - got)
        self.assertGreater(unsent, 0)
        self.assertLess(unsent, report.bytesUnacknowledged)

    @inlineCallbacks
    def test_last(self) -> Any:
        """
        When only the last bytes are lost, with the FIN, just they are counted.
        """
        report, got, unsent = yield self.cutOff(
            b"x" * _READ,
            TerminationPolicy(flushTimeout=1),
            lambda transport: (transport.write(_LAST), transport.loseConnection()),
        )
        self.assertEqual((got, unsent), (_READ, 0))
        self.assertIs(report.outcome, Outcome.FLUSH_EXPIRED)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, len(_LAST))

    @inlineCallbacks
    def test_finAlone(self) -> Any:
        """
        When the FIN alone is lost, all bytes are delivered, whatever ends the
        waiting for it.
        """
        for policy, end, outcome in (
            (
                TerminationPolicy(lingerTime=0.5),
                lambda transport: transport.loseConnection(),
                Outcome.LINGER_EXPIRED,
            ),
            (
                TerminationPolicy(halfCloseIdle=0.5),
                lambda transport: transport.loseWriteConnection(),
                Outcome.FLUSH_EXPIRED,
            ),
            (
                TerminationPolicy(),
                lambda transport: transport.terminate(0.5),
                Outcome.DEADLINE_EXPIRED,
            ),
        ):
            report, got, unsent = yield self.cutOff(b"x" * _READ, policy, end)
            self.assertEqual((got, unsent), (_READ, 0))
            self.assertIs(report.outcome, outcome)
            self.assertEqual(report.bytesUnacknowledged, 0, outcome)
            self.assertIs(report.delivered, True, outcome)

    @inlineCallbacks
    def test_kernelGivesUp(self) -> Any:
        """
        When the kernel gives the peer up before the policy does, that counts
        as a reset by the peer.
        """

        def end(transport: Any) -> None:
            transport.getHandle().setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500
            )
            transport.write(_LAST)
            transport.loseConnection()

        report, got, unsent = yield self.cutOff(b"x" * _READ, TerminationPolicy(), end)
        self.assertEqual((got, unsent), (_READ, 0))
        self.assertIs(report.outcome, Outcome.RESET_BY_PEER)
        self.assertIs(report.delivered, False)
        self.assertEqual(report.bytesUnacknowledged, len(_LAST))
