"""
What the table of servers says, by plain sockets: in each column two servers
that lose data, and two that do not.  Nothing of the prober is used here but the
way to start the servers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from .probing import benchmark
from .support import SECONDS, once

_SIZE = 20_000_000
_GET = b"GET /file HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
_CLOSE = b"Connection: close\r\n"
#: Seconds until a client reads.
_LATE = 0.5


def received(client: Any) -> bytes:
    """
    All until the end, whatever that is.
    """
    data = bytearray()
    with contextlib.suppress(OSError):
        while piece := client.recv(1 << 18):
            data += piece
    return bytes(data)


def connect(port: int) -> socket.socket:
    """
    With a small receive buffer: the file has to wait in the server.
    """
    client = socket.socket()
    client.settimeout(SECONDS)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.connect(("127.0.0.1", port))
    return client


def bodyOf(data: bytes) -> bytes:
    """
    Of one answer; the servers announce its length.
    """
    return data.partition(b"\r\n\r\n")[2]


def halfClose(port: int, process: Any) -> int:
    """
    A request and FIN.

    @return: bytes of the body that came.
    """
    with connect(port) as client:
        client.sendall(_GET % _CLOSE)
        client.shutdown(socket.SHUT_WR)
        time.sleep(_LATE)
        return len(bodyOf(received(client)))


def halfCloseTLS(port: int, process: Any) -> int:
    """
    A request, close_notify, and FIN.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_bio(incoming, outgoing)
    data = bytearray()
    with connect(port) as client:
        for step in (tls.do_handshake, lambda: tls.write(_GET % _CLOSE)):
            while True:
                try:
                    step()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    incoming.write(client.recv(1 << 16))
        client.sendall(outgoing.read())
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        client.sendall(outgoing.read())
        client.shutdown(socket.SHUT_WR)
        time.sleep(_LATE)
        incoming.write(received(client))
    with contextlib.suppress(ssl.SSLError):
        while piece := tls.read(1 << 16):
            data += piece
    return len(bodyOf(bytes(data)))


_FRAME = struct.Struct(">HBBBI")  # RFC 9113, section 4.1; the length has 24 bits
_DATA, _HEADERS, _SETTINGS, _GOAWAY, _WINDOW = 0, 1, 4, 7, 8
_MOST = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        _FRAME.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream)
        + payload
    )


class FrameClient:
    """
    A client of HTTP/2 that has said its preface, with windows that are wide open.
    """

    # RFC 7541: GET and https are in the static table, and the names of the others.
    _request = b"\x82\x87\x04\x05/file\x01\x09localhost"

    def __init__(self, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket = context.wrap_socket(raw)
        self._data = bytearray()
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _MOST))
            + frame(_WINDOW, 0, 0, struct.pack(">I", _MOST - 65535))
        )

    def ask(self, stream: int, behind: bytes = b"") -> None:
        """
        @param behind: other frames.
        """
        self.socket.sendall(frame(_HEADERS, 5, stream, self._request) + behind)

    def answered(self, stream: int) -> tuple[int, bool]:
        """
        The bytes that come, and whether the answer has come to its end.
        """
        count = 0
        with contextlib.suppress(OSError):
            while piece := self.socket.recv(1 << 16):
                self._data += piece
                while len(self._data) >= 9:
                    high, low, kind, flags, number = _FRAME.unpack_from(self._data)
                    size = high << 8 | low
                    if len(self._data) < 9 + size:
                        break
                    del self._data[: 9 + size]
                    if kind == _SETTINGS and not flags:
                        self.socket.sendall(frame(_SETTINGS, 1, 0, b""))
                    if kind == _DATA and number == stream:
                        count += size
                        if flags & 1:
                            return count, True
        return count, False


def goAway(port: int, process: Any, code: int = 0) -> int:
    """
    A request of HTTP/2, and GOAWAY behind it.

    @param code: the error code of the GOAWAY.
    """
    client = FrameClient(port)
    with client.socket:
        client.ask(1, frame(_GOAWAY, 0, 0, struct.pack(">II", 0, code)))
        return client.answered(1)[0]


def twoRequests(port: int, between: Callable[[], None]) -> bool:
    """
    Are both answered?  The second one is sent before anything is read.

    @param between: called when the first has been answered.
    """
    client = FrameClient(port)
    with client.socket:
        client.ask(1)
        first = client.answered(1)[1]
        between()
        with contextlib.suppress(OSError):
            client.ask(3)
        return first and client.answered(3)[1]


def closeAndFIN(port: int, process: Any) -> int:
    """
    A WebSocket, a Close frame, and FIN.

    @return: as many bytes as the file has, if a Close frame comes back.
    """
    mask = b"\0\0\0\0"
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        client.sendall(
            b"GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(9999)
        client.sendall(b"\x88\x82" + mask + struct.pack(">H", 1000))
        client.shutdown(socket.SHUT_WR)
        data = data.partition(b"\r\n\r\n")[2] + received(client)
    return _SIZE if data[:1] == b"\x88" else 0


def stopped(port: int, process: subprocess.Popen[bytes]) -> int:
    """
    A download that has begun when the server gets SIGTERM.
    """
    with connect(port) as client:
        client.sendall(_GET % _CLOSE)
        data = client.recv(1)
        process.send_signal(signal.SIGTERM)
        time.sleep(_LATE)
        return len(bodyOf(data + received(client)))


Script = Callable[[int, "subprocess.Popen[bytes]"], int]


@once
class ConfirmedTests(SynchronousTestCase):
    """
    By the name that the table has for each.
    """

    def arrived(self, name: str, tls: bool, client: Script) -> int:
        """
        How many bytes of the file reach a client.
        """
        probed = benchmark()
        server = next(one for one in probed.SERVERS if one.name == name)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            try:
                server.version()
                if server.proxy:
                    probed.package("aiohttp")()
                place = probed._place(Path(folder), os.urandom(_SIZE))
                command = server.command(place._replace(tls=tls))
            except (probed.Missing, FileNotFoundError) as problem:
                raise SkipTest(str(problem)) from None
            if server.proxy:
                behind = place._replace(port=place.backend)
                backend = probed.BACKEND(behind)
                stack.enter_context(probed._running(backend, behind))
            process = stack.enter_context(probed._running(command, place))
            return client(place.port, process)

    def confirm(
        self,
        client: Script,
        loses: tuple[str, ...],
        clean: tuple[str, ...],
        tls: bool = False,
    ) -> None:
        found, skipped = {}, []
        for name in (*loses, *clean):
            try:
                found[name] = self.arrived(name, tls, client) == _SIZE
            except SkipTest as problem:
                skipped.append(str(problem))
        expected = {name: name in clean for name in found}
        self.assertEqual(found, expected)
        if skipped:
            raise SkipTest(", ".join(skipped))

    def test_http(self) -> None:
        """
        HTTP/1.1: half-close.
        """
        self.confirm(
            halfClose,
            ("twisted.web", "nginx"),
            ("twisted.web, term:", "Daphne, term:"),
        )

    def test_tls(self) -> None:
        """
        TLS: half-close.
        """
        self.confirm(
            halfCloseTLS,
            ("twisted.web", "nginx"),
            ("twisted.web, term:", "Daphne, term:"),
            tls=True,
        )

    def test_http2(self) -> None:
        """
        HTTP/2: GOAWAY behind the request.
        """
        self.confirm(
            goAway,
            ("twisted.web", "Daphne"),
            ("nginx", "lighttpd", "twisted.web, term:", "Daphne, term:"),
            tls=True,
        )

    def test_webSocket(self) -> None:
        """
        WebSocket: FIN behind the Close frame.
        """
        self.confirm(
            closeAndFIN, ("nginx, proxy", "Caddy, proxy"), ("Daphne", "Daphne, term:")
        )

    def test_deploy(self) -> None:
        """
        SIGTERM in the midst of a download.
        """
        self.confirm(
            stopped,
            ("twisted.web", "nginx"),
            ("twisted.web, term:", "Daphne, term:"),
        )
