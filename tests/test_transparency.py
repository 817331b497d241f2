"""
What bare Twisted lets an application, an endpoint or a wrapper do with the objects
that it is handed works the same behind C{term:}.  Bare Twisted is beside it.
"""

from __future__ import annotations

import array
import gc
import os
import re
import select
import socket
import ssl
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from shutil import rmtree
from typing import Any, Callable, Optional
from unittest import mock

from twisted.internet import reactor, tcp, unix
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.internet.threads import deferToThread
from twisted.protocols import amp
from zope.interface import (
    Interface,
    alsoProvides,
    directlyProvides,
    implementer,
    noLongerProvides,
)

from twisted_term import (
    Initiator,
    Outcome,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.interfaces import ITerminableTransport

from .certificates import (
    certificateFile,
    clientOptions,
    connectTLS,
    needs,
    receiveTLS,
    serverOptions,
)
from .support import SECONDS, SocketTestCase, receive

TCP = "tcp:0:interface=127.0.0.1"
_QUICK = TerminationPolicy(lingerIdle=0.3, lingerTime=0.6)
_SIZE = 5_000_000


class App(Protocol):
    """
    Records what it is told, and does what the test says.
    """

    factory: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Any] = []
        self.report: Any = None

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        if ITerminableTransport.providedBy(self.transport):
            self.transport.whenTerminated().addCallback(self._ended)  # type: ignore
        self.factory.made(self)

    def _ended(self, report: Any) -> None:
        self.report = report

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.factory.does(self, data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason)


class MixedApp(TerminationMixin, App):
    """
    The same with the mixin.
    """


class Apps(Factory):
    """
    Builds them.
    """

    noisy = False
    protocol = App

    def __init__(
        self,
        made: Callable[[Any], object] = lambda app: None,
        does: Callable[[Any, bytes], object] = lambda app, data: None,
    ) -> None:
        self.connections: list[Any] = []
        self.switched = False
        self.made = made
        self.does = does


class TransparencyTestCase(SocketTestCase):
    """
    @cvar prefixes: bare Twisted, and ours.
    """

    prefixes = ("", "term:")

    @inlineCallbacks
    def serve(self, text: str, factory: Any) -> Any:
        """
        @return: a Deferred of the port.
        """
        self.addCleanup(deferLater, reactor, 0.3)
        port = yield serverFromString(reactor, text).listen(factory)
        self.addCleanup(port.stopListening)
        return port

    @inlineCallbacks
    def serveTCP(self, text: str, factory: Any) -> Any:
        """
        @return: a Deferred of the port's number.
        """
        port = yield self.serve(text, factory)
        return port.getHost().port

    def overTLS(self, prefix: str) -> str:
        path = certificateFile(self)
        return f"{prefix}ssl:0:interface=127.0.0.1:privateKey={path}"

    def path(self) -> str:
        """
        For a UNIX socket.
        """
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        return str(Path(folder, "socket"))

    def connect(self, port: int, data: bytes = b"?") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)
        client.sendall(data)
        return client

    @inlineCallbacks
    def made(self, factory: Apps) -> Any:
        """
        @return: a Deferred of the application that has received something.
        """
        yield self.until(lambda: [app for app in factory.connections if app.received])
        return factory.connections[-1]

    @inlineCallbacks
    def told(self, app: Any) -> Any:
        """
        It is told of its end, once.

        @return: a Deferred of the class of the reason.
        """
        yield self.until(lambda: app.lost)
        yield deferLater(reactor, 0.05)
        self.assertEqual(len(app.lost), 1)
        return getattr(app.lost[0], "type", None)


def wrapped(endpoint: Any, prefix: str) -> Any:
    """
    A client endpoint, wrapped where a server would have C{prefix}.
    """
    return TerminatingClientEndpoint(endpoint, _QUICK) if prefix else endpoint


def overTCP(port: int) -> Any:
    return TCP4ClientEndpoint(reactor, "127.0.0.1", port)


class AutobahnTests(TransparencyTestCase):
    """
    Autobahn asks more of its transport than anybody else.
    """

    @inlineCallbacks
    def test_overTLS(self) -> Any:
        """
        Server and client over TLS find the OpenSSL connection, and agree on
        which it is.
        """
        needs("autobahn")
        from autobahn.twisted import websocket

        class Both:
            def onOpen(self) -> None:
                details = self.transport_details  # type: ignore[attr-defined]
                self.factory.found.append(details.channel_id)  # type: ignore
                if not self.factory.isServer:  # type: ignore[attr-defined]
                    self.sendMessage(b"hello")  # type: ignore[attr-defined]

            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                if self.factory.isServer:  # type: ignore[attr-defined]
                    self.sendMessage(payload)  # type: ignore[attr-defined]
                else:
                    self.factory.got.append(payload)  # type: ignore[attr-defined]
                    self.sendClose(1000)  # type: ignore[attr-defined]

            def onClose(self, wasClean: bool, code: int, reason: str) -> None:
                self.factory.codes.append(code)  # type: ignore[attr-defined]

        class Server(Both, websocket.WebSocketServerProtocol):  # type: ignore
            pass

        class Client(Both, websocket.WebSocketClientProtocol):  # type: ignore
            pass

        for prefix in self.prefixes:
            server = websocket.WebSocketServerFactory()
            server.protocol = Server
            client = websocket.WebSocketClientFactory("wss://localhost/")
            client.protocol = Client
            for factory in (server, client):
                factory.found, factory.got, factory.codes = [], [], []
            number = yield self.serveTCP(self.overTLS(prefix), server)
            endpoint = wrapClientTLS(clientOptions(), overTCP(number))
            yield wrapped(endpoint, prefix).connect(client)
            yield self.until(
                lambda server=server, client=client: server.codes and client.codes
            )
            self.assertEqual(client.got, [b"hello"])
            self.assertEqual((server.codes, client.codes), ([1000], [1000]))
            (there,), (here,) = server.found, client.found
            self.assertEqual(there, here)
            self.assertTrue(there.get("tls-unique"), there)

    @inlineCallbacks
    def test_endpoint(self) -> Any:
        """
        C{autobahn:} hosts a protocol: it gives it a transport, and calls
        C{connectionMade}, and nothing else of what begins a connection.
        """
        needs("autobahn")
        for prefix in self.prefixes:
            server = Apps(does=lambda app, data: app.transport.write(data))
            client = Apps(
                made=lambda app: app.transport.write(b"hello"),
                does=lambda app, data: app.transport.loseConnection(),
            )
            url = r"url=ws\://localhost\:9000"
            inner = TCP.replace(":", r"\:").replace("=", r"\=")
            number = yield self.serveTCP(f"{prefix}autobahn:{inner}:{url}", server)
            endpoint: Any = clientFromString(
                reactor, rf"{prefix}autobahn:tcp\:127.0.0.1\:{number}:{url}"
            )
            yield endpoint.connect(client)
            app = yield self.made(client)
            self.assertEqual(app.received, b"hello")
            yield self.told(app)
            yield self.told(server.connections[0])


class ReplacingTests(TransparencyTestCase):
    """
    A client's protocol that is called by an endpoint's own one, and not by its
    transport.
    """

    @inlineCallbacks
    def clients(self, server: Apps, client: Callable[[], Apps]) -> Any:
        """
        Connect by each way in.

        @return: a Deferred of the clients' factories, bare Twisted's first.
        """
        number = yield self.serveTCP(f"term:{TCP}", server)
        found = []
        for protocol, wrap in (
            (App, lambda endpoint: endpoint),
            (App, lambda endpoint: wrapped(endpoint, "term:")),
            (MixedApp, lambda endpoint: endpoint),
        ):
            factory: Any = client()
            factory.protocol = protocol
            yield wrap(overTCP(number)).connect(factory)
            yield self.until(
                lambda factory=factory: [a for a in factory.connections if a.lost]
            )
            found.append(factory)
        return found

    @inlineCallbacks
    def test_protocol(self) -> Any:
        """
        Whoever replaces its transport's C{protocol} finds the new one there; it
        is given the data and told of the end, and the previous one is not.
        """

        def answer(app: Any, data: bytes) -> None:
            app.transport.write(b"two")
            app.transport.loseConnection()

        def client() -> Apps:
            factory = Apps(made=made)
            factory.same = []  # type: ignore[attr-defined]
            return factory

        def made(app: Any) -> None:
            if len(app.factory.connections) > 1:
                app.transport.write(b"go on")
                return
            new = App()
            new.factory = app.factory
            app.transport.protocol = new
            app.factory.same.append(app.transport.protocol is new)
            new.makeConnection(app.transport)

        found = yield self.clients(Apps(does=answer), client)
        for factory in found:
            first, second = factory.connections
            self.assertEqual(factory.same, [True])
            self.assertEqual((first.received, first.lost), (b"", []))
            self.assertEqual(second.received, b"two")
            reason = yield self.told(second)
            self.assertIs(reason, ConnectionDone)

    @inlineCallbacks
    def test_halfCloses(self) -> Any:
        """
        After its own half-close it is given what arrives; and when it has ended,
        nothing waits for the collector.
        """

        def answer(app: Any, data: bytes) -> None:
            app.transport.write(b"answer")
            app.transport.loseConnection()

        def client() -> Apps:
            return Apps(made=halfCloses)

        def halfCloses(app: Any) -> None:
            app.transport.write(b"?")
            app.transport.loseWriteConnection()

        collecting = gc.isenabled()
        gc.disable()
        if collecting:
            self.addCleanup(gc.enable)
        found = yield self.clients(Apps(does=answer), client)
        for factory in found:
            (app,) = factory.connections
            self.assertEqual(app.received, b"answer")
            reason = yield self.told(app)
            self.assertIs(reason, ConnectionDone)
            if app.report is not None:
                self.assertIs(app.report.outcome, Outcome.CLEAN)
            gone = weakref.ref(app)
            factory.connections.clear()
            del app
            self.assertIsNone(gone())


@implementer(IFileDescriptorReceiver)
class Receiver(App):
    """
    Receives descriptors, too.
    """

    def fileDescriptorReceived(self, descriptor: int) -> None:
        with open(descriptor, "rb") as file:
            self.factory.contents.append(file.read(6))


class MixedReceiver(TerminationMixin, Receiver):
    """
    The same with the mixin.
    """


class DescriptorTests(TransparencyTestCase):
    """
    Descriptors that come over a UNIX socket.
    """

    def connectUNIX(self, path: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(SECONDS)
        client.connect(path)
        return client

    def pass_(self, client: socket.socket, descriptor: int) -> None:
        rights = array.array("i", [descriptor])
        client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        return read, write

    @inlineCallbacks
    def test_received(self) -> Any:
        """
        They reach the protocol, whichever way it is wrapped.
        """

        def same(factory: Any) -> Any:
            return factory

        ways: tuple[tuple[str, Any, Callable[[Any], Any]], ...] = (
            ("", Receiver, same),
            ("term:", Receiver, same),
            ("", MixedReceiver, same),
            ("", Receiver, TerminatingFactory),
        )
        for prefix, protocol, wrap in ways:
            factory: Any = Apps()
            factory.protocol, factory.contents = protocol, []
            path = self.path()
            yield self.serve(f"{prefix}unix:{path}", wrap(factory))
            read, write = self.pipe()
            os.write(write, b"secret")
            os.close(write)
            client = self.connectUNIX(path)
            self.pass_(client, read)
            yield self.until(lambda factory=factory: factory.contents)
            app = yield self.made(factory)
            client.close()
            yield self.told(app)
            self.assertEqual((factory.contents, app.received), ([b"secret"], b"x"))

    @inlineCallbacks
    def test_amp(self) -> Any:
        """
        AMP's C{Descriptor} argument arrives.
        """

        class Give(amp.Command):
            arguments = [(b"descriptor", amp.Descriptor())]
            response = [(b"text", amp.String())]

        class Take(amp.AMP):
            @Give.responder
            def give(self, descriptor: int) -> dict[str, bytes]:
                with open(descriptor, "rb") as file:
                    return {"text": file.read(6)}

        for prefix in self.prefixes:
            path = self.path()
            factory = Factory.forProtocol(Take)
            factory.noisy = False
            yield self.serve(f"{prefix}unix:{path}", factory)
            endpoint = wrapped(UNIXClientEndpoint(reactor, path), prefix)
            sender = yield connectProtocol(endpoint, amp.AMP())
            read, write = self.pipe()
            os.write(write, b"secret")
            os.close(write)
            answer = yield sender.callRemote(Give, descriptor=read)
            self.assertEqual(answer, {"text": b"secret"})
            sender.transport.loseConnection()
            yield deferLater(reactor, 0.05)

    @inlineCallbacks
    def test_discarded(self) -> Any:
        """
        Those that come after C{loseConnection} are closed, and the protocol is
        given none of them.
        """
        factory: Any = Apps(does=lambda app, data: app.transport.loseConnection())
        factory.protocol, factory.contents = Receiver, []
        path = self.path()
        yield self.serve(f"term:unix:{path}", factory)
        client = self.connectUNIX(path)
        client.sendall(b"?")
        end = yield deferToThread(client.recv, 1)
        self.assertEqual(end, b"")
        read, write = self.pipe()
        for _ in range(20):
            self.pass_(client, write)
        os.close(write)
        # At its end, for nobody has the other side of it any more.
        ready, _, _ = yield deferToThread(select.select, [read], [], [], SECONDS)
        self.assertEqual(ready, [read])
        self.assertEqual(os.read(read, 1), b"")
        self.assertEqual(factory.connections[0].lost, [])
        client.close()
        yield self.told(factory.connections[0])
        self.assertEqual(factory.contents, [])
        self.assertEqual(factory.connections[0].report.bytesDiscarded, 20)


class TLSTests(TransparencyTestCase):
    """
    What an application over TLS may ask of its transport.
    """

    @inlineCallbacks
    def test_passes(self) -> Any:
        """
        A transport is an instance of what bare Twisted's is one of, and
        provides what that provides.
        """
        needs("OpenSSL")
        from OpenSSL.SSL import Connection
        from twisted.protocols.tls import TLSMemoryBIOProtocol

        for prefix in self.prefixes:
            factory = Apps()
            number = yield self.serveTCP(self.overTLS(prefix), factory)
            client = yield deferToThread(connectTLS, number, b"?")
            app = yield self.made(factory)
            self.assertIsInstance(app.transport, TLSMemoryBIOProtocol)
            self.assertIsInstance(app.transport.getHandle(), Connection)
            self.assertTrue(ISSLTransport.providedBy(app.transport))
            self.assertFalse(isinstance(app.transport, tcp.Server))
            client.close()
            yield self.told(app)

            plain = Apps()
            number = yield self.serveTCP(prefix + TCP, plain)
            self.connect(number)
            app = yield self.made(plain)
            self.assertIsInstance(app.transport, tcp.Server)
            self.assertIsInstance(app.transport.getHandle(), socket.socket)
            self.assertFalse(ISSLTransport.providedBy(app.transport))
            app.transport.abortConnection()

            local = Apps()
            path = self.path()
            yield self.serve(f"{prefix}unix:{path}", local)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"?")
                app = yield self.made(local)
                self.assertIsInstance(app.transport, unix.Server)

    @inlineCallbacks
    def test_wrappedProtocol(self) -> Any:
        """
        The protocol over TLS is replaced by its transport's C{wrappedProtocol}:
        the new one is given the data, and told of the end.
        """
        for prefix in self.prefixes:
            second = Apps()

            def replace(app: Any, data: bytes, second: Apps = second) -> None:
                new = App()
                new.factory = second
                app.transport.wrappedProtocol = new
                self.assertIs(app.transport.wrappedProtocol, new)
                new.makeConnection(app.transport)
                new.transport.write(b"go on")

            first = Apps(does=replace)
            number = yield self.serveTCP(self.overTLS(prefix), first)
            client = yield deferToThread(connectTLS, number, b"one")
            got = yield deferToThread(client.recv, 100)
            self.assertEqual(got, b"go on")
            client.sendall(b"two")
            app = yield self.made(second)
            client.close()
            yield self.told(app)
            self.assertEqual(app.received, b"two")
            self.assertEqual(first.connections[0].received, b"one")
            self.assertEqual(first.connections[0].lost, [])

    @inlineCallbacks
    def test_protocolAfterStartTLS(self) -> Any:
        """
        After C{startTLS} the protocol is replaced by the C{wrappedProtocol} of
        C{transport.protocol}, of a server and of a client: the new one alone is
        told of the end.
        """

        def starts(options: Any, word: bytes) -> Callable[[Any, bytes], None]:
            def starting(app: Any, data: bytes) -> None:
                if app.factory.switched:
                    return
                app.factory.switched = True
                if word:
                    app.transport.write(word)
                app.transport.startTLS(options)
                new = App()
                new.factory = app.factory
                app.transport.protocol.wrappedProtocol = new
                self.assertIs(app.transport.protocol.wrappedProtocol, new)
                new.makeConnection(app.transport)
                new.transport.write(b"secret")

            return starting

        for prefix in self.prefixes:
            server = Apps(does=starts(serverOptions(), b"ready"))
            client = Apps(
                made=lambda app: app.factory.switched or app.transport.write(b"start"),
                does=starts(clientOptions(), b""),
            )
            number = yield self.serveTCP(prefix + TCP, server)
            yield wrapped(overTCP(number), prefix).connect(client)
            both = server.connections, client.connections
            yield self.until(
                lambda both=both: all(
                    len(apps) == 2 and apps[1].received for apps in both
                )
            )
            client.connections[1].transport.loseConnection()
            for first, second in both:
                yield self.told(second)
                self.assertEqual((first.lost, second.received), ([], b"secret"))

    @inlineCallbacks
    def test_reason(self) -> Any:
        """
        After C{loseConnection} the reason is ConnectionDone, over TCP and over
        TLS, also where the peer never closes.
        """
        needs("OpenSSL")
        for text, connect in (
            (f"term:{TCP}:lingerIdle=0.3", self.connect),
            (f"{self.overTLS('term:')}:lingerIdle=0.3", connectTLS),
        ):
            factory = Apps(does=lambda app, data: app.transport.loseConnection())
            number = yield self.serveTCP(text, factory)
            client = yield deferToThread(connect, number, b"?")
            app = yield self.made(factory)
            reason = yield self.told(app)
            self.assertEqual(reason, ConnectionDone)
            self.assertIs(app.report.outcome, Outcome.LINGER_EXPIRED)
            client.close()

    @inlineCallbacks
    def test_clientTwice(self) -> Any:
        """
        A client endpoint that is wrapped, with TLS over it, and wrapped again:
        the application is its factory's, and has both ends.
        """
        needs("OpenSSL")
        server = Apps(does=lambda app, data: app.transport.write(data))
        number = yield self.serveTCP(self.overTLS("term:"), server)
        client = Apps()
        endpoint = TerminatingClientEndpoint(
            wrapClientTLS(clientOptions(), TerminatingClientEndpoint(overTCP(number)))
        )
        app = yield endpoint.connect(client)
        self.assertEqual([app], client.connections)
        self.assertTrue(ITerminableTransport.providedBy(app.transport))
        app.transport.write(b"hello")
        yield self.made(client)
        app.transport.loseConnection()
        reason = yield self.told(app)
        self.assertEqual((app.received, reason), (b"hello", ConnectionDone))
        self.assertIs(app.report.outcome, Outcome.CLEAN)


@implementer(IStreamClientEndpoint)
class Tunnel:
    """
    Asks a proxy for a tunnel, and hands its transport on: as txtorcon, Scrapy
    and Synapse have it.
    """

    def __init__(self, proxy: Any, switches: bool = False) -> None:
        self._proxy = proxy
        self._switches = switches

    def connect(self, factory: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        switches = self._switches

        class Asking(Protocol):
            inner: Any = None

            def connectionMade(self) -> None:
                self.transport.write(b"CONNECT x:1 HTTP/1.1\r\n\r\n")

            def dataReceived(self, data: bytes) -> None:
                if self.inner is not None:
                    self.inner.dataReceived(data)
                    return
                self.inner = factory.buildProtocol(None)
                if switches:
                    self.transport.protocol = self.inner  # type: ignore
                self.inner.makeConnection(self.transport)
                done.callback(self.inner)

            def connectionLost(self, reason: Any = None) -> None:
                if self.inner is not None:
                    self.inner.connectionLost(reason)

        asking = Factory.forProtocol(Asking)
        asking.noisy = False
        self._proxy.connect(asking).addErrback(done.errback)
        return done


class Borrowing:
    """
    Asks for the tunnel by the application's protocol, whose C{dataReceived} it
    borrows, and starts TLS on its transport: as Scrapy has it.
    """

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy

    def connect(self, factory: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def asks(protocol: Any) -> None:
            received = protocol.dataReceived

            def dataReceived(data: bytes) -> None:
                protocol.dataReceived = received
                protocol.transport.startTLS(clientOptions(), factory)
                done.callback(protocol)

            protocol.transport.write(b"CONNECT x:1 HTTP/1.1\r\n\r\n")
            protocol.dataReceived = dataReceived

        self._proxy.connect(factory).addCallback(asks).addErrback(done.errback)
        return done


class TunnelTests(TransparencyTestCase):
    """
    A client endpoint around one that hands its transport on.
    """

    def upstream(self, does: Callable[[Any], Any], tls: bool) -> tuple[int, Any]:
        """
        A proxy, and behind it a server that takes one connection.

        @return: its port, and a Deferred of what C{does} returns.
        """
        path = certificateFile(self) if tls else None
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(SECONDS)
        return listener.getsockname()[1], deferToThread(
            self._upstream, listener, path, does
        )

    @staticmethod
    def _upstream(
        listener: socket.socket, path: Optional[str], does: Callable[[Any], Any]
    ) -> Any:
        with listener:
            client, _ = listener.accept()
        client.settimeout(SECONDS)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if path is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
            client = context.wrap_socket(client, server_side=True)
        with client:
            if client.recv(2) != b"hi":
                return "no request"
            client.sendall(b"answer")
            return does(client)

    @inlineCallbacks
    def through(
        self, prefix: str, tls: bool, does: Callable[[Any], Any], then: Any
    ) -> Any:
        """
        Ask through a tunnel, and do C{then} with the answer.

        @return: a Deferred of the application and the server's result.
        """
        number, result = self.upstream(does, tls)
        endpoint: Any = Tunnel(overTCP(number))
        if tls:
            endpoint = wrapClientTLS(clientOptions(), endpoint)
        factory = Apps(
            made=lambda app: app.transport.write(b"hi"),
            does=lambda app, data: app.received == b"answer" and then(app),
        )
        app = yield wrapped(endpoint, prefix).connect(factory)
        self.assertIsInstance(app, App)
        reason = yield self.told(app)
        found = yield result
        self.assertEqual(app.received, b"answer")
        if not tls:
            self.assertEqual(reason, ConnectionDone)
        return app, found

    def uploads(self, app: Any) -> None:
        app.transport.write(b"u" * _SIZE)
        app.transport.loseConnection()

    @inlineCallbacks
    def test_plain(self) -> Any:
        """
        All that was written arrives, and the end is clean.
        """
        for prefix in self.prefixes:
            app, found = yield self.through(prefix, False, receive, self.uploads)
            self.assertEqual(found, (_SIZE, "FIN"))
            if prefix:
                self.assertIs(app.report.outcome, Outcome.CLEAN)
                self.assertIs(app.report.delivered, True)

    @inlineCallbacks
    def test_TLS(self) -> Any:
        """
        The same with TLS over it.
        """
        needs("OpenSSL")

        def receiving(client: Any) -> Any:
            data, end = receiveTLS(client)
            return len(data), end

        for prefix in self.prefixes:
            app, found = yield self.through(prefix, True, receiving, self.uploads)
            self.assertEqual(found, (_SIZE, "close_notify"))
            if prefix:
                self.assertIs(app.report.outcome, Outcome.CLEAN)
                self.assertIs(app.report.closeNotifySent, True)

    @inlineCallbacks
    def test_borrowed(self) -> Any:
        """
        The same where the tunnel borrows the application's protocol, and starts TLS.
        """
        needs("OpenSSL")

        def answered(app: Any, data: bytes) -> None:
            if app.received == b"answer":
                self.uploads(app)

        for prefix in self.prefixes:
            for inner in (prefix, ""):  # within the tunnel, too, or not
                number, result = self.upstream(receiveTLS, True)
                tunnel = Borrowing(wrapped(overTCP(number), inner))
                app = yield wrapped(tunnel, prefix).connect(Apps(does=answered))
                app.transport.write(b"hi")
                reason = yield self.told(app)
                data, end = yield result
                self.assertEqual((len(data), end), (_SIZE, "close_notify"))
                self.assertEqual(app.received, b"answer")
                if prefix:
                    self.assertEqual(reason, ConnectionDone)
                    self.assertIs(app.report.outcome, Outcome.CLEAN)
                    self.assertIs(app.report.closeNotifySent, True)

    @inlineCallbacks
    def test_wrappedTwice(self) -> Any:
        """
        An endpoint around a tunnel that is around one, where the tunnel hands its
        transport on by C{transport.protocol}: the FINs are the application's, and
        it is told of its end once.
        """

        class Ended(MixedApp):
            reports = 0

            def terminated(self, report: Any) -> None:
                Ended.reports += 1

        for prefix in self.prefixes:
            Ended.reports = 0
            number, result = self.upstream(receive, False)
            factory = Apps(
                made=lambda app: app.transport.write(b"hi"),
                does=lambda app, data: app.transport.loseWriteConnection(),
            )
            factory.protocol = Ended if prefix else App
            tunnel = Tunnel(wrapped(overTCP(number), prefix), switches=True)
            app = yield wrapped(tunnel, prefix).connect(factory)
            reason = yield self.told(app)
            found = yield result
            self.assertEqual((app.received, reason), (b"answer", ConnectionDone))
            self.assertEqual(found, (0, "FIN"))
            if prefix:
                self.assertIs(app.report.outcome, Outcome.CLEAN)
                self.assertEqual(Ended.reports, 1)

    @inlineCallbacks
    def test_stays(self) -> Any:
        """
        A server that stays is waited for no longer than the policy says.
        """
        leave = threading.Event()
        self.addCleanup(leave.set)

        def stays(client: Any) -> Any:
            found = receive(client)
            leave.wait(SECONDS)
            return found

        def loses(app: Any) -> None:
            app.transport.loseConnection()
            ended = app.transport.whenTerminated()
            ended.addCallback(lambda report: leave.set())

        app, found = yield self.through("term:", False, stays, loses)
        self.assertEqual(found, (0, "FIN"))
        self.assertIs(app.report.outcome, Outcome.LINGER_EXPIRED)

    @inlineCallbacks
    def test_closes(self) -> Any:
        """
        A server that closes first has closed cleanly.
        """
        for prefix in self.prefixes:
            app, _ = yield self.through(
                prefix, False, lambda client: None, lambda app: None
            )
            if prefix:
                self.assertIs(app.report.outcome, Outcome.CLEAN)
                self.assertIs(app.report.initiator, Initiator.PEER)


class Between:
    """
    An endpoint around another one that does something with what it builds.
    """

    def __init__(self, inner: Any, does: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._does = does

    def _factory(self, factory: Any) -> Any:
        does = self._does

        class Building(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                return does(factory.buildProtocol(addr))

        return Building()

    def connect(self, factory: Any) -> Any:
        return self._inner.connect(self._factory(factory))


class HostingTests(TransparencyTestCase):
    """
    An endpoint that does with the protocol that it has built what it likes.
    """

    @inlineCallbacks
    def host(self, prefix: str, does: Callable[[Any], Any]) -> Any:
        """
        @return: a Deferred of the client's factory, once all has ended.
        """
        server = Apps(
            does=lambda app, data: (
                app.transport.write(data.upper()),
                data == b"end" and app.transport.loseConnection(),
            )
        )
        number = yield self.serveTCP(prefix + TCP, server)
        client = Apps(made=lambda app: app.transport.write(b"end"))
        yield wrapped(Between(overTCP(number), does), prefix).connect(client)
        yield self.until(lambda: client.connections and client.connections[0].lost)
        return client

    @inlineCallbacks
    def test_dataReceived(self) -> Any:
        """
        Setting C{dataReceived} on the built protocol: as for one that counts.
        """
        for prefix in self.prefixes:
            counted: list[int] = []

            def counting(built: Any, counted: list[int] = counted) -> Any:
                received = built.dataReceived

                def dataReceived(data: bytes) -> None:
                    counted.append(len(data))
                    received(data)

                built.dataReceived = dataReceived
                return built

            client = yield self.host(prefix, counting)
            self.assertEqual(client.connections[0].received, b"END")
            self.assertEqual(counted, [3])

    @inlineCallbacks
    def test_connectionMade(self) -> Any:
        """
        Setting C{transport}, and calling C{connectionMade}.
        """

        class Hosting(Protocol):
            def __init__(self, built: Any) -> None:
                self.built = built

            def connectionMade(self) -> None:
                self.built.transport = self.transport
                self.built.connectionMade()

            def dataReceived(self, data: bytes) -> None:
                self.built.dataReceived(data)

            def connectionLost(self, reason: Any = None) -> None:
                self.built.connectionLost(reason)

        for prefix in self.prefixes:
            client = yield self.host(prefix, Hosting)
            (app,) = client.connections
            yield self.told(app)
            self.assertEqual(app.received, b"END")
            if prefix:
                self.assertTrue(ITerminableTransport.providedBy(app.transport))
                self.assertIs(app.report.outcome, Outcome.CLEAN)


class Proxied:
    """
    A third party's transport around another one, as C{twisted.protocols.htb} has
    one: it has all attributes of that one, and is not called by the reactor.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ProxiedTests(TransparencyTestCase):
    """
    A protocol that is given such a transport.
    """

    @inlineCallbacks
    def test_ends(self) -> Any:
        """
        Whoever ends the connection, over TCP and TLS: what was written arrives, and
        the application is told once, and with the mixin of the report once.
        """
        needs("OpenSSL")
        for kind in App, MixedApp:
            for text, connect in (
                (TCP, self.connect),
                (self.overTLS(""), connectTLS),
            ):
                for ends in True, False:
                    reports: list[Any] = []

                    class Built(kind):  # type: ignore[misc, valid-type]
                        def makeConnection(self, transport: Any) -> None:
                            super().makeConnection(Proxied(transport))

                        def terminated(
                            self, report: Any, reports: list[Any] = reports
                        ) -> None:
                            reports.append(report)

                    def answers(app: Any, data: bytes, ends: bool = ends) -> None:
                        app.transport.write(b"x" * _SIZE)
                        if ends:
                            app.transport.loseConnection()

                    factory: Any = Apps(does=answers)
                    factory.protocol = Built
                    number = yield self.serveTCP(text, factory)
                    client = yield deferToThread(connect, number, b"?")

                    def reads(client: Any = client) -> int:
                        count = 0
                        while count < _SIZE:
                            count += len(client.recv(1 << 16))
                        client.close()
                        return count

                    yield deferToThread(reads)
                    app = yield self.made(factory)
                    yield self.told(app)
                    self.assertEqual(app.transport.written, _SIZE)
                    self.assertEqual(len(reports), kind is MixedApp)


class IMine(Interface):
    """
    Marks a transport.
    """


class IOther(Interface):
    """
    Marks it otherwise.
    """


class ObjectTests(TransparencyTestCase):
    """
    A transport as a Python object.
    """

    @inlineCallbacks
    def each(self, look: Callable[[Any, str], Any]) -> Any:
        """
        Look at the transport of bare Twisted's, and at ours, by each way in.

        @return: a Deferred of what C{look} has returned.
        """
        found = []
        ways: Iterable[tuple[str, type[App], Callable[[Any], Any]]] = (
            ("", App, lambda factory: factory),
            ("term:", App, lambda factory: factory),
            ("", App, TerminatingFactory),
            ("", MixedApp, lambda factory: factory),
        )
        for prefix, protocol, wrap in ways:
            factory: Any = Apps()
            factory.protocol = protocol
            number = yield self.serveTCP(prefix + TCP, wrap(factory))
            with self.connect(number):
                app = yield self.made(factory)
                found.append(look(app, str(number)))
                app.transport.abortConnection()
                yield self.told(app)
        return found

    @inlineCallbacks
    def test_interfaces(self) -> Any:
        """
        Interfaces that somebody gives to it, it provides, beside its own; and
        those that he takes from it, it does not.
        """

        def look(app: Any, number: str) -> list[bool]:
            transport, seen = app.transport, []
            alsoProvides(transport, IMine)
            seen.append(IMine.providedBy(transport))
            noLongerProvides(transport, IMine)
            seen.append(IMine.providedBy(transport))
            directlyProvides(transport, IMine)
            directlyProvides(transport, IOther)
            seen += [face.providedBy(transport) for face in (IMine, IOther)]
            seen.append(ITCPTransport.providedBy(transport))
            # To others, who share its class, nothing is given.
            seen.append(IOther.implementedBy(type(transport)))
            return seen

        found = yield self.each(look)
        self.assertEqual(found, [[True, False, False, True, True, False]] * 4)

    @inlineCallbacks
    def test_attributes(self) -> Any:
        """
        An attribute that is set lands on the transport itself, where all who
        have it find it, and can be deleted.
        """

        def look(app: Any, number: str) -> list[Any]:
            transport = app.transport
            below = getattr(transport, "wrapped", transport)
            transport.mine = 1
            seen = [transport.mine, below.mine, "mine" in dir(transport)]
            below.mine = 2
            seen.append(transport.mine)
            del transport.mine
            seen += [hasattr(transport, "mine"), hasattr(below, "mine")]
            self.assertRaises(AttributeError, getattr, transport, "other")
            return seen

        found = yield self.each(look)
        self.assertEqual(found, [[1, 1, True, 2, False, False]] * 4)

    @inlineCallbacks
    def test_mockAttributes(self) -> Any:
        """
        unittest.mock replaces an attribute of one transport, and gives it back.
        """
        names = "protocol", "connected", "socket", "fileno", "write", "getPeer"

        def look(app: Any, number: str) -> Any:
            found = []
            for name in names:
                before = getattr(app.transport, name)
                with mock.patch.object(app.transport, name) as put:
                    found.append(getattr(app.transport, name) is put)
                found.append(getattr(app.transport, name) == before)
            return (
                found,
                "socket" in vars(app.transport),
                "server" in dir(app.transport),
            )

        found = yield self.each(look)
        self.assertEqual(found, [([True] * 12, True, True)] * 4)

    @inlineCallbacks
    def test_monkeypatch(self) -> Any:
        """
        A method that is replaced is called, and is its old self when that is
        undone, by whatever means.
        """
        data: list[bytes] = []

        def look(app: Any, number: str) -> list[Any]:
            transport, seen = app.transport, []
            original = transport.write
            transport.write = lambda data: original(data.upper())
            transport.write(b"a")
            del transport.write
            transport.write(b"b")
            with mock.patch.object(transport, "write") as write:
                transport.write(b"c")
                seen.append(write.call_count)
            transport.write(b"d")
            undo = self.patch(transport, "write", seen.append)
            transport.write(b"e")
            undo.restore()
            transport.write(b"f")
            with mock.patch.object(transport, "getPeer", lambda: "nobody"):
                seen.append(transport.getPeer())
            seen.append(transport.getPeer().type)
            with mock.patch.object(transport, "loseConnection") as lose:
                transport.loseConnection()
                seen.append(lose.call_count)
            seen.append(transport.disconnecting)
            sent.append(below(transport))
            return seen

        def below(transport: Any) -> bytes:
            return b"".join(getattr(transport, "wrapped", transport)._tempDataBuffer)

        sent: list[bytes] = []
        found = yield self.each(look)
        self.assertEqual(data, [])
        self.assertEqual(found, [[1, b"e", "nobody", "TCP", 1, False]] * 4)
        self.assertEqual(sent, [b"Abdf"] * 4)

    @inlineCallbacks
    def test_equal(self) -> Any:
        """
        It is equal to the transport that it stands in for, has its hash, and is
        equal to no other.
        """

        def look(app: Any, number: str) -> list[Any]:
            transport = app.transport
            below = getattr(transport, "wrapped", transport)
            return [
                transport == below,
                below == transport,
                hash(transport) == hash(below),
                {below: 1}.get(transport),
                transport == transport,
                transport != below,
                transport == app,
                transport is None,
            ]

        found = yield self.each(look)
        expected = [True, True, True, 1, True, False, False, False]
        self.assertEqual(found, [expected] * 4)

    @inlineCallbacks
    def test_texts(self) -> Any:
        """
        Its C{repr} and its C{logPrefix}, and so the log, know nothing of us.
        """

        def look(app: Any, number: str) -> list[str]:
            texts = [repr(app.transport), str(app.transport)]
            texts.append(app.transport.logPrefix())
            below = getattr(app.transport, "wrapped", app.transport)
            texts.append(repr(below))
            plain = (re.sub(" at 0x[0-9a-f]+", "", text) for text in texts)
            return [
                text.replace(number, "port").replace("MixedApp", "App")
                for text in plain
            ]

        bare, *ours = yield self.each(look)
        self.assertEqual(ours, [bare] * 3)


class FactoryTests(TransparencyTestCase):
    """
    A port passes for Twisted's, and its C{factory} is the application's.
    """

    @inlineCallbacks
    def test_class(self) -> Any:
        """
        Each is of the class that it has in bare Twisted, also inside of TLS, where
        the port's own factory is that of TLS.
        """
        texts = [TCP, f"unix:{self.path()}", self.overTLS("")]
        for text in texts:
            ends = []
            for prefix in self.prefixes:
                factory = Apps()
                port = yield self.serve(prefix + text, factory)
                plain = port.factory is factory
                inside = factory if plain else port.factory.wrappedFactory
                self.assertIsInstance(inside, Apps)
                self.assertEqual(hash(port), hash(port))
                address = re.sub(r"on '?[\d/].*", "", repr(port))
                ends.append((plain, port.__class__, address))
                yield port.stopListening()
            self.assertEqual(ends[0], ends[1])
        ours = TerminatingFactory(TerminatingFactory(Apps()))
        self.assertIsInstance(ours, Apps)
        self.assertIsInstance(ours, TerminatingFactory)

    @inlineCallbacks
    def test_replaced(self) -> Any:
        """
        Another factory takes the place of the first one: connections that are made
        from then on are its own, and ours are drained like others.
        """
        for prefix in self.prefixes:
            first, second = Apps(), Apps()
            port = yield self.serve(prefix + TCP, first)
            port.factory = second
            self.assertIs(port.factory, second)
            self.connect(port.getHost().port)
            app = yield self.made(second)
            drained = hasattr(app.transport, "drain")
            self.assertEqual((first.connections, drained), ([], bool(prefix)))
            app.transport.abortConnection()

    @inlineCallbacks
    def test_attributes(self) -> Any:
        """
        What is read there is the application's, and so is C{protocol} for who
        sets it.
        """
        for prefix in ("", "term:", "term:term:"):
            factory: Any = Apps()
            factory.answers = 2
            port = yield self.serve(f"{prefix}tcp:0:interface=127.0.0.1", factory)
            self.assertEqual(port.factory.answers, 2)
            self.assertIs(port.factory.protocol, App)
            port.factory.protocol = MixedApp
            self.assertIs(factory.protocol, MixedApp)

    def test_nested(self) -> None:
        """
        A wrapping around another one leaves that one's alone.
        """
        policy = TerminationPolicy(lingerTime=1)
        inner = TerminatingFactory(Apps(), policy)
        outer = TerminatingFactory(inner, TerminationPolicy(lingerTime=2))
        self.assertIs(inner.policy, policy)
        self.assertIsNot(outer.protocols, inner.protocols)


class HandleTests(ReactorBuilder):
    """
    Somebody takes the socket away.  Twisted's reactors log errors then, bare or
    not.
    """

    def gone(self, how: str, end: str) -> None:
        loop = self.buildReactor()

        def takes(app: Any, data: bytes) -> None:
            taken = getattr(app.transport.getHandle(), how)()
            if taken is not None:
                self.addCleanup(os.close, taken)
            getattr(app.transport, end)()
            loop.callLater(0.1, loop.stop)

        factory = Apps(does=takes)
        port = loop.listenTCP(0, TerminatingFactory(factory), interface="127.0.0.1")
        with socket.socket() as client:
            client.connect(("127.0.0.1", port.getHost().port))
            client.sendall(b"?")
            self.runReactor(loop, SECONDS)
        (app,) = factory.connections
        self.assertEqual(len(app.lost), 1, (how, end))
        self.assertNotEqual(app.report, None, (how, end))
        self.flushLoggedErrors(OSError, ValueError, KeyError)

    def test_gone(self) -> None:
        """
        After C{getHandle().close()} or C{detach()}, whichever end is asked for
        comes, and is told once.
        """
        # The kernel forgets what is closed, and Twisted's epoll reactor stumbles
        # over that when it is built down, bare or not.
        epoll = type(self.buildReactor()).__name__ == "EPollReactor"
        for how in ("detach",) if epoll else ("close", "detach"):
            for end in (
                "loseConnection",
                "loseWriteConnection",
                "abortConnection",
                "closeConnection",
                "terminate",
                "drain",
            ):
                self.gone(how, end)


globals().update(HandleTests.makeTestCaseClasses())


class ReaderTests(ReactorBuilder):
    """
    On each reactor, whether it knows its readers by number or by identity.
    """

    def test_removeReader(self) -> None:
        """
        A reactor that is told to read a transport no more, or to read it, does
        so: as for one whose socket is given to a child.
        """
        for wrap in (lambda factory: factory, TerminatingFactory):
            loop = self.buildReactor()
            seen: list[Any] = []
            client = socket.socket()

            def made(
                app: Any,
                loop: Any = loop,
                seen: list[Any] = seen,
                client: socket.socket = client,
            ) -> None:
                loop.removeReader(app.transport)
                client.sendall(b"hello")
                loop.callLater(0.1, later, app, loop, seen)

            def later(app: Any, loop: Any, seen: list[Any]) -> None:
                seen.append(app.received)
                loop.addReader(app.transport)
                loop.callLater(0.1, last, app, loop, seen)

            def last(app: Any, loop: Any, seen: list[Any]) -> None:
                seen.append(app.received)
                loop.removeReader(app.transport)
                seen.append(app.transport in loop.getReaders())
                app.transport.abortConnection()
                loop.callLater(0, loop.stop)

            port = loop.listenTCP(0, wrap(Apps(made)), interface="127.0.0.1")
            with client:
                client.connect(("127.0.0.1", port.getHost().port))
                self.runReactor(loop, SECONDS)
            self.assertEqual(seen, [b"", b"hello", False])


globals().update(ReaderTests.makeTestCaseClasses())
