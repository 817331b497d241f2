"""
Whatever raises, whoever goes, each end comes, is bounded, is told once, and is
reported as what it was.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from shutil import rmtree
from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from twisted_term import (
    Initiator,
    Outcome,
    State,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.termserver.demo import DemoFactory

from .certificates import (
    context,
    isTruncation,
    needs,
    serverOptions,
    wrap,
)
from .doubles import TransportTestCase
from .ends import KINDS, LISTEN, EndsTestCase, HalfClosing, endWriting
from .support import SECONDS, Recorder, SocketTestCase, exchange, receive

_RESET = struct.pack("ii", 1, 0)
_LARGE = 20_000_000


class RaisingTests(EndsTestCase):
    """
    Applications and wrappers that raise.
    """

    @inlineCallbacks
    def test_twoRecords(self) -> Any:
        """
        Two TLS records in one segment, and an application that raises for each
        that it is given: the first one is the end.
        """
        needs("OpenSSL")
        received: list[bytes] = []

        def raises(protocol: Any, data: bytes) -> None:
            received.append(data)
            raise ValueError("a bad request")

        factory = self.ended(received=raises)
        yield self.serve("tls", factory)

        def client() -> None:
            arrived, sending = ssl.MemoryBIO(), ssl.MemoryBIO()
            with socket.create_connection(self.address, SECONDS) as plain:
                tls = context().wrap_bio(arrived, sending, server_hostname="localhost")
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        plain.sendall(sending.read())
                        arrived.write(plain.recv(1 << 16))
                tls.write(b"one")
                tls.write(b"two")
                plain.sendall(sending.read())
                with contextlib.suppress(ConnectionResetError):
                    while plain.recv(1 << 16):
                        pass

        yield deferToThread(client)
        report = yield self.report(factory)
        self.assertEqual(received, [b"one"])
        self.assertIs(report.outcome, Outcome.LOST)
        self.assertIs(report.initiator, Initiator.LOCAL)
        self.assertEqual(report.reason.type, ValueError)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    @inlineCallbacks
    def test_wrapper(self) -> Any:
        """
        A wrapper whose C{connectionLost} raises before it passes it on keeps the
        end from nobody.
        """

        class Raising(ProtocolWrapper):
            def connectionLost(self, reason: Any = None) -> None:
                raise RuntimeError("a wrapper's bug")

        for ends in ("peer", "loseConnection", "abortConnection", "closeConnection"):

            def received(protocol: Any, data: bytes, ends: str = ends) -> None:
                if ends != "peer":
                    getattr(protocol.transport, ends)()

            factory = self.ended(received=received)
            around = WrappingFactory(factory)
            around.protocol = Raising
            around.noisy = False
            connect = yield self.serve("tcp", around)
            with connect() as client:
                client.sendall(b"?")
                if ends == "peer":
                    client.shutdown(socket.SHUT_WR)
                yield deferToThread(receive, client)
            yield self.report(factory)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1, ends)

    @inlineCallbacks
    def test_afterPeerFin(self) -> Any:
        """
        An exception after the peer's FIN is the reason of the loss.
        """

        def raises(protocol: Any) -> None:
            raise ValueError("no second half")

        for kind in KINDS:
            factory = self.ended(HalfClosing, peerFin=raises)
            connect = yield self.serve(kind, factory)

            def client(connect: Any = connect) -> None:
                with connect() as connected:
                    connected.sendall(b"?")
                    endWriting(connected)
                    with contextlib.suppress(OSError):
                        receive(connected)

            yield deferToThread(client)
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.LOST, kind)
            self.assertEqual(report.reason.type, ValueError, kind)
            self.assertEqual(factory.lost[0].type, ValueError, kind)
            self.assertGreater(len(self.flushLoggedErrors(ValueError)), 0)


class PeerTests(EndsTestCase):
    """
    What the peer does, and what is said of it.
    """

    @inlineCallbacks
    def test_resetWhileHeld(self) -> Any:
        """
        A peer that half-closes and then resets, while its answer is made, has
        reset, and is given nothing.
        """
        for kind in ("tcp", "tls"):
            holds: list[Any] = []
            factory = self.ended(
                received=lambda protocol, data, holds=holds: holds.append(
                    protocol.transport.hold()
                )
            )
            connect = yield self.serve(kind, factory)

            def client(connect: Any = connect, holds: list[Any] = holds) -> None:
                connected = connect()
                connected.sendall(b"?")
                while not holds:
                    time.sleep(0.01)
                endWriting(connected)
                time.sleep(0.1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connected.close()

            yield deferToThread(client)
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.RESET_BY_PEER, kind)
            self.assertEqual(report.bytesAfterPeerFin, 0)
            holds[0].release()

    @inlineCallbacks
    def test_bytesAfterPeerFin(self) -> Any:
        """
        A client that half-closes and waits gets what is tracked; of what is not,
        the report says that nothing was written.  What TLS says in parting does
        not count.
        """
        for kind, tracked in (
            ("tcp", False),
            ("tcp", True),
            ("tls", False),
            ("tls", True),
        ):

            def received(protocol: Any, data: bytes, tracked: bool = tracked) -> None:
                answer: Deferred[Any] = deferLater(reactor, 0.5)
                answer.addCallback(lambda _: protocol.transport.write(b"answer"))
                if tracked:
                    protocol.transport.track(answer)

            factory = self.ended(received=received)
            connect = yield self.serve(kind, factory)

            def client(connect: Any = connect) -> Any:
                with connect() as connected:
                    connected.sendall(b"?")
                    endWriting(connected)
                    # TLS, of which Python's has ended, is left as it is.
                    with socket.socket(fileno=connected.detach()) as plain:
                        plain.settimeout(SECONDS)
                        return receive(plain)

            got = yield deferToThread(client)
            report = yield self.report(factory)
            self.assertEqual(got[1], "FIN")
            after = report.bytesAfterPeerFin
            if kind == "tcp":
                self.assertEqual((got[0], after), (6 * tracked,) * 2)
            elif tracked:
                self.assertGreater(after, 6)
            else:
                self.assertEqual(after, 0)
            self.assertIsInstance(report.peerFin, float)
            yield deferLater(reactor, 0.5)

    @inlineCallbacks
    def test_noPeerFin(self) -> Any:
        """
        Where the peer has sent no FIN, nothing is said of what came after it.
        """
        factory = self.ended()
        connect = yield self.serve("tcp", factory)
        with connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        report = yield self.report(factory)
        self.assertEqual((report.peerFin, report.bytesAfterPeerFin), (None, None))

    @inlineCallbacks
    def test_badProxyHeader(self) -> Any:
        """
        A bad PROXY header under C{term:haproxy:} is closed on, in order, and by
        us.
        """
        factory = self.ended()
        self.addCleanup(deferLater, reactor, 0.3)
        endpoint = serverFromString(reactor, f"term:haproxy:{LISTEN}")
        port = yield endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        header = b"PROXY nonsense\r\n" * 20
        got = yield deferToThread(exchange, port.getHost().port, header)
        self.assertEqual(got, (0, "FIN"))
        report = yield self.report(factory)
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertIs(report.initiator, Initiator.LOCAL)
        self.assertEqual(factory.lost[0].type, ConnectionDone)


class OneTurnTests(EndsTestCase):
    """
    An end that is asked for while the reactor has something to write, too.
    """

    @inlineCallbacks
    def test_any(self) -> Any:
        """
        The request of an end arrives while the answer before is still to be
        written, and the reactor reads the one and writes the other: nothing of
        the answer is lost, and the connection lingers.
        """
        for kind in KINDS:
            for linger in ("always", "off"):
                for end in ("loseConnection", "loseWriteConnection"):
                    yield self.inOneTurn(kind, linger, end)

    @inlineCallbacks
    def inOneTurn(self, kind: str, linger: str, end: str) -> Any:
        made: list[Any] = []

        def received(protocol: Any, data: bytes) -> None:
            getattr(protocol.transport, end)()

        factory = self.ended(made=made.append, received=received)
        policy = TerminationPolicy(linger=linger)
        self.patch(Recorder, "terminationPolicy", policy)
        connect = yield self.serve(kind, factory)
        client = yield deferToThread(connect)
        with client:
            yield self.until(lambda: made)
            client.sendall(b"hello")
            made[0].transport.write(b"answer")
            said = (kind, linger, end)
            self.assertEqual((yield deferToThread(receive, client)), (6, "FIN"), said)
            if linger == "always":
                yield deferLater(reactor, 0.02)
                self.assertEqual(factory.reports, [], said)
                for _ in range(2):  # who has closed answers the first with RST
                    client.sendall(b"more")
                    yield deferLater(reactor, 0.01)
            if linger == "always" or end == "loseWriteConnection":
                yield deferToThread(endWriting, client)
        report = yield self.report(factory)
        expected = [Outcome.CLEAN]
        if linger == "off":
            # The client closes while we do, and its TLS may leave bytes unread, which
            # makes its kernel reset.
            expected += [Outcome.LINGER_EXPIRED, Outcome.RESET_BY_PEER]
        self.assertIn(report.outcome, expected, (said, report))
        self.assertIsNot(report.delivered, False, (said, report))


class CloseNowTests(EndsTestCase):
    """
    C{closeConnection}.
    """

    @inlineCallbacks
    def test_unsent(self) -> Any:
        """
        What this process has not sent is dropped, and counted where the kernel
        says what it has; the peer gets a part, and FIN, and nobody waits: not
        for a hold, and not for the peer.
        """
        for kind in KINDS:

            def received(protocol: Any, data: bytes) -> None:
                protocol.transport.hold()
                protocol.transport.write(b"x" * _LARGE)
                protocol.transport.closeConnection()
                self.assertIs(protocol.transport.state, State.CLOSED)

            factory = self.ended(received=received)
            connect = yield self.serve(kind, factory)

            def client(connect: Any = connect) -> Any:
                return connect(small=True)

            connected = yield deferToThread(client)
            with connected:
                connected.sendall(b"?")
                # It ends while the peer reads nothing.
                report = yield self.report(factory)

                def rest(connected: Any = connected) -> Any:
                    try:
                        return receive(connected)
                    except ssl.SSLError as error:
                        self.assertTrue(isTruncation(error))
                        return 0, "FIN"

                count, end = yield deferToThread(rest)
            self.assertEqual(end, "FIN", kind)
            self.assertLess(count, _LARGE)
            self.assertIs(report.outcome, Outcome.CLOSED, kind)
            self.assertIs(report.initiator, Initiator.LOCAL)
            self.assertEqual(factory.lost[0].type, ConnectionDone)
            if kind == "unix":  # whose kernel does not say
                self.assertIs(report.delivered, None)
            else:
                self.assertIs(report.delivered, False)
                self.assertGreater(report.bytesUnacknowledged, _LARGE // 2)
            if kind == "tls":
                self.assertIs(report.closeNotifySent, False)

    @inlineCallbacks
    def test_nothingUnsent(self) -> Any:
        """
        Where all was delivered, the report says so.
        """
        factory = self.ended(
            received=lambda protocol, data: (
                protocol.transport.closeConnection()
                if data == b"thanks"
                else protocol.transport.write(b"answer")
            )
        )
        connect = yield self.serve("tcp", factory)
        with connect() as client:
            client.sendall(b"?")
            yield deferToThread(client.recv, 100)
            client.sendall(b"thanks")
            got = yield deferToThread(receive, client)
        report = yield self.report(factory)
        self.assertEqual(got, (0, "FIN"))
        self.assertIs(report.outcome, Outcome.CLOSED)
        self.assertIs(report.delivered, True)

    @inlineCallbacks
    def test_demo(self) -> Any:
        """
        The demo's CLOSENOW: what comes behind it is not answered.
        """
        factory = DemoFactory(reactor)
        port = self.listen(factory)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(b"ECHO a\n")
            got = yield deferToThread(client.recv, 100)
            self.assertEqual(got, b"a\n")
            client.sendall(b"CLOSENOW\nECHO b\n")
            got = yield deferToThread(receive, client)
            self.assertEqual(got, (0, "FIN"))
        yield self.until(lambda: factory.outcomes)
        self.assertEqual(factory.outcomes, {"closed": 1})

    def test_stringTransport(self) -> None:
        """
        A transport that only closes is closed.
        """
        factory = self.ended()
        protocol = factory.buildProtocol(None)
        below = StringTransport()
        protocol.makeConnection(below)
        protocol.transport.hold()
        protocol.transport.closeConnection()
        self.assertTrue(below.disconnecting)
        self.assertIs(protocol.transport.state, State.CLOSED)
        protocol.dataReceived(b"late")
        protocol.connectionLost(ConnectionDone())
        (report,) = factory.reports
        self.assertIs(report.outcome, Outcome.CLOSED)
        self.assertEqual(report.bytesDiscarded, 4)


_STDIO = """
from twisted.internet import endpoints, protocol, reactor

class Writing(protocol.Protocol):
    def connectionMade(self):
        self.transport.write(b"x" * 10_000_000)

endpoints.serverFromString(reactor, "term:stdio::drainTimeout=0.5").listen(
    protocol.Factory.forProtocol(Writing)
)
reactor.run()
"""


class StdioTests(SocketTestCase):
    @inlineCallbacks
    def test_abort(self) -> Any:
        """
        A stdout that nobody reads keeps the process no longer than its drain.
        """
        child = subprocess.Popen(
            [sys.executable, "-c", _STDIO],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with child:
            self.addCleanup(child.kill)
            assert child.stdout is not None
            yield deferToThread(child.stdout.read, 1)  # it runs
            child.send_signal(signal.SIGTERM)
            status = yield deferToThread(child.wait, SECONDS)
        self.assertEqual(status, 0)


class ClockTests(TransportTestCase):
    """
    What the clock decides, and what it does not.
    """

    def test_lateAcknowledgement(self) -> None:
        """
        The acknowledgement of our FIN, which comes late, is no progress:
        C{lingerIdle} does not begin anew.
        """
        self.connect()
        self.owe(0, 1000)
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.advance(2)
        self.owe(0, 1001)
        self.advance(1.875)
        self.assertIs(self.transport.state, State.LINGERING)
        self.advance(1.25)
        self.assertIs(self.transport.state, State.CLOSED)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_stepFlushing(self) -> None:
        """
        A step of the clock is not the peer's silence: one that goes on taking
        bytes is not reset, and one that does not is, in its time.
        """
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.advance(2)
        self.clock.advance(120)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.owe(900, 100)
        self.advance(6)
        self.assertIs(self.transport.state, State.FLUSHING)
        self.advance(4)
        self.assertReset()
        self.assertIs(self.end().outcome, Outcome.FLUSH_EXPIRED)

    def test_stepLingering(self) -> None:
        """
        Nor does it use up the time of a peer that goes on sending.
        """
        self.connect()
        self.transport.loseConnection()
        self.below.writeConnectionLost()
        self.advance(1)
        self.clock.advance(3600)
        self.assertIs(self.transport.state, State.LINGERING)
        self.below.dataReceived(b"more")
        self.advance(1)
        self.assertIs(self.transport.state, State.LINGERING)
        self.below.readConnectionLost()
        self.assertIs(self.reports[0].outcome, Outcome.CLEAN)

    def test_stepBack(self) -> None:
        """
        A step back puts nothing off for ever.
        """
        self.connect()
        self.owe(1000)
        self.transport.loseConnection()
        self.advance(2)
        self.clock.rightNow -= 1
        self.advance(12)
        self.assertReset()
        self.end()

    def test_cancelled(self) -> None:
        """
        A Deferred of C{whenTerminated} that is cancelled is forgotten; the others
        fire.
        """
        self.connect()
        cancelled = self.transport.whenTerminated()
        cancelled.addErrback(lambda failure: None)
        other = self.transport.whenTerminated()
        reference = weakref.ref(cancelled)
        cancelled.cancel()
        del cancelled
        self.assertIs(reference(), None)
        report = self.end()
        self.assertIs(self.successResultOf(other), report)

    def test_trackCoroutine(self) -> None:
        """
        A coroutine is no Deferred, which is said at once, and nothing is held.
        """
        self.connect()

        async def work() -> None:
            pass

        coroutine = work()
        error = self.assertRaises(TypeError, self.transport.track, coroutine)
        coroutine.close()
        self.assertIn("must be a Deferred", str(error))
        self.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.fins(), 1)
        self.end()

    def test_closeConnection(self) -> None:
        """
        C{closeConnection} leaves nothing to wait for, in each state.
        """
        befores: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: self.transport.hold(),
            lambda: self.transport.loseConnection(),
            lambda: self.transport.loseWriteConnection(),
            lambda: self.below.readConnectionLost(),
        )
        for before in befores:
            self.connect()
            self.owe(1000)
            before()
            self.transport.closeConnection()
            self.assertIs(self.transport.state, State.CLOSED)
            self.transport.write(b"late")
            (report,) = self.reports
            self.assertIs(report.outcome, Outcome.CLOSED)
            self.assertEqual(report.bytesUnacknowledged, 1000)
            self.assertEqual(self.wire.written, b"")
            self.end()


class Held(TerminationMixin, Protocol):
    """
    Has work that is never done.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.hold = self.transport.hold()  # type: ignore

    def dataReceived(self, data: bytes) -> None:
        self.factory.received.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(reason)

    def terminated(self, report: Any) -> None:
        self.factory.reports.append(report)


class StopTests(ReactorBuilder):
    """
    C{reactor.stop()} without a drain, while work is held for a peer that has
    half-closed.
    """

    def stops(self, kind: str) -> None:
        loop = self.buildReactor()
        factory: Any = Factory.forProtocol(Held)
        factory.noisy = False
        factory.received, factory.lost, factory.reports = [], [], []
        if kind == "unix":
            folder = tempfile.mkdtemp()
            self.addCleanup(rmtree, folder)
            address: Any = str(Path(folder, "socket"))
            loop.listenUNIX(address, factory)
        else:
            if kind == "tls":
                port = loop.listenSSL(
                    0, factory, serverOptions(), interface="127.0.0.1"
                )
            else:
                port = loop.listenTCP(0, factory, interface="127.0.0.1")
            address = ("127.0.0.1", port.getHost().port)

        def client() -> None:
            family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
            with socket.socket(family) as plain:
                plain.settimeout(SECONDS)
                plain.connect(address)
                connected = wrap(plain) if kind == "tls" else plain
                connected.sendall(b"?")
                endWriting(connected)
                loop.callFromThread(loop.callLater, 0.1, loop.stop)
                with contextlib.suppress(OSError):
                    receive(connected)

        thread = threading.Thread(target=client)
        loop.callWhenRunning(thread.start)
        self.runReactor(loop, SECONDS)
        thread.join(SECONDS)
        self.assertEqual(factory.received, [b"?"], kind)
        self.assertEqual((len(factory.lost), len(factory.reports)), (1, 1), kind)
        (report,) = factory.reports
        self.assertIs(report.outcome, Outcome.LOST, kind)

    def test_tcp(self) -> None:
        """
        Over TCP it is told, and is lost.
        """
        self.stops("tcp")

    def test_unix(self) -> None:
        """
        Over UNIX it is the same.
        """
        self.stops("unix")

    def test_tls(self) -> None:
        """
        Over TLS it is the same.
        """
        needs("OpenSSL")
        self.stops("tls")


globals().update(StopTests.makeTestCaseClasses())
