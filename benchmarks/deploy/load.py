"""
The load: clients that ask again and again, and count what they get.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import socket
import threading
import time
from collections import Counter
from typing import Any, Callable, NamedTuple, Optional

from .restarts import Address

_SECONDS = 40.0
#: What is downloaded.
BIG = os.urandom(2_000_000)
_SMALL = b"x" * 200
_UPLOAD = os.urandom(1_000_000)


class Failure(NamedTuple):
    """
    A request without its answer.

    @ivar name: the client's name and the reason.
    @ivar at: when it failed, as C{time.time} has it.
    @ivar seconds: how long it took.
    @ivar port: the client's, if that is known.
    """

    name: str
    at: float
    seconds: float
    port: Optional[int]


class Unexpected(Exception):
    """
    What came is no answer.
    """


def reason(error: BaseException) -> str:
    """
    One or two words.
    """
    names: list[tuple[type[BaseException], str]] = [
        (Unexpected, str(error)),
        (http.client.IncompleteRead, "truncated"),
        (http.client.RemoteDisconnected, "no answer"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (ConnectionRefusedError, "refused"),
        (TimeoutError, "timeout"),
    ]
    for kind, name in names:
        if isinstance(error, kind):
            return name
    # What httpx says of HTTP/2: RFC 9113, 7, has the numbers.
    code = re.search(r"<(\w+).* error_code:(\w+)", str(error))
    return f"{code[1]} {code[2]}" if code else type(error).__name__


class Client:
    """
    Asks, over one connection if it may.

    @ivar name: of the row that it is counted in.
    @ivar port: its own, of the connection that it has had last.
    @cvar pause: seconds between two requests.
    """

    pause = 0.005
    port: Optional[int] = None

    def __init__(self, name: str, address: Address, reusing: bool) -> None:
        self.name = name
        self._address = address
        self._reusing = reusing

    def ask(self) -> Optional[str]:
        """
        Once.

        @return: what is to be counted beside the answer.
        @raise Exception: if there is no right answer.
        """
        raise NotImplementedError

    def close(self) -> None:
        """
        Close the connection, if there is one.
        """
        raise NotImplementedError


class Requests(Client):
    """
    HTTP/1.1.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        reusing: bool,
        path: str,
        body: Optional[bytes],
        expected: bytes,
    ) -> None:
        super().__init__(name, address, reusing)
        self._request = ("GET" if body is None else "POST"), path, body
        self._expected = expected
        self._connection: Optional[http.client.HTTPConnection] = None

    def ask(self) -> Optional[str]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._address.plain, timeout=_SECONDS
            )
            self._connection.connect()
            self.port = self._connection.sock.getsockname()[1]
        headers = {} if self._reusing else {"Connection": "close"}
        self._connection.request(*self._request, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise Unexpected(str(response.status))
        if body != self._expected:
            raise Unexpected("wrong bytes")
        if response.will_close:
            self.close()
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class HTTP2(Client):
    """
    HTTP/2 over TLS, with httpx.
    """

    pause = 0.02
    _client: Any = None

    def ask(self) -> Optional[str]:
        import httpx

        if self._client is None:
            self._client = httpx.Client(http1=False, http2=True, verify=False)
        url = f"https://127.0.0.1:{self._address.tls}/small"
        answer = self._client.get(url, timeout=_SECONDS)
        with contextlib.suppress(OSError):  # it is closed, behind a GOAWAY
            stream = answer.extensions["network_stream"]
            self.port = stream.get_extra_info("client_addr")[1]
        if answer.status_code != 200:
            raise Unexpected(str(answer.status_code))
        if answer.http_version != "HTTP/2" or answer.content != b"small":
            raise Unexpected("wrong answer")
        if not self._reusing:
            self.close()
        return None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class WebSocket(Client):
    """
    Says something, and hears it back.  It connects again when it is told 1001,
    "going away" (RFC 6455, 7.4.1), which is no failure; an end without a close
    frame is 1006.
    """

    pause = 0.05

    def __init__(self, name: str, address: Address, reusing: bool) -> None:
        super().__init__(name, address, reusing)
        self._socket: Optional[socket.socket] = None
        self._codec: Any = None

    def _connect(self) -> None:
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import AcceptConnection, Request

        self._socket = socket.create_connection(
            ("127.0.0.1", self._address.plain), _SECONDS
        )
        self.port = self._socket.getsockname()[1]
        self._codec = WSConnection(ConnectionType.CLIENT)
        self._send(Request(host="localhost", target="/echo"))
        answer = self._receive()
        if not isinstance(answer, AcceptConnection):
            raise Unexpected(str(getattr(answer, "status_code", type(answer).__name__)))

    def _send(self, event: Any) -> None:
        assert self._socket is not None
        self._socket.sendall(self._codec.send(event))

    def _receive(self) -> Any:
        assert self._socket is not None
        for event in self._codec.events():
            return event
        while True:
            data = self._socket.recv(1 << 16)
            if not data:
                raise Unexpected("1006")
            self._codec.receive_data(data)
            for event in self._codec.events():
                return event

    def ask(self) -> Optional[str]:
        from wsproto.events import CloseConnection, TextMessage

        if self._socket is None:
            self._connect()
        try:
            self._send(TextMessage(data="hello"))
            answer = self._receive()
        except OSError as error:
            raise Unexpected("1006") from error
        if isinstance(answer, CloseConnection):
            self.close()
            if answer.code != 1001:
                raise Unexpected(str(answer.code))
            return "1001"
        if not isinstance(answer, TextMessage) or answer.data != "hello":
            raise Unexpected("wrong answer")
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _get(path: str, expected: bytes) -> Callable[..., Client]:
    return lambda *own: Requests(*own, path, None, expected)


def _post(body: bytes) -> Callable[..., Client]:
    expected = hashlib.sha256(body).hexdigest().encode()
    return lambda *own: Requests(*own, "/sum", body, expected)


#: How many of which.
CLIENTS: dict[str, tuple[int, Callable[..., Client]]] = {
    "GET": (4, _get("/small", b"small")),
    "POST": (4, _post(_SMALL)),
    "download": (2, _get("/big", BIG)),
    "upload": (2, _post(_UPLOAD)),
    "HTTP2": (2, HTTP2),
    "WebSocket": (2, WebSocket),
}


class Load:
    """
    All clients at once, each in a thread.

    @ivar answers: by the client's name.
    @ivar told: what is no failure and no answer.
    @ivar failures: those that failed.
    @ivar longest: seconds that a request took.
    """

    def __init__(self, names: list[str], address: Address, reusing: bool) -> None:
        self.answers: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.longest = 0.0
        self._stop = threading.Event()
        clients = [
            make(name, address, reusing)
            for name in names
            for count, make in (CLIENTS[name],)
            for _ in range(count)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(client,), daemon=True)
            for client in clients
        ]

    def start(self) -> None:
        """
        Begin.
        """
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """
        End each client after its request.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * _SECONDS)

    @property
    def failed(self) -> Counter[str]:
        """
        How many, by the client's name and the reason.
        """
        return Counter(failure.name for failure in self.failures)

    def _run(self, client: Client) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                told = client.ask()
            except Exception as error:
                name = f"{client.name} {reason(error)}"
                took = time.monotonic() - begin
                self.failures.append(Failure(name, time.time(), took, client.port))
                client.close()
            else:
                if told is None:
                    self.answers[client.name] += 1
                else:
                    self.told[f"{client.name} {told}"] += 1
            self.longest = max(self.longest, time.monotonic() - begin)
            time.sleep(client.pause)
        client.close()
