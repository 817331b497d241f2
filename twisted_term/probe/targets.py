"""
Whom to probe, and what to send: HTTP, WebSocket, or the bytes of a file.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import NamedTuple, Optional, Protocol
from urllib.parse import urlsplit

from .answers import Answer, readHTTP
from .channel import TLS

_BLOCK = 1 << 16
#: By what other name what the user wants may be known.
_HINTS = {
    "h2": "https with --http2",
    "http2": "https with --http2",
    "http+unix": "http with --unix PATH",
    "unix": "host:port or a URL, with --unix PATH",
}
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_OTHERS = "for other protocols, host:port with --send FILE"


class Upload(NamedTuple):
    """
    @ivar filler: what to repeat behind C{data}.
    """

    data: bytes
    filler: bytes


class Security(NamedTuple):
    """
    How TLS is to be.

    @ivar insecure: any certificate will do.
    @ivar authority: the path of a file with certificates to trust; C{None} for
        those of the system.
    @ivar name: for SNI, and what the certificate has to name; C{None} for the
        host of the URL.
    @ivar version: C{"1.2"} or C{"1.3"}; C{None} for whichever is agreed on.
    """

    insecure: bool = False
    authority: Optional[str] = None
    name: Optional[str] = None
    version: Optional[str] = None

    def tls(self, host: str, protocol: str) -> TLS:
        """
        @param protocol: what to offer by ALPN.
        @raise OSError: if the file cannot be read, or has no certificate.
        """
        context = ssl.create_default_context(cafile=self.authority)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.version is not None:
            version = ssl.TLSVersion["TLSv" + self.version.replace(".", "_")]
            context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols([protocol])
        return TLS(context, self.name or host)


class Target(Protocol):
    """
    @ivar text: as the user wrote it.
    @ivar protocol: whose cases are played: C{"HTTP/1.1"}, C{"HTTP/2"},
        C{"WebSocket"} or C{"raw"}.
    @ivar framed: an answer tells where it ends.
    """

    text: str
    protocol: str
    host: str
    port: int
    framed: bool

    @property
    def alpn(self) -> Optional[str]:
        """
        What to offer over TLS; C{None} without TLS.
        """


class StreamTarget(Target, Protocol):
    """
    One whose requests, and answers, are bytes one behind the other.

    @ivar request: what a polite client sends.
    @ivar pipeline: two requests, and empty lines behind them; C{None} if the protocol
        has no such thing.
    """

    request: bytes
    pipeline: Optional[Upload]

    def upload(self, size: int) -> Upload:
        """
        A request that goes on for so many bytes.
        """

    def read(self, data: bytes, count: int = 1) -> Answer:
        """
        So many answers.
        """


class WebTarget:
    """
    A URL.

    @ivar fields: of the user's, for each request.
    @cvar schemes: that the protocol has.

    @raise ValueError: if it is none.
    """

    framed = True
    schemes: tuple[str, ...] = ("http", "https")
    protocol = "HTTP/1.1"

    def __init__(
        self,
        url: str,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS and "://" in url and parts.scheme:
            hint = _HINTS.get(parts.scheme)
            hint = f"perhaps {hint}" if hint else _OTHERS
            known = "http, https, ws or wss"
            raise ValueError(f"{url!r}: the scheme must be {known}; {hint}")
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise ValueError(f"{url!r}: must be http://host:port/path")
        if parts.scheme not in self.schemes:
            schemes = " or ".join(self.schemes)
            raise ValueError(f"{url!r}: the scheme must be {schemes} here")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError(f"{url!r}: must be ASCII without blanks, %-encoded")
        self.text = url
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.port = port or _PORTS[parts.scheme]
        self.path = path
        self.authority = parts.netloc.rpartition("@")[2]
        self.method = method
        self.fields = tuple(fields)

    @property
    def alpn(self) -> Optional[str]:
        """
        As in L{Target}.
        """
        return "http/1.1" if self.scheme in ("https", "wss") else None


class HTTPTarget(WebTarget):
    """
    HTTP/1.1.
    """

    def __init__(
        self, url: str, method: str = "GET", fields: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(url, method, fields)
        self.request = self.header(method, "Connection: close")
        # RFC 9112, section 9.6, forbids more requests behind the last one, but
        # section 2.2 knows clients that send empty lines.
        self.pipeline: Optional[Upload] = Upload(
            self.header(method) + self.request, b"\r\n" * (_BLOCK // 2)
        )

    def header(self, method: str, *fields: str) -> bytes:
        """
        One request, without a body.

        @param fields: beside those of the user's, which come before ours.
        """
        given = {name.lower() for name, _ in self.fields}
        ours = [f"Host: {self.authority}", "User-Agent: term-probe", "Accept: */*"]
        lines = [
            f"{method} {self.path} HTTP/1.1",
            *(line for line in ours if line.partition(":")[0].lower() not in given),
            *(f"{name}: {value}" for name, value in self.fields),
            *fields,
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    def urlOf(self, path: str) -> str:
        """
        A WebSocket of the same server.
        """
        scheme = "wss" if self.scheme == "https" else "ws"
        return f"{scheme}://{self.authority}{path}"

    def at(self, path: str) -> HTTPTarget:
        """
        Something else of the same server.

        @raise ValueError: if it is no path.
        """
        if not path.startswith("/"):
            raise ValueError(f"{path!r}: must be a path that starts with /")
        url = f"{self.scheme}://{self.authority}{path}"
        return HTTPTarget(url, self.method, self.fields)

    def upload(self, size: int) -> Upload:
        """
        A POST, without C{Expect: 100-continue}.
        """
        kind = "Content-Type: application/octet-stream"
        length = f"Content-Length: {size}"
        header = self.header("POST", kind, length, "Connection: close")
        return Upload(header, b"u" * _BLOCK)

    def read(self, data: bytes, count: int = 1) -> Answer:
        """
        @raise BadAnswer: if it is not HTTP.
        """
        return readHTTP(data, count, self.method)


class HTTP2Target(WebTarget):
    """
    HTTP/2, by ALPN, or with prior knowledge (RFC 9113, section 3.3).
    """

    protocol = "HTTP/2"

    @property
    def alpn(self) -> Optional[str]:
        """
        As in L{Target}.
        """
        return "h2" if self.scheme == "https" else None


class WebSocketTarget(WebTarget):
    """
    WebSocket.

    @ivar message: what to send when it is open; C{None} for nothing.
    """

    protocol = "WebSocket"
    schemes = ("ws", "wss")

    def __init__(
        self,
        url: str,
        fields: Sequence[tuple[str, str]] = (),
        message: Optional[str] = None,
    ) -> None:
        super().__init__(url, "GET", fields)
        self.message = message


class RawTarget:
    """
    A host and port, and bytes to send there.

    @raise ValueError: if C{where} is no host and port.
    """

    protocol = "raw"
    framed = False
    pipeline: Optional[Upload] = None

    def __init__(self, where: str, request: bytes) -> None:
        host, _, port = where.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not host or not 0 < number < 1 << 16:
            raise ValueError(f"{where!r}: must be host:port, with a port of 1 to 65535")
        self.text = where
        self.host = host
        self.port = number
        self.request = request

    @property
    def alpn(self) -> Optional[str]:
        """
        Never TLS.
        """
        return None

    def upload(self, size: int) -> Upload:
        """
        The file, and zeros behind it.
        """
        return Upload(self.request, bytes(_BLOCK))

    def read(self, data: bytes, count: int = 1) -> Answer:
        """
        All that came; nothing tells where it should end.
        """
        return Answer(data)


__all__ = [
    "HTTP2Target",
    "HTTPTarget",
    "RawTarget",
    "Security",
    "StreamTarget",
    "Target",
    "Upload",
    "WebSocketTarget",
    "WebTarget",
]
