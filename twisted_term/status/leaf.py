"""
What all answers of the status page have in common.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.web.resource import Resource

from .hosts import Hosts


class Leaf(Resource):
    """
    A resource without children, which answers to its own names alone: 421
    (RFC 9110, 15.5.20) for any other in C{Host}.
    """

    isLeaf = True

    def __init__(self, hosts: Optional[Hosts] = None) -> None:
        """
        @param hosts: C{None} for any name, where nothing is to be learned.
        """
        super().__init__()
        self._hosts = hosts

    def render(self, request: Any) -> Any:
        """
        Answer, if the name is right.  A request without a C{Host} is none of a
        browser's.
        """
        if self._hosts is not None:
            for value in request.requestHeaders.getRawHeaders(b"host", []):
                host = value.decode("latin-1")
                if host not in self._hosts:
                    return self.say(
                        request,
                        421,
                        f"Host {host[:80]!r}: must be an IP address, this machine's"
                        " name, or one of the hosts that the server was given",
                    )
        return super().render(request)

    def begin(self, request: Any, contentType: str, code: int = 200) -> None:
        """
        Begin an answer.
        """
        request.setResponseCode(code)
        request.setHeader("content-type", contentType)
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-content-type-options", "nosniff")

    def say(self, request: Any, code: int, text: str) -> bytes:
        """
        Answer with one line.
        """
        self.begin(request, "text/plain; charset=utf-8", code)
        return f"{text}\n".encode()


__all__ = ["Leaf"]
