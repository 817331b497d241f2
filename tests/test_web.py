"""
twisted.web behind the wrapper, which it knows nothing of.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.test.requesthelper import DummyRequest

from twisted_term import DrainingService, TerminatingFactory
from twisted_term.web import DrainingSite, ReadinessResource

from .support import SECONDS, SocketTestCase, receive

_BODY = b"x" * 20_000_000
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Large(Resource):
    """
    A body that waits in the server for a slow reader.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return _BODY


def quiet(resource: Any) -> Site:
    site = Site(resource)
    site.noisy = False
    site.log = lambda request: None
    return site


class Later(Resource):
    """
    Answers when the test says so.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        request = self.requests.pop(0)
        request.write(b"answer to " + request.content.read())
        request.finish()


class EarlyRequest(Request):
    """
    Refuses a large upload when its headers are there, through the hook that
    twisted.web has for their length.
    """

    body = b"too large" * 100_000

    def gotLength(self, length: Any) -> None:
        super().gotLength(0)
        if length:
            self.clientproto, self.method = b"HTTP/1.1", b"PUT"
            self.channel.persistent = False
            self.setResponseCode(413)
            self.setHeader(b"connection", b"close")
            self.setHeader(b"content-length", b"%d" % len(self.body))
            self.write(self.body)
            self.finish()

    def handleContentChunk(self, data: bytes) -> None:
        pass

    def requestReceived(self, *args: Any) -> None:
        pass


class SiteTests(SocketTestCase):
    """
    A plain C{Site}.
    """

    @inlineCallbacks
    def test_keepAliveHalfClosed(self) -> Any:
        """
        A client that half-closes a keep-alive connection gets the response
        whole and FIN behind it: the channel stays registered as a
        producer, but has nothing more to give.
        """

        def fetch(port: int) -> tuple[int, str]:
            with socket.socket() as client:
                client.settimeout(SECONDS)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", port))
                client.sendall(_REQUEST)
                client.shutdown(socket.SHUT_WR)
                return receive(client)

        port = self.listen(TerminatingFactory(quiet(Large())))
        count, end = yield deferToThread(fetch, port)
        self.assertGreater(count, len(_BODY))
        self.assertEqual(end, "FIN")

    @inlineCallbacks
    def test_pipelinedHalfClosed(self) -> Any:
        """
        A client that half-closes behind several requests gets all responses,
        also from a resource that takes its time.
        """

        def fetch(port: int) -> tuple[int, str]:
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                client.sendall(_REQUEST * 3)
                client.shutdown(socket.SHUT_WR)
                return receive(client)

        port = self.listen(TerminatingFactory(quiet(Large())))
        count, end = yield deferToThread(fetch, port)
        self.assertGreater(count, 3 * len(_BODY))
        self.assertEqual(end, "FIN")

        resource = Later()
        port = self.listen(TerminatingFactory(quiet(resource)))
        fetching = deferToThread(fetch, port)
        for _ in range(3):
            while not resource.requests:
                yield deferLater(reactor, 0.01)
            yield deferLater(reactor, 0.1)
            resource.answer()
        count, end = yield fetching
        self.assertEqual(end, "FIN")
        self.assertGreater(count, 3 * len(b"answer to "))

    @inlineCallbacks
    def test_earlyAnswer(self) -> Any:
        """
        A 413 reaches a client that goes on uploading 100 MB; bare Twisted's
        does not.
        """

        def upload(port: int) -> tuple[int, str]:
            refused: list[OSError] = []
            with socket.socket() as client:
                client.settimeout(SECONDS)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
                client.connect(("127.0.0.1", port))
                client.sendall(
                    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
                )
                sender = threading.Thread(target=send, args=(client, refused))
                sender.start()
                time.sleep(0.1)
                count, end = receive(client, 0.0002)
                sender.join(SECONDS)
                return count, "RST" if refused else end

        def send(client: socket.socket, refused: list[OSError]) -> None:
            try:
                for _ in range(1000):
                    client.sendall(bytes(100_000))
            except OSError as error:
                refused.append(error)

        results = []
        for wrap in (TerminatingFactory, lambda site: site):
            site = quiet(Resource())
            site.requestFactory = EarlyRequest
            results.append((yield deferToThread(upload, self.listen(wrap(site)))))
        (count, end), (bareCount, bareEnd) = results
        self.assertGreater(count, len(EarlyRequest.body))
        self.assertEqual(end, "FIN")
        self.assertLess(bareCount, len(EarlyRequest.body))
        self.assertEqual(bareEnd, "RST")


class DrainTests(SocketTestCase):
    """
    A drain, request by request.
    """

    @inlineCallbacks
    def serve(self, site: Site) -> Any:
        # A client has its FIN before the server has the acknowledgement of it.
        self.addCleanup(deferLater, reactor, 0.1)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.service = DrainingService(endpoint, site, drainTimeout=5)
        ports: list[Any] = []
        listen = endpoint.listen
        self.patch(
            endpoint,
            "listen",
            lambda factory: listen(factory).addCallback(
                lambda port: ports.append(port) or port
            ),
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)
        yield deferLater(reactor, 0)
        self.port = ports[0].getHost().port

    def connect(self, data: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.addCleanup(client.close)
        client.sendall(data)
        return client

    @inlineCallbacks
    def test_requests(self) -> Any:
        """
        An idle connection ends at once.  A request in flight, one whose headers
        are arriving and one whose body is, are answered with C{Connection:
        close}, and then the connection ends.
        """
        for factory in (Site, DrainingSite):
            resource = Later()
            site = factory(resource)
            site.noisy = False
            site.log = lambda request: None
            yield self.serve(site)
            idle = self.connect(b"")
            busy = self.connect(_REQUEST)
            headers = self.connect(b"GET / HTTP/1.1\r\nHost: ")
            body = self.connect(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"
            )
            yield self.until(lambda resource=resource: resource.requests)
            yield deferLater(reactor, 0.1)
            drained = self.service.drain()
            yield self.receives(idle, b"", b"")
            headers.sendall(b"x\r\n\r\n")
            body.sendall(b"cd")
            yield self.until(lambda resource=resource: len(resource.requests) == 3)
            for _ in range(3):
                resource.answer()
            for client, answer in ((busy, b""), (headers, b""), (body, b"abcd")):
                yield self.receives(client, b"Connection: close", b"to " + answer)
            report = yield drained
            self.assertEqual(report.undelivered, 0)
            self.assertEqual(sum(report.outcomes.values()), 4)

    @inlineCallbacks
    def receives(self, client: socket.socket, header: bytes, body: bytes) -> Any:
        """
        The response has that header and, unchunked, that body; then comes FIN.
        """

        def read() -> bytes:
            with client:
                data = b""
                while more := client.recv(1 << 16):
                    data += more
                return data

        data = yield deferToThread(read)
        head, _, rest = data.partition(b"\r\n\r\n")
        self.assertIn(header.lower(), head.lower())
        self.assertIn(body, rest)
        self.assertTrue(rest.endswith(b"0\r\n\r\n") or not body, rest)

    @inlineCallbacks
    def test_readiness(self) -> Any:
        """
        200, and 503 from the begin of the drain.
        """
        yield self.serve(Site(Resource()))
        resource = ReadinessResource(lambda: not self.service.draining)
        codes = []
        for _ in range(2):
            request = DummyRequest([b""])
            body = resource.render_GET(request)
            codes.append((request.responseCode, body))
            yield self.service.drain()
        self.assertEqual(codes, [(200, b"ready\n"), (503, b"draining\n")])
