"""
term-probe over HTTP/2 and WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional, cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.probe.answers import BadAnswer
from twisted_term.probe.targets import HTTP2Target, WebSocketTarget

from .certificates import certificateFile, needs
from .probing import BODY, SIZE, ProbeTestCase, Scripted
from .processes import TWISTD, Server
from .support import REPEATED, SECONDS, once

_ECHO = """
import sys
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.python.log import startLogging

class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)

startLogging(sys.stdout)
factory = WebSocketServerFactory()
factory.protocol = Echo
serverFromString(reactor, sys.argv[1]).listen(factory)
reactor.run()
"""


@once
class HTTP2Tests(ProbeTestCase):
    """
    Servers that are made of the h2 library, and play a part.
    """

    def url(self, answer: Callable[[Any, int], None], body: bytes = b"abc") -> str:
        """
        @param answer: is called for each request, when it ends or has a body.
        """
        needs("h2")
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.events import ConnectionTerminated, RequestReceived

        def script(connection: Any) -> None:
            wire = H2Connection(H2Configuration(client_side=False))
            wire.initiate_connection()
            connection.sendall(wire.data_to_send())
            while data := connection.recv(1 << 16):
                for event in wire.receive_data(data):
                    if isinstance(event, RequestReceived):
                        answer(wire, event.stream_id)
                    elif isinstance(event, ConnectionTerminated):
                        return
                connection.sendall(wire.data_to_send())

        return f"http://127.0.0.1:{Scripted(self, script).port}/"

    def test_clean(self) -> None:
        """
        A server that answers each stream, at once.
        """

        def answer(wire: Any, stream: int) -> None:
            fields = [(":status", "200"), ("content-length", "3")]
            wire.send_headers(stream, fields)
            wire.send_data(stream, b"abc", end_stream=True)

        cases = ("--case=polite", "--case=upload", "--case=beside", "--case=reset")
        url = self.url(answer)
        status, document, rounds = self.judgeURL(
            url, "--http2", "--upload=90000", *cases
        )
        self.assertEqual({r["verdict"] for r in rounds.values()}, {"clean"}, rounds)
        self.assertEqual((status, document["protocol"]), (0, "HTTP/2"))
        self.assertEqual(rounds["beside"]["received"], 3)

    def test_earlyAnswer(self) -> None:
        """
        An early answer, and then RST_STREAM with NO_ERROR (RFC 9113, section
        8.1), is whole.
        """
        needs("h2")
        from h2.exceptions import StreamClosedError

        def answer(wire: Any, stream: int) -> None:
            fields = [(":status", "413"), ("content-length", "3")]
            wire.send_headers(stream, fields)
            wire.send_data(stream, b"abc", end_stream=True)
            with contextlib.suppress(StreamClosedError):  # it had no body
                wire.reset_stream(stream, 0)

        url = self.url(answer)
        case = ("--http2", "--case=upload", "--upload=9000000", "--patience=5")
        status, _, rounds = self.judgeURL(url, *case)
        self.assertEqual(rounds["upload"]["verdict"], "clean", rounds)
        self.assertEqual((status, rounds["upload"]["status"]), (0, 413))

    def test_goneAway(self) -> None:
        """
        GOAWAY before the rest of the answer is no end of it.
        """

        def answer(wire: Any, stream: int) -> None:
            from h2.connection import ConnectionState

            wire.send_headers(stream, [(":status", "200")])
            wire.send_data(stream, b"ab")
            wire.close_connection(last_stream_id=stream)
            wire.state_machine.state = ConnectionState.SERVER_OPEN
            wire.send_data(stream, b"c", end_stream=True)

        status, _, rounds = self.judgeURL(self.url(answer), "--http2", "--case=polite")
        self.assertEqual((status, rounds["polite"]["verdict"]), (0, "clean"), rounds)
        self.assertEqual(rounds["polite"]["received"], 3)

    def test_windowsBehindGoAway(self) -> None:
        """
        What comes before a GOAWAY, in the same piece, opens the windows again, so
        that the rest of the answer can come.
        """
        needs("h2")
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        from twisted_term.probe.http2 import Connection

        client = Deaf()
        target = HTTP2Target("http://a/")
        connection = Connection(cast(Any, client), target)
        connection.ask("GET")
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        server.receive_data(client.more())
        server.send_headers(1, [(":status", "200")])
        while window := server.local_flow_control_window(1):
            server.send_data(1, bytes(min(window, 1 << 14)))
        # Not by the library, which would end all streams: RFC 9113, section 6.8.
        goAway = b"\0\0\x08\x07\0\0\0\0\0" + b"\0\0\0\x01" + bytes(4)
        client.listener(server.data_to_send() + goAway)
        self.assertEqual((connection.goneAway, connection.last), (True, 1))
        server.receive_data(client.more())
        self.assertGreater(server.local_flow_control_window(1), 0)

    def test_refused(self) -> None:
        """
        A stream behind the last one of a GOAWAY, and one that REFUSED_STREAM
        ends, were not begun: nothing is lost.
        """
        needs("h2")
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        from twisted_term.probe.http2 import HTTP2Wire

        for end in ("GOAWAY", "RST_STREAM"):
            client = Deaf()
            wire = HTTP2Wire(
                cast(Any, client), mock.Mock(target=HTTP2Target("http://a/"))
            )
            wire.ask()
            server = H2Connection(H2Configuration(client_side=False))
            server.initiate_connection()
            server.receive_data(client.more())
            self.assertFalse(wire.refused or wire.over(1))
            if end == "GOAWAY":
                server.close_connection(last_stream_id=0)
            else:
                server.reset_stream(1, 7)
            client.listener(server.data_to_send())
            self.assertTrue(wire.refused and wire.over(1), end)

    def test_loses(self) -> None:
        """
        RST_STREAM in the midst of an announced answer.
        """

        def answer(wire: Any, stream: int) -> None:
            fields = [(":status", "200"), ("content-length", "3")]
            wire.send_headers(stream, fields)
            wire.send_data(stream, b"ab")
            wire.reset_stream(stream, 2)

        status, _, rounds = self.judgeURL(self.url(answer), "--http2", "--case=polite")
        self.assertEqual((status, rounds["polite"]["verdict"]), (1, "loses data"))
        self.assertEqual(rounds["polite"]["note"], "1 bytes missing")

    def test_cutShort(self) -> None:
        """
        END_STREAM in the midst of an announced answer.
        """

        def answer(wire: Any, stream: int) -> None:
            fields = [(":status", "200"), ("content-length", "3")]
            wire.send_headers(stream, fields)
            wire.send_data(stream, b"ab", end_stream=True)

        status, _, rounds = self.judgeURL(self.url(answer), "--http2", "--case=polite")
        self.assertEqual((status, rounds["polite"]["verdict"]), (1, "loses data"))
        self.assertEqual(rounds["polite"]["note"], "1 bytes missing")

    def test_noHTTP2(self) -> None:
        """
        Another protocol is an error in one line.
        """
        needs("h2")
        for data in (b"HTTP/1.1 400 No\r\n\r\n", b"\0" * 99, b"\xff" * 99):
            port = Scripted(self, lambda skt, data=data: skt.sendall(data)).port
            url = f"http://127.0.0.1:{port}/"
            status, _, err = self.probe(url, "--http2", "--patience=2")
            self.assertEqual((status, err.count("\n")), (2, 1), err)


class Deaf:
    """
    As much of a client as a connection needs.
    """

    protocol = "h2"

    def __init__(self) -> None:
        self.sent = b""
        self.listener: Callable[[bytes], None] = lambda data: None
        self.more: Callable[[], bytes] = bytes

    def send(self, data: bytes) -> None:
        self.sent += data

    def sendFrom(self, more: Callable[[], bytes]) -> None:
        self.more = more


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """
    The same, with up to three bytes that are others.
    """
    spoiled = bytearray(data)
    for _ in range(chance.randrange(4)):
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


@once
class GeneratedTests(SynchronousTestCase):
    """
    Answers that are broken in all sorts of ways: none is worse than a L{BadAnswer}.
    """

    #: So many; C{TEST_ANSWERS} asks for another number.
    answers = int(os.environ.get("TEST_ANSWERS", 20_000)) // 10

    def test_http2(self) -> None:
        """
        Frames, and numbers in the header.
        """
        needs("h2")
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        from twisted_term.probe.http2 import Connection

        chance = random.Random(17)
        seen: Counter[str] = Counter()
        target = HTTP2Target("http://a/")
        for _ in range(self.answers):
            client = Deaf()
            connection = Connection(cast(Any, client), target)
            stream = connection.ask("GET")
            unchecked = H2Configuration(False, validate_outbound_headers=False)
            server = H2Connection(unchecked)
            server.initiate_connection()
            server.receive_data(client.more())
            length = chance.choice(("3", "3", "\xb2", "9" * 30, "x"))
            status = chance.choice(("200", "200", "404", "abc", "", "-1"))
            server.send_headers(1, [(":status", status), ("content-length", length)])
            server.send_data(1, b"abc", end_stream=True)
            try:
                client.listener(spoilt(chance, server.data_to_send()))
            except BadAnswer:
                seen["bad"] += 1
            else:
                client.more()
                seen["whole" if stream.answer.complete else "cut"] += 1
        self.assertEqual(len(seen), 3, seen)

    def test_webSocket(self) -> None:
        """
        The handshake, and frames.
        """
        needs("wsproto")
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import (
            AcceptConnection,
            CloseConnection,
            Ping,
            TextMessage,
        )

        from twisted_term.probe.websocket import WebSocket

        chance = random.Random(18)
        seen: Counter[str] = Counter()
        target = WebSocketTarget("ws://a/")
        for _ in range(self.answers):
            client = Deaf()
            connection = WebSocket(cast(Any, client), target)
            server = WSConnection(ConnectionType.SERVER)
            server.receive_data(client.sent)
            list(server.events())
            head = server.send(AcceptConnection())
            frames = server.send(TextMessage("\u1234")) + server.send(Ping(b"x"))
            frames += server.send(CloseConnection(1000, "\u1234"))
            if chance.random() < 0.5:
                head = spoilt(chance, head)
            client.listener(head)
            client.listener(spoilt(chance, frames))
            wrong = connection.wrong is not None
            seen["wrong" if wrong else str(connection.answer.complete)] += 1
        self.assertEqual(len(seen), 3, seen)


class WebSocketServer:
    """
    An echo server of the websockets library, in a thread.
    """

    def __init__(self, test: Any) -> None:
        needs("websockets")
        from websockets.asyncio.server import serve

        ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._stop: Optional[asyncio.Event] = None
        self.port = 0

        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        async def main() -> None:
            self._stop = asyncio.Event()
            async with serve(echo, "127.0.0.1", 0, logger=mock.Mock()) as server:
                self.port = next(iter(server.sockets)).getsockname()[1]
                ready.set()
                await self._stop.wait()

        thread = threading.Thread(target=self._loop.run_until_complete, args=[main()])
        thread.start()
        test.assertTrue(ready.wait(SECONDS))
        test.addCleanup(thread.join, SECONDS)
        test.addCleanup(
            lambda: self._loop.call_soon_threadsafe(self._stop and self._stop.set)
        )


@once
class WebSocketTests(ProbeTestCase):
    """
    Servers of the websockets library, and some that play a part.
    """

    def setUp(self) -> None:
        needs("wsproto")

    def played(self, *end: str) -> str:
        """
        A server that opens, waits for the Close frame, and does some of these:
        C{close} answers it, C{FIN} ends, C{wait} waits for the client's end.
        """
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import AcceptConnection, CloseConnection, Request

        def script(connection: Any) -> None:
            wire = WSConnection(ConnectionType.SERVER)
            while data := connection.recv(1 << 16):
                wire.receive_data(data)
                for event in wire.events():
                    if isinstance(event, Request):
                        connection.sendall(wire.send(AcceptConnection()))
                    elif isinstance(event, CloseConnection):
                        if "close" in end:
                            connection.sendall(wire.send(event.response()))
                        if "FIN" in end:
                            return

        return f"ws://127.0.0.1:{Scripted(self, script).port}/"

    def test_clean(self) -> None:
        """
        The close handshake, and then TCP; messages come back.
        """
        url = f"ws://127.0.0.1:{WebSocketServer(self).port}/"
        status, document, rounds = self.judgeURL(url, "--message=hello")
        self.assertEqual({r["verdict"] for r in rounds.values()}, {"clean"}, rounds)
        self.assertEqual((status, document["protocol"]), (0, "WebSocket"))
        polite = rounds["polite"]
        self.assertEqual((polite["status"], polite["received"]), (1000, 5))
        self.assertEqual(polite["closedFirst"], "server")

    def test_noCloseFrame(self) -> None:
        """
        A Close frame that is not answered is lost.
        """
        status, _, rounds = self.judgeURL(self.played("FIN"), "--case=polite")
        self.assertEqual((status, rounds["polite"]["verdict"]), (1, "loses data"))
        self.assertEqual(rounds["polite"]["note"], "no answer")

    def test_keepsTCP(self) -> None:
        """
        A server that answers the Close frame and keeps the connection hangs.
        """
        case = ("--case=polite", "--patience=1")
        status, _, rounds = self.judgeURL(self.played("close"), *case)
        self.assertEqual((status, rounds["polite"]["verdict"]), (3, "hangs"))

    def test_refused(self) -> None:
        """
        An answer without an upgrade is an error in one line.
        """
        answer = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
        port = Scripted(self, lambda skt: skt.recv(9999) and skt.sendall(answer)).port
        url = f"ws://127.0.0.1:{port}/"
        status, _, err = self.probe(url)
        self.assertEqual(status, 2)
        self.assertEqual(err, f"term-probe: {url!r}: 404: must be a WebSocket\n")


@once
class LibraryTests(ProbeTestCase):
    """
    HTTP/1.1 needs no library, and the others say which.
    """

    def test_missing(self) -> None:
        """
        Without the libraries C{http:} works, and the others name the extra.
        """
        script = (
            "import sys\n"
            "sys.modules.update(dict.fromkeys(('h2', 'wsproto', 'h11', 'hpack')))\n"
            "from twisted_term.probe.command import main\n"
            "main()\n"
        )
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        port = Scripted(self, lambda skt: skt.recv(9999) and skt.sendall(answer)).port
        for arguments, status, said in (
            ((f"http://127.0.0.1:{port}/", "--case=polite"), 0, ""),
            (("http://a/", "--http2"), 2, 'pip install "twisted_term[probe]"'),
            (("ws://a/",), 2, 'pip install "twisted_term[probe]"'),
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


class TwistedTests(ProbeTestCase):
    """
    Servers of Twisted, as processes.
    """

    def web(self, prefix: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """
        twisted.web over TLS and HTTP/2.

        @return: the exit status, and the worst round of each case.
        """
        needs("h2", "priority")
        certificate = certificateFile(self)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        Path(directory.name, "file").write_bytes(BODY)
        listen = f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate}"
        listen += f":certKey={certificate}"
        web = ("web", "--path", directory.name, "--listen", listen)
        port = Server(self, (*TWISTD, *web)).port()
        url = f"https://localhost:{port}/file"
        return self._probed(url, "--http2", f"--ca={certificate}", *arguments)

    def _probed(self, url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "twisted_term.probe", "--json", "--rounds=1"]
            + [url, *arguments],
            stdout=subprocess.PIPE,
            timeout=3 * SECONDS,
        )
        document = json.loads(done.stdout)
        return done.returncode, {c["name"]: c["rounds"][-1] for c in document["cases"]}

    def test_bareHTTP2(self) -> None:
        """
        Bare twisted.web drops the answer to a client that says GOAWAY.
        """
        cases = ("--case=polite", "--case=goaway", "--patience=5")
        status, rounds = self.web("", *cases)
        self.assertEqual(rounds["polite"]["verdict"], "clean", rounds)
        self.assertEqual(rounds["polite"]["received"], SIZE)
        self.assertEqual((status, rounds["goaway"]["lost"]), (1, True))

    def test_libraryGoesAway(self) -> None:
        """
        h2 sends nothing behind a client's GOAWAY, not even what was queued.  When
        this fails, look at what twisted.web does then, and at L{test_termHTTP2}.
        """
        needs("h2")
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.exceptions import ProtocolError

        client = H2Connection()
        client.initiate_connection()
        names = {"method": "GET", "scheme": "http", "authority": "a", "path": "/"}
        fields = [(f":{name}", value) for name, value in names.items()]
        client.send_headers(1, fields, end_stream=True)
        client.close_connection()
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        server.receive_data(client.data_to_send())
        self.assertEqual(server.data_to_send(), b"")
        answer = [(":status", "200")]
        self.assertRaises(ProtocolError, server.send_headers, 1, answer)

    def test_termHTTP2(self) -> None:
        """
        Behind C{term:} all cases are clean, over TLS 1.2 and 1.3.
        """
        for version in ("1.3",) if REPEATED else ("1.2", "1.3"):
            status, rounds = self.web("term:", f"--tls={version}", "--upload=1000000")
            verdicts = {name: one["verdict"] for name, one in rounds.items()}
            self.assertEqual({*verdicts.values()}, {"clean"}, verdicts)
            self.assertEqual(status, 0)

    # Two libraries below us see to that.  h2 takes a connection that has received a
    # GOAWAY for closed, whatever RFC 9113, section 6.8, says of the streams that are
    # open: it forgets what is not sent yet, its own SETTINGS included, and to send
    # more is a ProtocolError.  And at h2's ConnectionTerminated, twisted.web tells
    # each of its streams that the connection is lost, and ends it.  To keep that frame
    # from the two, somebody of ours would have to read each frame of an open
    # connection, which costs everybody, for clients that hardly exist.
    test_termHTTP2.todo = (  # type: ignore[attr-defined]
        "h2 and twisted.web drop their streams at a client's GOAWAY, behind term: too"
    )

    def test_termWebSocket(self) -> None:
        """
        Autobahn behind C{term:} is clean in all cases.
        """
        needs("autobahn", "wsproto")
        listen = "term:tcp:0:interface=127.0.0.1:lingerIdle=0.5"
        port = Server(self, (sys.executable, "-c", _ECHO, listen)).port()
        status, rounds = self._probed(f"ws://127.0.0.1:{port}/", "--message=hello")
        verdicts = {name: one["verdict"] for name, one in rounds.items()}
        self.assertEqual({*verdicts.values()}, {"clean"}, verdicts)
        self.assertEqual((status, rounds["polite"]["received"]), (0, 5))
