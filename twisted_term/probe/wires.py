"""
Requests that stay under way while a server is stopped, over HTTP/1.1 and HTTP/2
alike.
"""

from __future__ import annotations

from typing import Any, Protocol

from .answers import Answer, readHTTP
from .cases import Probe
from .client import Client
from .targets import HTTPTarget


class Wire(Protocol):
    """
    One connection, which the client has opened.
    """

    @property
    def kept(self) -> bool:
        """
        The server takes more requests.
        """

    def ask(self, last: bool = False) -> None:
        """
        Send a request.

        @param last: no other follows.
        """

    def upload(self, size: int, first: int) -> None:
        """
        Send a request with a body of so many bytes, and the first of them.
        """

    def more(self, count: int) -> None:
        """
        Send so many more of them.
        """

    def over(self, count: int) -> bool:
        """
        Nothing more is to come of so many answers.
        """

    def answer(self, count: int) -> Answer:
        """
        So many answers.

        @raise BadAnswer: if they are none.
        """

    @property
    def cut(self) -> bool:
        """
        The last answer was given up, and the connection was not.
        """

    @property
    def refused(self) -> bool:
        """
        The server says that it has not begun with the last request, so that the
        client may ask another one (RFC 9113, sections 6.8 and 8.7).
        """


class HTTPWire:
    """
    HTTP/1.1.
    """

    cut = refused = False

    def __init__(self, client: Client, probe: Probe[HTTPTarget]) -> None:
        self._client = client
        self._target = probe.target
        self._least = len(probe.reference.answer.body) if probe.reference else 0
        self._uploads = False

    @property
    def kept(self) -> bool:
        """
        See L{Wire}.
        """
        return not self._client.over

    def ask(self, last: bool = False) -> None:
        """
        See L{Wire.ask}.
        """
        target = self._target
        self._client.send(target.request if last else target.header(target.method))

    def upload(self, size: int, first: int) -> None:
        """
        See L{Wire.upload}.
        """
        self._uploads = True
        self._client.send(self._target.upload(size).data + bytes(first))

    def more(self, count: int) -> None:
        """
        See L{Wire.more}.
        """
        self._client.send(bytes(count))

    def over(self, count: int) -> bool:
        """
        See L{Wire.over}.
        """
        data = self._client.data
        # To parse it all at each look would take long.
        if not data or (not self._uploads and len(data) < count * self._least):
            return False
        return bool(self.answer(count).complete)

    def answer(self, count: int) -> Answer:
        """
        See L{Wire.answer}.
        """
        method = "POST" if self._uploads else self._target.method
        return readHTTP(bytes(self._client.data), count, method)


def wireOf(client: Client, probe: Probe[Any]) -> Wire:
    """
    @raise BadAnswer: if the server does not speak the protocol.
    """
    if probe.target.protocol == "HTTP/2":
        from .http2 import HTTP2Wire

        return HTTP2Wire(client, probe)
    return HTTPWire(client, probe)


__all__ = ["HTTPWire", "Wire", "wireOf"]
