"""
Whom to probe, and what to send: over HTTP, or the bytes of a file.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Protocol
from urllib.parse import urlsplit

from ._answers import Answer, readHTTP

_BLOCK = 1 << 16


class Upload(NamedTuple):
    """
    @ivar filler: what to repeat behind C{data}.
    """

    data: bytes
    filler: bytes


class Target(Protocol):
    """
    @ivar text: as the user wrote it.
    @ivar framed: an answer tells where it ends.
    @ivar request: what a polite client sends.
    @ivar pipeline: two requests, and empty lines behind them; C{None} if the protocol
        has no such thing.
    """

    text: str
    host: str
    port: int
    framed: bool
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


class HTTPTarget:
    """
    A URL.

    @raise ValueError: if it is none, or none of C{http:}.
    """

    framed = True

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme != "http" or not parts.hostname or port == 0:
            raise ValueError(f"{url!r}: must be http://host:port/path")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not (path + parts.netloc).isascii() or set(path + parts.netloc) & set(" \t"):
            raise ValueError(f"{url!r}: must be ASCII without blanks, %-encoded")
        self.text = url
        self.host = parts.hostname
        self.port = port or 80
        self._path = path
        self._host = parts.netloc.rpartition("@")[2]
        self.request = self._header("GET", "Connection: close")
        # RFC 9112, section 9.6, forbids more requests behind the last one, but
        # section 2.2 knows clients that send empty lines.
        self.pipeline: Optional[Upload] = Upload(
            self._header("GET") + self.request, b"\r\n" * (_BLOCK // 2)
        )

    def _header(self, method: str, *fields: str) -> bytes:
        lines = [
            f"{method} {self._path} HTTP/1.1",
            f"Host: {self._host}",
            "User-Agent: term-probe",
            "Accept: */*",
            *fields,
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")

    def upload(self, size: int) -> Upload:
        """
        A POST, without C{Expect: 100-continue}.
        """
        kind = "Content-Type: application/octet-stream"
        length = f"Content-Length: {size}"
        header = self._header("POST", kind, length, "Connection: close")
        return Upload(header, b"u" * _BLOCK)

    def read(self, data: bytes, count: int = 1) -> Answer:
        """
        @raise BadAnswer: if it is not HTTP.
        """
        return readHTTP(data, count)


class RawTarget:
    """
    A host and port, and bytes to send there.

    @raise ValueError: if C{where} is no host and port.
    """

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


__all__ = ["HTTPTarget", "RawTarget", "Target", "Upload"]
