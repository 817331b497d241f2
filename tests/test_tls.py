"""
TLS: close_notify and FIN, and peers that are not Twisted.
"""

from __future__ import annotations

import gc
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Optional

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import TimeoutFactory
from twisted.test import iosim
from twisted.test.iosim import FakeTransport
from twisted.trial.unittest import SkipTest
from zope.interface import implementer

from twisted_term import (
    Initiator,
    Outcome,
    TerminatingFactory,
    TerminationMixin,
    TerminationPolicy,
)

from .certificates import (
    VERSIONS,
    certificate,
    certificateFile,
    clientOptions,
    isTruncation,
    needs,
    serverOptions,
    wrap,
)
from .support import SECONDS, SocketTestCase

_SIZE = 1_000_000
_UPLOAD = b"u" * 4_000_000
_PIPELINED = b"GET / HTTP/1.0\r\n\r\n" * 1000
_HEAD = b"HTTP/1.0 413 Too much\r\n\r\n"
_QUICK = TerminationPolicy(
    lingerIdle=0.3, lingerTime=0.5, halfCloseIdle=0.5, handshakeTimeout=0.3
)


class Answering(Protocol):
    """
    Answers the first bytes that come, whatever follows, and closes.
    """

    asked = False

    def dataReceived(self, data: bytes) -> None:
        if not self.asked:
            self.asked = True
            self.answer()

    def answer(self) -> None:
        self.transport.write(_HEAD + b"a" * _SIZE)
        self.transport.loseConnection()


class Late(Answering):
    """
    Has a response under way that takes a while.
    """

    def answer(self) -> None:
        hold = getattr(self.transport, "hold", lambda: None)()

        def late() -> None:
            self.transport.write(_HEAD + b"a" * _SIZE)
            if hold is not None:
                hold.release()
            self.transport.loseConnection()

        reactor.callLater(0.1, late)


class HalfClosing(Answering):
    """
    Closes its own direction only.
    """

    def answer(self) -> None:
        self.transport.write(_HEAD + b"a" * _SIZE)
        self.transport.loseWriteConnection()


def receive(client: Any) -> tuple[int, str]:
    """
    Bytes until the end, and what that was.
    """
    count = 0
    try:
        while True:
            data = client.recv(1 << 16)
            if not data:
                return count, "close_notify"
            count += len(data)
    except ssl.SSLError as error:
        if not isTruncation(error):
            raise
        return count, "truncated"
    except ConnectionResetError:
        return count, "reset"


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(SECONDS)
    return client


def upload(port: int, version: str, request: bytes) -> tuple[int, str]:
    """
    Python's ssl: all of the request before the first read.
    """
    with wrap(connect(port), version) as client:
        client.sendall(request)
        return receive(client)


def openssl(port: int, version: str, request: bytes, file: str) -> tuple[int, str]:
    """
    openssl s_client, which reads and writes at the same time.
    """
    if shutil.which("openssl") is None:
        raise SkipTest("no openssl command")
    number = version.lower().replace("v", "")
    done = subprocess.run(
        ["openssl", "s_client", "-quiet", "-verify_quiet", "-CAfile", file]
        + ["-servername", "localhost"]
        + ["-connect", f"127.0.0.1:{port}", f"-{number}"],
        input=request,
        capture_output=True,
        timeout=SECONDS,
    )
    errors = done.stderr.decode().strip()
    return len(done.stdout), f"{errors} {done.returncode}" if errors else "close_notify"


def curl(port: int, version: str, request: bytes, file: str) -> tuple[int, str]:
    """
    curl uploads; the answer has no length but the end of the connection.
    """
    if shutil.which("curl") is None:
        raise SkipTest("no curl command")
    number = version[-3:].replace("_", ".")
    address = f"localhost:{port}"
    done = subprocess.run(
        ["curl", "-sS", "--no-alpn", "--cacert", file, "-H", "Expect:"]
        + ["--tls-max", number, f"--tlsv{number}", "--data-binary", "@-"]
        + ["--resolve", f"{address}:127.0.0.1", f"https://{address}/"],
        input=request,
        capture_output=True,
        timeout=SECONDS,
    )
    errors = done.stderr.decode().strip()
    return len(_HEAD + done.stdout), errors or "close_notify"


class TLSTestCase(SocketTestCase):
    def setUp(self) -> None:
        needs("cryptography", "OpenSSL")

    def listenTLS(self, factory: Any, version: str = "TLSv1_3") -> int:
        self.addCleanup(deferLater, reactor, 0.3)
        port = reactor.listenSSL(
            0, factory, serverOptions(version), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def serve(
        self,
        protocol: type[Protocol],
        policy: Optional[TerminationPolicy] = None,
        version: str = "TLSv1_3",
    ) -> Any:
        """
        Listen with it, ours by mixin.

        @return: the factory, with its C{port}, and the C{reports}.
        """
        factory: Any = Factory()
        factory.noisy = False
        factory.reports = []
        factory.lost = []

        class Reporting(TerminationMixin, protocol):  # type: ignore
            terminationPolicy = policy

            def connectionLost(self, reason: Any = None) -> None:
                factory.lost.append(reason)

            def terminated(self, report: Any) -> None:
                factory.reports.append(report)

        factory.protocol = Reporting
        factory.port = self.listenTLS(factory, version)
        return factory

    def serveBare(self, protocol: type[Protocol], version: str = "TLSv1_3") -> int:
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        return self.listenTLS(factory, version)

    def wrapped(self, port: int) -> Any:
        return deferToThread(lambda: wrap(connect(port)))

    @inlineCallbacks
    def reported(self, factory: Any) -> Any:
        yield self.until(lambda: factory.reports)
        self.assertEqual(len(factory.reports), 1)
        return factory.reports[0]


class PeerTests(TLSTestCase):
    """
    All bytes of an early answer, and close_notify behind them, with TLS 1.2
    and TLS 1.3.
    """

    @inlineCallbacks
    def answers(self, client: Callable[..., Any], *arguments: Any) -> Any:
        for version in VERSIONS:
            for request in _UPLOAD, _PIPELINED:
                factory = self.serve(Answering, version=version)
                found = yield deferToThread(
                    client, factory.port, version, request, *arguments
                )
                self.assertEqual(found, (len(_HEAD) + _SIZE, "close_notify"))
                report = yield self.reported(factory)
                self.assertIs(report.outcome, Outcome.CLEAN)
                self.assertIs(report.delivered, True)
                self.assertIs(report.closeNotifySent, True)

    def test_openssl(self) -> Any:
        return self.answers(openssl, certificateFile(self))

    def test_curl(self) -> Any:
        return self.answers(curl, certificateFile(self))

    def test_python(self) -> Any:
        return self.answers(upload)


class HalfCloseTests(TLSTestCase):
    @inlineCallbacks
    def test_loseWriteConnection(self) -> Any:
        """
        Bare Twisted's passes TLS by: the peer takes it for an attack.  Here
        close_notify comes first, and what the peer sends is read to its end.
        """

        def client(port: int, version: str) -> tuple[int, str]:
            with wrap(connect(port), version) as tls:
                tls.sendall(b"?")
                found = receive(tls)
                if found[1] == "close_notify":
                    tls.sendall(_UPLOAD)
                    tls.unwrap()
                return found

        class Counting(HalfClosing):
            count = 0

            def dataReceived(self, data: bytes) -> None:
                Counting.count += len(data)
                super().dataReceived(data)

        for version in VERSIONS:
            port = self.serveBare(HalfClosing, version)
            found = yield deferToThread(client, port, version)
            self.assertEqual(found[1], "truncated")
            factory = self.serve(Counting, version=version)
            Counting.count = 0
            found = yield deferToThread(client, factory.port, version)
            self.assertEqual(found, (len(_HEAD) + _SIZE, "close_notify"))
            report = yield self.reported(factory)
            self.assertEqual(Counting.count, 1 + len(_UPLOAD))
            self.assertIs(report.outcome, Outcome.CLEAN)
            self.assertEqual(
                (report.closeNotifySent, report.closeNotifyReceived), (True, True)
            )
        self.flushLoggedErrors(AttributeError)  # bare Twisted's own

    @inlineCallbacks
    def test_peerCloseNotify(self) -> Any:
        """
        A peer that sends close_notify and goes on reading (RFC 8446, 6.1) gets
        nothing from bare Twisted, and here all of the response.
        """
        from OpenSSL import SSL

        def client(port: int) -> tuple[int, bool]:
            tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), connect(port))
            tls.setblocking(True)
            tls.set_connect_state()
            tls.do_handshake()
            tls.send(b"?")
            tls.shutdown()
            count = 0
            try:
                while True:
                    count += len(tls.recv(1 << 16))
            except SSL.ZeroReturnError:
                return count, True
            except SSL.Error:
                return count, False
            finally:
                tls.close()

        found = yield deferToThread(client, self.serveBare(Late))
        self.assertEqual(found[0], 0)
        factory = self.serve(Late)
        found = yield deferToThread(client, factory.port)
        self.assertEqual(found, (len(_HEAD) + _SIZE, True))
        report = yield self.reported(factory)
        self.assertEqual(
            (report.outcome, report.initiator), (Outcome.CLEAN, Initiator.PEER)
        )
        self.assertIs(report.closeNotifyReceived, True)

    @inlineCallbacks
    def test_neverCloses(self) -> Any:
        """
        Bare Twisted waits for the peer's close_notify for ever; here the wait
        has the policy's bound.
        """

        class Watching(Answering):
            lost = False

            def connectionLost(self, reason: Any = None) -> None:
                Watching.lost = True

        with (yield self.wrapped(self.serveBare(Watching))) as bare:
            bare.sendall(b"?")
            yield deferToThread(receive, bare)
            factory = self.serve(Answering, _QUICK)
            with (yield self.wrapped(factory.port)) as tls:
                tls.sendall(b"?")
                found = yield deferToThread(receive, tls)
                self.assertEqual(found[1], "close_notify")
                report = yield self.reported(factory)
            self.assertIs(report.outcome, Outcome.LINGER_EXPIRED)
            self.assertIs(report.closeNotifyReceived, False)
            self.assertIn("no close_notify received", str(report))
            self.assertFalse(Watching.lost)
        yield self.until(lambda: Watching.lost)

    @inlineCallbacks
    def test_truncated(self) -> Any:
        """
        A peer's FIN without close_notify may be anybody's: the application gets
        C{ConnectionLost}, and the report says so.
        """

        def client(port: int) -> None:
            with wrap(connect(port)) as tls:
                tls.sendall(b"?")
                tls.recv(1)  # and the session tickets with it

        class Echo(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data)

        factory = self.serve(Echo)
        yield deferToThread(client, factory.port)
        report = yield self.reported(factory)
        self.assertEqual(
            (report.outcome, report.initiator), (Outcome.TRUNCATED, Initiator.PEER)
        )
        self.assertIs(report.closeNotifyReceived, False)
        self.assertIs(report.delivered, True)
        factory.lost[0].trap(ConnectionLost)


class HandshakeTests(TLSTestCase):
    @inlineCallbacks
    def test_neverFinished(self) -> Any:
        """
        A handshake that never finishes is reset at its bound, also when an end
        waits behind it; what was written is not called delivered.
        """

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")
                self.transport.loseConnection()

        for protocol, delivered in (Protocol, True), (Greeting, False):
            factory = self.serve(protocol, _QUICK)
            with connect(factory.port):
                report = yield self.reported(factory)
            self.assertIs(report.outcome, Outcome.TLS_FAILED)
            self.assertIs(report.delivered, delivered)
            factory.lost[0].trap(ConnectionAborted)

    @inlineCallbacks
    def test_endsBefore(self) -> Any:
        """
        What was written before the handshake arrives after it, then
        close_notify; where nothing was, FIN comes at once.
        """

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")
                self.transport.loseConnection()

        class Refusing(Protocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        factory = self.serve(Greeting)
        client = connect(factory.port)
        yield deferLater(reactor, 0.05)
        with (yield deferToThread(wrap, client)) as tls:
            found = yield deferToThread(receive, tls)
        self.assertEqual(found, (5, "close_notify"))
        yield self.reported(factory)
        with connect(self.serve(Refusing).port) as client:
            self.assertEqual((yield deferToThread(client.recv, 10)), b"")

    @inlineCallbacks
    def test_halfClosesBefore(self) -> Any:
        """
        A half-close with nothing written waits for the handshake; the
        application goes on reading.  One that is a close in the end does not.
        """

        @implementer(IHalfCloseableProtocol)
        class Listening(Protocol):
            received = told = 0

            def connectionMade(self) -> None:
                self.transport.loseWriteConnection()

            def dataReceived(self, data: bytes) -> None:
                Listening.received += len(data)

            def writeConnectionLost(self) -> None:
                Listening.told += 1

            def readConnectionLost(self) -> None:
                pass

        class Refusing(Protocol):
            def connectionMade(self) -> None:
                self.transport.loseWriteConnection()
                self.transport.loseConnection()

        for version in VERSIONS:
            factory = self.serve(Listening, version=version)
            Listening.received = Listening.told = 0

            def client(port: int, version: str) -> tuple[int, str]:
                with wrap(connect(port), version) as tls:
                    found = receive(tls)
                    tls.sendall(_UPLOAD)
                    tls.unwrap()
                    return found

            found = yield deferToThread(client, factory.port, version)
            self.assertEqual(found, (0, "close_notify"))
            report = yield self.reported(factory)
            self.assertIs(report.outcome, Outcome.CLEAN)
            self.assertEqual((Listening.received, Listening.told), (len(_UPLOAD), 1))
        with connect(self.serve(Refusing).port) as plain:
            self.assertEqual((yield deferToThread(plain.recv, 10)), b"")

    @inlineCallbacks
    def test_endsInTheMidst(self) -> Any:
        """
        A close after the ClientHello, before the client has finished: it sees
        the end of a stream, and no reset.
        """

        class Holding(Protocol):
            def connectionMade(self) -> None:
                made.append(self.transport)

        made: list[Any] = []
        factory = self.serve(Holding)
        from OpenSSL import SSL

        tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        tls.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            tls.do_handshake()
        with connect(factory.port) as client:
            client.sendall(tls.bio_read(1 << 16))
            hello = yield deferToThread(client.recv, 1 << 16)
            made[0].loseConnection()
            yield deferLater(reactor, 0.05)
            tls.bio_write(hello)
            tls.do_handshake()
            client.sendall(tls.bio_read(1 << 16))
            yield deferLater(reactor, 0.05)
            self.assertEqual((yield deferToThread(client.recv, 10)), b"")
            client.shutdown(socket.SHUT_WR)
            report = yield self.reported(factory)
        self.assertIs(report.initiator, Initiator.LOCAL)
        self.assertIs(report.outcome, Outcome.CLEAN)

    @inlineCallbacks
    def test_probe(self) -> Any:
        """
        A client that connects and closes, as a health check does, has failed at TLS.
        """
        factory = self.serve(Protocol)
        connect(factory.port).close()
        report = yield self.reported(factory)
        self.assertEqual(
            (report.outcome, report.initiator), (Outcome.TLS_FAILED, Initiator.PEER)
        )

    @inlineCallbacks
    def test_alert(self) -> Any:
        """
        The alert that says what is wrong arrives, although the peer is still
        sending; its connection is not reset.
        """

        def client(port: int) -> tuple[int, str]:
            with connect(port) as plain:
                plain.sendall(b"\x16\x03\x01\x00\x05hello")
                plain.sendall(_UPLOAD)
                plain.shutdown(socket.SHUT_WR)
                time.sleep(0.1)
                kind = plain.recv(1)
                return kind[0], receive(plain)[1]

        factory = self.serve(Protocol)
        found = yield deferToThread(client, factory.port)
        self.assertEqual(found, (21, "close_notify"))  # an alert, RFC 8446, 5.1
        report = yield self.reported(factory)
        self.assertEqual(
            (report.outcome, report.initiator), (Outcome.TLS_FAILED, Initiator.PEER)
        )
        self.assertGreater(report.bytesDiscarded, len(_UPLOAD) / 2)

    @inlineCallbacks
    def test_producerOfAFailure(self) -> Any:
        """
        When TLS has failed, a producer is told to stop.
        """

        class Producing(Protocol):
            stopped = 0

            def connectionMade(self) -> None:
                self.transport.registerProducer(self, True)

            def stopProducing(self) -> None:
                Producing.stopped += 1

            def pauseProducing(self) -> None:
                pass

            resumeProducing = pauseProducing

        factory = self.serve(Producing)
        with connect(factory.port) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            yield self.until(lambda: Producing.stopped)
        yield self.reported(factory)
        self.assertEqual(Producing.stopped, 1)

    @inlineCallbacks
    def test_listener(self) -> Any:
        """
        An application that wants to know of the handshake is told.
        """

        @implementer(IHandshakeListener)
        class Listening(Protocol):
            done = 0

            def handshakeCompleted(self) -> None:
                Listening.done += 1

        for around in TerminatingFactory, lambda factory: factory:
            factory: Any = Factory.forProtocol(Listening)
            factory.noisy = False
            before = Listening.done
            with (yield self.wrapped(self.listenTLS(around(factory)))):
                yield self.until(lambda before=before: Listening.done > before)


class WrapperTests(TLSTestCase):
    """
    TLS among other wrappers, and what is left of it.
    """

    def wrappedTLS(self, factory: Any, options: Any = None) -> Any:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return TLSMemoryBIOFactory(options or serverOptions(), False, factory)

    @inlineCallbacks
    def test_noCycle(self) -> Any:
        """
        When it has ended, nothing waits for the garbage collector.
        """

        class Watched(Answering):
            def answer(self) -> None:
                found.extend(
                    map(
                        weakref.ref,
                        (self.transport, self.transport._connection.beneath),
                    )
                )
                super().answer()

        def client() -> None:
            with wrap(connect(factory.port)) as tls:
                tls.sendall(b"?")
                receive(tls)
                tls.unwrap()

        found: list[Any] = []
        factory = self.serve(Watched)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        yield deferToThread(client)
        yield self.reported(factory)
        yield deferLater(reactor, 0.01)
        self.assertEqual([reference() for reference in found], [None, None])

    @inlineCallbacks
    def test_timeoutBeneath(self) -> Any:
        """
        A TimeoutFactory beneath ends it as C{loseConnection} would.
        """
        reports: list[Any] = []

        class Reporting(TerminationMixin, Protocol):
            def terminated(self, report: Any) -> None:
                reports.append(report)

        factory = TerminatingFactory(Factory.forProtocol(Reporting))
        port = self.listen(TimeoutFactory(self.wrappedTLS(factory), 0.3))
        with (yield self.wrapped(port)) as tls:
            self.assertEqual((yield deferToThread(receive, tls)), (0, "close_notify"))
        yield self.until(lambda: reports)
        self.assertIs(reports[0].outcome, Outcome.CLEAN)

    @inlineCallbacks
    def test_twice(self) -> Any:
        """
        TLS over TLS: garbage beneath is a failure, and an end in the handshake
        leaves no timer.
        """
        for end in "garbage", "abort":
            made: list[Any] = []
            reports: list[Any] = []

            class Reporting(TerminationMixin, Protocol):
                def connectionMade(self, made: Any = made) -> None:
                    made.append(self.transport)

                def terminated(self, report: Any, reports: Any = reports) -> None:
                    reports.append(report)

            inner = TerminatingFactory(Factory.forProtocol(Reporting))
            port = self.listen(self.wrappedTLS(self.wrappedTLS(inner)))
            with connect(port) as client:
                yield self.until(lambda made=made: made)
                if end == "abort":
                    made[0].abortConnection()
                else:
                    client.sendall(b"garbage")
                    client.shutdown(socket.SHUT_WR)
                yield self.until(lambda reports=reports: reports)
            self.assertIs(
                reports[0].outcome,
                Outcome.ABORTED if end == "abort" else Outcome.TLS_FAILED,
            )

    def test_inMemory(self) -> None:
        """
        Over a transport that cannot half-close, a peer that ends without
        close_notify has truncated, too.
        """
        reports: list[Any] = []

        class Reporting(TerminationMixin, Protocol):
            def terminated(self, report: Any) -> None:
                reports.append(report)

        from twisted.protocols.tls import TLSMemoryBIOFactory

        factory = Factory.forProtocol(Reporting)
        server = self.wrappedTLS(factory).buildProtocol(None)
        client = TLSMemoryBIOFactory(
            clientOptions(), True, Factory.forProtocol(Protocol)
        ).buildProtocol(None)
        ends = FakeTransport(server, True), FakeTransport(client, False)
        pump = iosim.connect(server, ends[0], client, ends[1])
        pump.flush()
        ends[1].loseConnection()
        pump.flush()
        (report,) = reports
        self.assertEqual(
            (report.outcome, report.initiator), (Outcome.TRUNCATED, Initiator.PEER)
        )


class EverywhereTests(TLSTestCase):
    """
    Wherever TLS stands, an early answer arrives whole.
    """

    @inlineCallbacks
    def arrives(self, port: int, before: Callable[[Any], None] = lambda _: None) -> Any:
        def client() -> tuple[int, str]:
            plain = connect(port)
            before(plain)
            with wrap(plain) as tls:
                tls.sendall(_UPLOAD)
                return receive(tls)

        found = yield deferToThread(client)
        self.assertEqual(found, (len(_HEAD) + _SIZE, "close_notify"))

    @inlineCallbacks
    def test_string(self) -> Any:
        """
        C{term:ssl:}
        """
        self.addCleanup(deferLater, reactor, 0.3)
        listen = f"term:ssl:0:interface=127.0.0.1:privateKey={certificateFile(self)}"
        port = yield serverFromString(reactor, listen).listen(
            Factory.forProtocol(Answering)
        )
        self.addCleanup(port.stopListening)
        yield self.arrives(port.getHost().port)

    @inlineCallbacks
    def test_factories(self) -> Any:
        """
        Twisted's TLS factory around a wrapped one, and in one.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory

        def tls(factory: Any) -> Any:
            return TLSMemoryBIOFactory(serverOptions(), False, factory)

        for around in (
            lambda factory: tls(TerminatingFactory(factory)),
            lambda factory: TerminatingFactory(tls(factory)),
            lambda factory: TerminatingFactory(tls(TerminatingFactory(factory))),
        ):
            yield self.arrives(self.listen(around(Factory.forProtocol(Answering))))

    @inlineCallbacks
    def test_startTLS(self) -> Any:
        """
        C{startTLS} on a wrapped transport.
        """

        class Starting(TerminationMixin, Answering):
            started = False

            def dataReceived(self, data: bytes) -> None:
                if self.started:
                    super().dataReceived(data)
                else:
                    self.started = True
                    self.transport.write(b"ready")
                    self.transport.startTLS(serverOptions())

            def terminated(self, report: Any) -> None:
                reports.append((report, secure(self.transport)))

        def secure(transport: Any) -> bool:
            return ISSLTransport.providedBy(transport)

        def start(plain: socket.socket) -> None:
            plain.sendall(b"STARTTLS")
            self.assertEqual(plain.recv(5), b"ready")

        reports: list[Any] = []
        yield self.arrives(self.listen(Factory.forProtocol(Starting)), start)
        yield self.until(lambda: reports)
        ((report, isSecure),) = reports
        self.assertTrue(isSecure)
        self.assertIs(report.outcome, Outcome.CLEAN)
        self.assertIs(report.closeNotifySent, True)

    @inlineCallbacks
    def test_clients(self) -> Any:
        """
        A client's C{loseConnection}, by C{term:tls:} and by Twisted's
        C{wrapClientTLS} around C{term:tcp:}, which hands out the protocol.
        """

        class Asking(TerminationMixin, Protocol):
            def connectionMade(self) -> None:
                self.transport.write(_UPLOAD)
                self.transport.loseConnection()

            def terminated(self, report: Any) -> None:
                reports.append(report)

        class Counting(Protocol):
            def dataReceived(self, data: bytes) -> None:
                counts[-1] += len(data)

        reports: list[Any] = []
        counts: list[int] = []
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "root.pem").write_bytes(certificate())
        roots = str(folder.absolute())
        for connecting in (
            lambda port: clientFromString(
                reactor, f"term:tls:localhost:{port}:trustRoots={roots}"
            ),
            lambda port: wrapClientTLS(
                clientOptions(), clientFromString(reactor, f"term:tcp:localhost:{port}")
            ),
        ):
            counts.append(0)
            port = self.listenTLS(Factory.forProtocol(Counting))
            made = yield connecting(port).connect(Factory.forProtocol(Asking))
            self.assertIsInstance(made, Asking)
            yield self.until(lambda: len(reports) == len(counts))
            self.assertIs(reports[-1].outcome, Outcome.CLEAN)
            self.assertEqual(
                (reports[-1].closeNotifySent, reports[-1].closeNotifyReceived),
                (True, True),
            )
        self.assertEqual(counts, [len(_UPLOAD)] * 2)

    @inlineCallbacks
    def test_untrusted(self) -> Any:
        """
        A client that does not trust the server says why, and that TLS failed.
        """
        from OpenSSL.SSL import Error

        class Asking(TerminationMixin, Protocol):
            def connectionLost(self, reason: Any = None) -> None:
                lost.append(reason)

            def terminated(self, report: Any) -> None:
                reports.append(report)

        lost: list[Any] = []
        reports: list[Any] = []
        port = self.serveBare(Protocol)
        endpoint = clientFromString(reactor, f"term:tls:localhost:{port}")
        yield endpoint.connect(Factory.forProtocol(Asking))
        yield self.until(lambda: reports)
        self.assertIs(reports[0].outcome, Outcome.TLS_FAILED)
        lost[0].trap(Error)


class Capture:
    """
    What goes over the wire, as tshark sees it.
    """

    _FIELDS = (
        "tcp.srcport",
        "tcp.flags.fin",
        "tcp.flags.reset",
        "tls.alert_message.desc",
        "tcp.seq",
        "tcp.len",
        "tcp.ack",
    )

    def __init__(self, test: Any, port: int) -> None:
        if shutil.which("tshark") is None:
            raise SkipTest("no tshark command")
        self.port = port
        folder = Path(test.mktemp())
        folder.mkdir()
        self.keys, self._file = folder / "keys", folder / "packets"
        self._process = subprocess.Popen(
            ("tshark", "-i", "lo", "-f", f"tcp port {port}", "-w", str(self._file)),
            stderr=subprocess.PIPE,
        )
        test.addCleanup(self._process.kill)
        assert self._process.stderr is not None
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        for line in self._process.stderr:
            if b"Capture started" in line:
                break
        else:
            raise SkipTest("tshark may not capture here")
        timer.cancel()
        time.sleep(0.2)

    def packets(self) -> list[dict[str, str]]:
        """
        All that was captured, decrypted.
        """
        time.sleep(0.5)
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=SECONDS)
        fields = [word for name in self._FIELDS for word in ("-e", name)]
        found = subprocess.run(
            ["tshark", "-r", str(self._file), "-T", "fields", *fields]
            + ["-o", f"tls.keylog_file:{self.keys}"]
            + ["-d", f"tcp.port=={self.port},tls"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        return [
            dict(zip(self._FIELDS, line.split("\t")))
            for line in found.stdout.splitlines()
        ]


class WireTests(TLSTestCase):
    """
    The order of things on the wire.
    """

    @inlineCallbacks
    def capture(self, protocol: type[Protocol], version: str) -> Any:
        factory = self.serve(protocol, version=version)
        capture = yield deferToThread(Capture, self, factory.port)

        def client() -> None:
            keys = str(capture.keys)
            with wrap(connect(factory.port), version, keylog_filename=keys) as tls:
                tls.sendall(b"?")
                receive(tls)

        yield deferToThread(client)
        yield self.reported(factory)
        packets = yield deferToThread(capture.packets)
        sent = [
            packet for packet in packets if packet["tcp.srcport"] == str(capture.port)
        ]
        received = [packet for packet in packets if packet not in sent]
        return sent, received

    @staticmethod
    def _having(packets: list[dict[str, str]], name: str, *values: str) -> list[int]:
        return [i for i, packet in enumerate(packets) if packet[name] in values]

    @inlineCallbacks
    def test_loseConnection(self) -> Any:
        """
        close_notify, FIN, and the peer's ACK of that.
        """

        class Closing(Answering):
            def answer(self) -> None:
                self.transport.write(b"answer")
                self.transport.loseConnection()

        for version in VERSIONS:
            sent, received = yield self.capture(Closing, version)
            (notify,) = self._having(sent, "tls.alert_message.desc", "0")
            fin = self._having(sent, "tcp.flags.fin", "1", "True")[
                0
            ]  # or it is repeated
            self.assertLessEqual(notify, fin)
            self.assertEqual(self._having(sent, "tcp.flags.reset", "1", "True"), [])
            number = int(sent[fin]["tcp.seq"]) + int(sent[fin]["tcp.len"]) + 1
            self.assertTrue(self._having(received, "tcp.ack", str(number)))

    @inlineCallbacks
    def test_abortConnection(self) -> Any:
        """
        RST, and nothing else.
        """

        class Aborting(Answering):
            def answer(self) -> None:
                self.transport.write(b"unsent")
                self.transport.abortConnection()

        for version in VERSIONS:
            sent, _ = yield self.capture(Aborting, version)
            self.assertEqual(
                self._having(sent, "tcp.flags.reset", "1", "True"), [len(sent) - 1]
            )
            self.assertEqual(self._having(sent, "tcp.flags.fin", "1", "True"), [])
            self.assertEqual(self._having(sent, "tls.alert_message.desc", "0"), [])
