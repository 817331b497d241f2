"""
WebSocket: Autobahn in a C{Site} and on a port of its own, over TCP and TLS,
twisted.web.websocket, and Daphne, with the C{websockets} client.  Bare Twisted
is beside it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_term.applications.websocket import WebSocket

from .certificates import certificateFile, needs
from .processes import PORT, UPGRADE, Server, script
from .support import SECONDS, SocketTestCase, expect


def autobahn(lost: list[Any]) -> Any:
    """
    An echo server of Autobahn's: the factory, and the resource for a C{Site}.
    """
    needs("autobahn")
    from autobahn.twisted.resource import WebSocketResource
    from autobahn.twisted.websocket import (
        WebSocketServerFactory,
        WebSocketServerProtocol,
    )

    class Echo(WebSocketServerProtocol):  # type: ignore[misc]
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            if payload == b"bye":
                self.sendClose(1000)
            else:
                self.sendMessage(payload, isBinary)

        def onClose(self, wasClean: bool, code: int, reason: str) -> None:
            lost.append(code)

    factory = WebSocketServerFactory()
    factory.protocol = Echo
    return factory, WebSocketResource(factory)


def native(lost: list[Any]) -> Any:
    """
    An echo server of twisted.web's.
    """
    needs("wsproto", "twisted.web.websocket")
    from twisted.web.websocket import WebSocketResource

    class Echo:
        def negotiationStarted(self, transport: Any) -> None:
            self.transport = transport

        def negotiationFinished(self) -> None:
            pass

        def textMessageReceived(self, message: str) -> None:
            if message == "bye":
                self.transport.loseConnection()
            else:
                self.transport.sendTextMessage(message)

        def connectionLost(self, reason: Any) -> None:
            lost.append(reason)

    class Echoes:
        def buildProtocol(self, request: Any) -> Echo:
            return Echo()

    return None, WebSocketResource(Echoes())


class Client:
    """
    The C{websockets} client.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def connected(self) -> Any:
        import websockets

        context = None
        if self._url.startswith("wss"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = await websockets.connect(
            self._url, ping_interval=None, ssl=context, close_timeout=SECONDS
        )
        await client.send("hello")
        expect(await client.recv(), "hello")
        return client

    async def closes(self) -> Any:
        client = await self.connected()
        await client.close()
        return client.close_code

    async def isClosed(self) -> Any:
        client = await self.connected()
        await client.send("bye")
        await client.wait_closed()
        return client.close_code

    async def vanishes(self) -> Any:
        client = await self.connected()
        client.transport.close()
        await asyncio.sleep(0.1)

    async def waits(self, ready: Callable[[], None]) -> Any:
        client = await self.connected()
        ready()
        await client.wait_closed()
        return client.close_code


class WebSocketTests(SocketTestCase):
    """
    The end of a connection that was upgraded.
    """

    @inlineCallbacks
    def serve(self, kind: str, term: bool, options: str = "") -> Any:
        """
        @param options: those of C{term:}.
        @return: a Deferred of the URL.
        """
        needs("websockets")
        self.lost: list[Any] = []
        factory, resource = (native if kind == "native" else autobahn)(self.lost)
        root = Resource()
        root.putChild(b"ws", resource)
        site = Site(root)
        site.log = lambda request: None
        site.noisy = False
        text = "tcp:0:interface=127.0.0.1"
        scheme = "ws"
        if kind.endswith("TLS"):
            path = certificateFile(self)
            text = f"ssl:0:interface=127.0.0.1:privateKey={path}"
            scheme = "wss"
        self.transports: list[Any] = []
        self.reports: list[Any] = []
        served = self._noting(factory if kind.startswith("port") else site)
        self.addCleanup(deferLater, reactor, 0.3)
        endpoint = serverFromString(reactor, "term:" * term + text + options)
        port = yield endpoint.listen(served)
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        return f"{scheme}://127.0.0.1:{self.port}/ws"

    def _noting(self, factory: Any) -> Any:
        build = factory.buildProtocol

        def buildProtocol(address: Any) -> Any:
            protocol = build(address)
            connected = protocol.makeConnection

            def makeConnection(transport: Any) -> None:
                self.transports.append(transport)
                if hasattr(transport, "whenTerminated"):
                    transport.whenTerminated().addCallback(self.reports.append)
                connected(transport)

            protocol.makeConnection = makeConnection
            return protocol

        factory.buildProtocol = buildProtocol
        return factory

    def run_(self, coroutine: Any) -> Any:
        return deferToThread(asyncio.run, coroutine)

    @inlineCallbacks
    def ends(self, kind: str) -> Any:
        for term in (False, True):
            for way, code in (("closes", 1000), ("isClosed", 1000), ("vanishes", None)):
                url = yield self.serve(kind, term)
                found = yield self.run_(getattr(Client(url), way)())
                self.assertEqual(found, code)
                yield self.until(lambda: self.lost)
                self.assertEqual(len(self.lost), 1)
                if term:
                    yield self.until(lambda: self.reports)
        for options, code in ("", 1001), (":goodbye=restart", 1012):
            ready: list[None] = []
            url = yield self.serve(kind, True, options)
            waiting = self.run_(Client(url).waits(lambda to=ready: to.append(None)))
            yield self.until(lambda ready=ready: ready)
            self.transports[0].drain()
            found = yield waiting
            self.assertEqual(found, code)
            yield self.until(lambda: self.reports)
            self.assertEqual(self.reports[0].outcome.value, "clean")

    def test_autobahn(self) -> Any:
        """
        After the close handshake, begun by either side, the connection ends; a
        client that goes without one is noticed; a drain says 1001, or 1012 by option.
        """
        return self.ends("autobahn")

    def test_autobahnTLS(self) -> Any:
        """
        The same over TLS.
        """
        return self.ends("autobahnTLS")

    def test_port(self) -> Any:
        """
        The same without a C{Site}.
        """
        return self.ends("port")

    def test_portTLS(self) -> Any:
        """
        The same without a C{Site}, over TLS.
        """
        return self.ends("portTLS")

    def test_native(self) -> Any:
        """
        The same for twisted.web.websocket.
        """
        return self.ends("native")

    @inlineCallbacks
    def test_noAnswer(self) -> Any:
        """
        A client that never answers the Close frame gets FIN, and no reset, once
        its time is over.
        """
        self.patch(WebSocket, "patience", 0.5)
        for kind in ("autobahn", "native"):
            yield self.serve(kind, True)
            client = socket.create_connection(("127.0.0.1", self.port), SECONDS)
            self.addCleanup(client.close)
            client.sendall(UPGRADE)
            head = yield deferToThread(client.recv, 4096)
            self.assertTrue(head.startswith(b"HTTP/1.1 101"), head)
            yield deferLater(reactor, 0.1)
            self.transports[0].drain()
            frame = yield deferToThread(client.recv, 4096)
            self.assertEqual(frame[:4], struct.pack(">BBH", 0x88, 2, 1001))
            end = yield deferToThread(client.recv, 4096)
            self.assertEqual(end, b"")


_DAPHNE = """
import asyncio, sys

async def app(scope, receive, send):
    message = await receive()
    await send({"type": "websocket.accept"})
    while message["type"] != "websocket.disconnect":
        message = await receive()
        print(message["type"], message.get("code"), flush=True)
        text = message.get("text")
        if text == "bye":
            await send({"type": "websocket.close"})
        elif text:
            await send({"type": "websocket.send", "text": text})

if __name__ == "__main__":
    from daphne.cli import CommandLineInterface
    CommandLineInterface().run(["app:app", "-e", sys.argv[1]])
"""


class DaphneTests(SynchronousTestCase):
    """
    Daphne's WebSocket: it replaces the protocol of the transport.
    """

    def serve(self, prefix: str) -> Server:
        needs("daphne", "websockets")
        listen = f"{prefix}tcp:0:interface=127.0.0.1"
        command = script(self, _DAPHNE, listen)
        folder = os.path.dirname(command[1])
        # Daphne imports the application by its name.
        return Server(self, command, cwd=folder)

    def client(self, server: Server) -> Client:
        return Client(f"ws://127.0.0.1:{server.wait(PORT)[1]}/ws")

    def test_ends(self) -> None:
        """
        The application is told of each end, as in bare Daphne.
        """
        for prefix in ("", "term:"):
            server = self.serve(prefix)
            client = self.client(server)
            for way, code, count in (
                ("closes", 1000, 1),
                ("isClosed", 1000, 2),
                ("vanishes", 1006, 1),
            ):
                asyncio.run(getattr(client, way)())
                server.wait(rf"(?s)(websocket.disconnect {code}.*?){{{count}}}")

    def test_drain(self) -> None:
        """
        SIGTERM: the client is told 1001, or 1012 by option.
        """

        async def drained(server: Server) -> Any:
            connected = await self.client(server).connected()
            await asyncio.sleep(0.6)  # it is not new any more
            server.terminate()
            await connected.wait_closed()
            return connected.close_code

        for prefix, code in ("term:", 1001), ("term:goodbye=restart:", 1012):
            server = self.serve(prefix)
            self.assertEqual(asyncio.run(drained(server)), code)
            self.assertEqual(server.end(), 0)
