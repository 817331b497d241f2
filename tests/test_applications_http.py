"""
HTTP, as a connection's end sees it: what is in flight, a peer that goes away or
only half-closes, and a drain.  Over TCP, TLS and HTTP/2, with curl, httpx and
Python's http.client, and bare Twisted beside it.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from typing import Any, Callable, Optional
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data

from twisted_term import TerminatingFactory, TerminationPolicy

from .certificates import certificateFile, needs
from .support import SECONDS, SocketTestCase, receive
from .test_probe_confirmed import goAway, twoRequests

_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Poll(Resource):
    """
    Answers when the test says so, and notes the clients that have gone.
    """

    isLeaf = True

    def __init__(self, begin: Callable[[Any], object] = lambda request: None) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.gone: list[Any] = []
        self._begin = begin

    def render(self, request: Any) -> int:
        self.requests.append(request)
        request.notifyFinish().addErrback(self.gone.append)
        self._begin(request)
        return NOT_DONE_YET


class HTTPTestCase(SocketTestCase):
    """
    A C{Site}, and the transports of its connections.
    """

    def site(self, resource: Any) -> Site:
        self.transports: list[Any] = []
        self.reports: list[Any] = []
        transports, reports = self.transports, self.reports

        class Noting(Site):
            def buildProtocol(self, addr: Any) -> Any:
                protocol = super().buildProtocol(addr)
                connected = protocol.makeConnection

                def makeConnection(transport: Any) -> None:
                    transports.append(transport)
                    if hasattr(transport, "whenTerminated"):
                        transport.whenTerminated().addCallback(reports.append)
                    connected(transport)

                protocol.makeConnection = makeConnection
                return protocol

        site = Noting(resource)
        site.noisy = False
        site.log = lambda request: None
        return site

    def serve(
        self, resource: Any, term: bool = True, policy: Optional[Any] = None
    ) -> int:
        site = self.site(resource)
        return self.listen(TerminatingFactory(site, policy) if term else site)

    @inlineCallbacks
    def serveTLS(self, resource: Any, term: bool) -> Any:
        needs("OpenSSL", "h2")
        path = certificateFile(self)
        text = f"ssl:0:interface=127.0.0.1:privateKey={path}"
        text = "term:" * term + text
        self.addCleanup(deferLater, reactor, 0.3)
        port = yield serverFromString(reactor, text).listen(self.site(resource))
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def connect(self, port: int, data: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)
        client.sendall(data)
        return client

    def read(self, client: socket.socket) -> Any:
        """
        A Deferred of all that comes until FIN.
        """

        def read() -> bytes:
            data = b""
            while more := client.recv(1 << 16):
                data += more
            return data

        return deferToThread(read)


def curl(*arguments: str) -> Any:
    command = shutil.which("curl")
    if command is None:
        raise SkipTest("curl is not installed")
    return deferToThread(
        subprocess.run,
        [command, "-sk", *arguments],
        capture_output=True,
        timeout=SECONDS,
    )


class GoneTests(HTTPTestCase):
    """
    A client that goes away, or only half-closes, while its answer is being made.
    """

    @inlineCallbacks
    def test_abandoned(self) -> Any:
        """
        C{curl} gives up, over HTTP/1.1, TLS and HTTP/2: the application is told,
        as in bare Twisted, and the connection ends.
        """
        self.patience = 5  # keep-alive alone would take a minute
        for term in (False, True):
            for scheme, version in (
                ("http", "--http1.0"),
                ("http", "--http1.1"),
                ("https", "--http1.1"),
                ("https", "--http2"),
            ):
                poll = Poll()
                if scheme == "https":
                    port = yield self.serveTLS(poll, term)
                else:
                    port = self.serve(poll, term)
                url = f"{scheme}://127.0.0.1:{port}/"
                yield curl("--max-time", "0.5", version, url)
                yield self.until(lambda poll=poll: poll.gone)
                self.assertEqual(len(poll.gone), 1)
                if term:
                    yield self.until(lambda: self.reports)

    @inlineCallbacks
    def test_reset(self) -> Any:
        """
        A client that resets behind its FIN is noticed, too.
        """
        poll = Poll()
        client = self.connect(self.serve(poll), _GET)
        yield self.until(lambda: poll.requests)
        client.shutdown(socket.SHUT_WR)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield deferLater(reactor, 0.05)
        client.close()
        yield self.until(lambda: poll.gone)

    @inlineCallbacks
    def test_halfClosed(self) -> Any:
        """
        A client that half-closes gets its late answer whole, with interim
        responses before it that C{http.client} takes; bare Twisted drops the
        answer.
        """

        def fetch(port: int) -> tuple[bytes, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", port, SECONDS)
            connection.request("GET", "/")
            connection.sock.shutdown(socket.SHUT_WR)
            recorded = _Recorded(connection.sock)
            connection.sock = recorded
            try:
                return connection.getresponse().read(), recorded.data
            finally:
                connection.close()

        for term in (False, True):
            poll = Poll()
            port = self.serve(poll, term)
            fetching = deferToThread(fetch, port)
            yield self.until(lambda poll=poll: poll.requests)
            if not term:
                yield self.failUnlessFailure(fetching, http.client.RemoteDisconnected)
                continue
            yield deferLater(reactor, 1.5)
            poll.requests[0].write(b"late " * 100_000)
            poll.requests[0].finish()
            body, raw = yield fetching
            self.assertEqual(body, b"late " * 100_000)
            self.assertTrue(raw.startswith(_CONTINUE))
            yield self.until(lambda: self.reports)
            self.assertTrue(self.reports[0].delivered)
            self.assertEqual(poll.gone, [])

    @inlineCallbacks
    def test_halfClosedTLS(self) -> Any:
        """
        Over HTTP/2, a client that ends its direction of TLS gets its late
        answer, with PING before it.
        """
        poll = Poll()
        port = yield self.serveTLS(poll, True)

        def fetch() -> tuple[bytes, int]:
            from h2.config import H2Configuration
            from h2.connection import H2Connection
            from h2.events import DataReceived, PingReceived

            raw = socket.create_connection(("127.0.0.1", port), SECONDS)
            with _h2Context().wrap_socket(raw) as client:
                h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
                h2.initiate_connection()
                fields = (":method", "GET"), (":path", "/"), (":scheme", "https")
                h2.send_headers(1, [*fields, (":authority", "x")], end_stream=True)
                client.sendall(h2.data_to_send())
                # What follows the request is of no use to a server that answers.
                client.recv(1)
                time.sleep(0.1)
                socket.socket.shutdown(client, socket.SHUT_WR)
                body, pings = b"", 0
                # The byte that was read belongs to the server's first frame.
                data = b"\0"
                while data:
                    for event in h2.receive_data(data):
                        pings += isinstance(event, PingReceived)
                        if isinstance(event, DataReceived):
                            body += event.data
                    data = client.recv(1 << 16)
                return body, pings

        fetching = deferToThread(fetch)
        yield self.until(lambda: poll.requests)
        yield deferLater(reactor, 1.5)
        poll.requests[0].write(b"late")
        poll.requests[0].finish()
        body, pings = yield fetching
        self.assertEqual(body, b"late")
        self.assertGreater(pings, 0)

    @inlineCallbacks
    def test_nothingToSay(self) -> Any:
        """
        Nothing is said to a client once the response has begun, and there is no
        interim response in HTTP/1.0, which begins; but the kernel is asked to
        look (SO_KEEPALIVE).
        """
        begun = Poll(lambda request: request.write(b"begun "))
        old = Poll()
        for poll, request, version in (
            (begun, _GET, b"HTTP/1.1"),
            (old, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0"),
        ):
            client = self.connect(self.serve(poll), request)
            yield self.until(lambda poll=poll: poll.requests)
            skt = self.transports[0].socket
            option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
            self.assertFalse(skt.getsockopt(*option))
            client.shutdown(socket.SHUT_WR)
            yield deferLater(reactor, 1)
            self.assertTrue(skt.getsockopt(*option))
            early = yield deferToThread(client.recv, 4096)
            poll.requests[0].write(b"end")
            poll.requests[0].finish()
            data = yield self.read(client)
            data = early + data
            answer = b"end" if poll is old else b"3\r\nend\r\n0"
            self.assertTrue(data.startswith(version + b" 200 OK\r\n"), data)
            self.assertTrue(data.split(b"\r\n\r\n")[1].endswith(answer), data)

    @inlineCallbacks
    def test_policy(self) -> Any:
        """
        C{peerFin}: "gone" ends at the peer's FIN, and "half-closed" says nothing
        to a peer that still reads.
        """
        poll = Poll()
        port = self.serve(poll, policy=TerminationPolicy(peerFin="gone"))
        client = self.connect(port, _GET)
        yield self.until(lambda: poll.requests)
        client.shutdown(socket.SHUT_WR)
        data = yield self.read(client)
        self.assertEqual(data, b"")
        yield self.until(lambda: poll.gone)
        poll = Poll()
        port = self.serve(poll, policy=TerminationPolicy(peerFin="half-closed"))
        client = self.connect(port, _GET)
        yield self.until(lambda: poll.requests)
        client.shutdown(socket.SHUT_WR)
        yield deferLater(reactor, 1)
        poll.requests[0].finish()
        data = yield self.read(client)
        self.assertTrue(data.startswith(b"HTTP/1.1 200"), data)

    @inlineCallbacks
    def test_brokenOff(self) -> Any:
        """
        A request that the client's FIN has broken off is not waited for, in the
        middle of its headers or of its body.
        """
        for rest in (b"", b"\r\n" + b"b" * 500):
            poll = Poll()
            client = self.connect(self.serve(poll), _POST + rest)
            yield self.until(lambda: self.transports)
            yield deferLater(reactor, 0.1)
            client.shutdown(socket.SHUT_WR)
            data = yield self.read(client)
            self.assertEqual((data, poll.requests), (b"", []))
            yield self.until(lambda: self.reports)

    @inlineCallbacks
    def test_loseConnection(self) -> Any:
        """
        C{request.transport.loseConnection()} in a request that never finishes
        closes, when what was written before is sent.
        """

        def begin(request: Any) -> None:
            if size:
                request.write(b"x" * size)
            request.transport.loseConnection()

        # Bare Twisted never closes where a large write has paused the channel.
        for term, size in ((False, 0), (True, 0), (True, 8_000_000)):
            poll = Poll(begin)
            client = self.connect(self.serve(poll, term), _GET)
            count, end = yield deferToThread(receive, client)
            self.assertEqual(end, "FIN")
            self.assertGreaterEqual(count, size)
            client.close()
            yield self.until(lambda poll=poll: poll.gone)


class _Recorded:
    """
    A socket whose bytes are kept.
    """

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.data = b""

    def makefile(self, mode: str) -> Any:
        file = self._client.makefile(mode)
        recorded = self

        class Tee:
            def readline(self, *arguments: int) -> bytes:
                line: bytes = file.readline(*arguments)
                recorded.data += line
                return line

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Tee()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class DrainTests(HTTPTestCase):
    """
    The connection's part of a drain.
    """

    @inlineCallbacks
    def test_lastLook(self) -> Any:
        """
        A request that has just arrived on an idle connection is answered, and
        says that it is the last one.
        """
        poll = Poll()
        client = self.connect(self.serve(poll), b"")
        yield self.until(lambda: self.transports)
        client.sendall(_GET)
        # The reactor has not had its turn.
        self.transports[0].drain()
        yield self.until(lambda: poll.requests)
        poll.requests[0].finish()
        data = yield self.read(client)
        self.assertIn(b"connection: close", data.lower())

    @inlineCallbacks
    def test_begins(self) -> Any:
        """
        From the begin of a drain each response says that it is the last one.
        """
        poll = Poll()
        port = self.serve(poll)
        for early in (False, True):
            client = self.connect(port, _GET if early else b"")
            yield self.until(lambda: self.transports)
            if early:
                yield self.until(lambda: poll.requests)
            transport = self.transports.pop()
            transport.drainBegins(25)
            if not early:
                client.sendall(_GET)
                yield self.until(lambda: poll.requests)
            poll.requests.pop().finish()
            data = yield self.read(client)
            self.assertIn(b"connection: close", data.lower())

    @inlineCallbacks
    def test_pipeline(self) -> Any:
        """
        A response that has begun could not say that it is the last one: the
        request behind it is answered.
        """
        poll = Poll(lambda request: request.write(b"answer"))
        client = self.connect(self.serve(poll), _GET + _GET)
        yield self.until(lambda: poll.requests)
        yield deferLater(reactor, 0.1)
        self.transports[0].drain()
        poll.requests.pop().finish()
        yield self.until(lambda: poll.requests)
        poll.requests.pop().finish()
        data = yield self.read(client)
        self.assertEqual(data.count(b"answer"), 2)
        self.assertEqual(data.lower().count(b"connection: close"), 1)

    @inlineCallbacks
    def test_eventStream(self) -> Any:
        """
        A stream of server-sent events ends in a drain, as a whole response,
        and its application is told as if the client had gone.
        """
        needs("httpx")

        def begin(request: Any) -> None:
            request.setHeader(b"content-type", b"text/event-stream")
            request.write(b"data: 1\n\n")

        poll = Poll(begin)
        port = self.serve(poll)
        fetching = deferToThread(_stream, f"http://127.0.0.1:{port}/")
        yield self.until(lambda: poll.requests)
        yield deferLater(reactor, 0.1)
        self.transports[0].drain()
        body = yield fetching
        self.assertEqual(body, b"data: 1\n\n")
        yield self.until(lambda: poll.gone)

    @inlineCallbacks
    def test_goAway(self) -> Any:
        """
        HTTP/2 with a stream open: GOAWAY comes after half of the drain's time,
        and the stream is answered after it.
        """
        poll = Poll()
        port = yield self.serveTLS(poll, True)
        raw = yield deferToThread(socket.create_connection, ("127.0.0.1", port))
        raw.settimeout(SECONDS)
        client = yield deferToThread(_h2Context().wrap_socket, raw)
        self.addCleanup(client.close)
        client.sendall(_h2Request())
        yield self.until(lambda: poll.requests)
        self.transports[0].drainBegins(1)
        self.transports[0].drain()
        frames: list[tuple[int, bytes]] = []
        yield deferToThread(_readFrames, client, frames, 7)
        self.assertEqual(frames[-1][1][:4], b"\x7f\xff\xff\xff")
        poll.requests[0].write(b"answer")
        poll.requests[0].finish()
        yield deferToThread(_readFrames, client, frames, None)
        self.assertIn((0, b"answer"), frames)
        self.assertEqual(frames[-1], (7, b"\0\0\0\1\0\0\0\0"))

    @inlineCallbacks
    def test_goAwayLate(self) -> Any:
        """
        A client that connects after the begin of a drain is answered, and gets GOAWAY
        behind the answer, although TLS negotiates HTTP/2 only then.
        """
        poll = Poll()
        port = yield self.serveTLS(poll, True)
        raw = yield deferToThread(socket.create_connection, ("127.0.0.1", port))
        raw.settimeout(SECONDS)
        yield self.until(lambda: self.transports)
        self.transports[0].drainBegins(25)
        client = yield deferToThread(_h2Context().wrap_socket, raw)
        self.addCleanup(client.close)
        client.sendall(_h2Request())
        yield self.until(lambda: poll.requests)
        poll.requests[0].write(b"answer")
        poll.requests[0].finish()
        frames: list[tuple[int, bytes]] = []
        yield deferToThread(_readFrames, client, frames, 7)
        self.assertEqual(frames[-1], (7, b"\x7f\xff\xff\xff\0\0\0\0"))
        self.assertIn((0, b"answer"), frames)
        self.transports[0].drain()
        yield deferToThread(_readFrames, client, frames, None)
        self.assertEqual(frames[-1], (7, b"\0\0\0\1\0\0\0\0"))

    @inlineCallbacks
    def test_goAwayUnused(self) -> Any:
        """
        A client that has sent no request yet is given a moment, and then GOAWAY.
        """
        port = yield self.serveTLS(Poll(), True)
        raw = yield deferToThread(socket.create_connection, ("127.0.0.1", port))
        raw.settimeout(SECONDS)
        client = yield deferToThread(_h2Context().wrap_socket, raw)
        self.addCleanup(client.close)
        # The preface (RFC 9113, 3.4), and SETTINGS without any.
        client.sendall(_h2Request()[:24] + b"\0\0\0\4\0\0\0\0\0")
        yield self.until(lambda: self.transports)
        yield deferLater(reactor, 0.1)
        self.transports[0].drainBegins(25)
        frames: list[tuple[int, bytes]] = []
        yield deferToThread(_readFrames, client, frames, 7)
        self.assertEqual(frames[-1], (7, b"\x7f\xff\xff\xff\0\0\0\0"))

    @inlineCallbacks
    def test_whenDraining(self) -> Any:
        """
        A long poll is answered when the drain begins, and one that comes after that is
        answered at once.
        """

        def begin(request: Any) -> None:
            draining = request.transport.whenDraining()
            draining.addCallback(lambda _: request.finish())

        poll = Poll(begin)
        client = self.connect(self.serve(poll), _GET)
        yield self.until(lambda: poll.requests)
        self.transports[0].drainBegins(25)
        data = yield self.read(client)
        self.assertTrue(data.startswith(b"HTTP/1.1 200"), data)
        self.assertIn(b"connection: close", data.lower())

    @inlineCallbacks
    def test_neverDraining(self) -> Any:
        """
        A Deferred of a connection that ends before never fires.
        """
        poll = Poll()
        client = self.connect(self.serve(poll), _GET)
        yield self.until(lambda: poll.requests)
        told = self.transports[0].whenDraining()
        poll.requests[0].transport.loseConnection()
        client.close()
        yield self.until(lambda: self.reports)
        self.transports[0].drainBegins()
        self.assertNoResult(told)


def _h2Context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _h2Request() -> bytes:
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    fields = (":method", "GET"), (":path", "/"), (":scheme", "https")
    connection.send_headers(1, [*fields, (":authority", "x")], end_stream=True)
    return bytes(connection.data_to_send())


def _readFrames(client: Any, frames: list[tuple[int, bytes]], last: Any) -> None:
    """
    Read frames until one of type C{last}, or FIN.
    """
    file = client.makefile("rb", buffering=0)

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = file.read(count - len(data))
            if not more:
                return b""
            data += more
        return data

    while head := read(9):
        frames.append((head[3], read(int.from_bytes(head[:3], "big"))))
        if head[3] == last:
            return


def _stream(url: str) -> bytes:
    import httpx

    with httpx.Client(timeout=SECONDS) as client, client.stream("GET", url) as response:
        return b"".join(response.iter_raw())


class GoAwayTests(HTTPTestCase):
    """
    GOAWAY (RFC 9113, 6.8).  ``test_probe_confirmed`` has bare Twisted beside it.
    """

    size = 2_000_000

    @inlineCallbacks
    def answered(self, code: int = 0) -> Any:
        """
        How much of the answer comes.
        """
        root = Resource()
        root.putChild(b"file", Data(bytes(self.size), "text/plain"))
        port = yield self.serveTLS(root, term=True)
        count = yield deferToThread(goAway, port, None, code)
        yield self.until(lambda: self.reports)
        return count

    @inlineCallbacks
    def test_answered(self) -> Any:
        """
        Behind the client's GOAWAY all of its answer comes.
        """
        self.assertEqual((yield self.answered()), self.size)

    @inlineCallbacks
    def test_crossing(self) -> Any:
        """
        A request that was sent before the client has read the server's first GOAWAY
        is answered, and then the connection ends.
        """
        root = Resource()
        root.putChild(b"file", Data(b"answer", "text/plain"))
        port = yield self.serveTLS(root, term=True)

        def drain() -> None:
            blockingCallFromThread(reactor, self.transports[0].drain)
            time.sleep(0.03)

        self.assertTrue((yield deferToThread(twoRequests, port, drain)))
        yield self.until(lambda: self.reports)

    @inlineCallbacks
    def test_error(self) -> Any:
        """
        With an error code it ends the connection, and the stream.
        """
        self.expectErrors()
        self.assertEqual((yield self.answered(code=1)), 0)


class LoadingTests(SynchronousTestCase):
    """
    The package does not load an application.
    """

    def test_late(self) -> None:
        """
        twisted.web is not imported by us; and it is known when somebody else
        has imported it, before or after.
        """
        done = subprocess.run(
            [sys.executable, "-c", _LATE],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual(done.stdout, "False False True\n", done.stderr)


_LATE = """
import sys
from twisted_term import TerminatingFactory
from twisted_term.applications import Conversation, conversationOf
from twisted.internet.protocol import Factory, Protocol
TerminatingFactory(Factory.forProtocol(Protocol))
before = "twisted.web" in sys.modules
unknown = conversationOf(Protocol())
from twisted.web.server import Site
protocol = Site(None).buildProtocol(None)
protocol._channel.transport = object()
known = conversationOf(protocol)
print(before, type(unknown) is not Conversation, type(known) is not Conversation)
"""
