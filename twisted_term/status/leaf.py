"""
What all answers of the status page have in common.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.web.resource import Resource

from .hosts import Hosts


class Leaf(Resource):
    """
    A resource without children.  If C{Host} has a name that is not one of its own, it
    answers with 421 (RFC 9110, 15.5.20).
    """

    isLeaf = True

    def __init__(self, hosts: Optional[Hosts] = None) -> None:
        """
        @param hosts: the names; C{None} for any name, if the answer tells nothing that
            has to be protected.
        """
        super().__init__()
        self._hosts = hosts

    def render(self, request: Any) -> Any:
        """
        Answer, if the name is right.  A request without C{Host} is answered, because
        it does not come from a browser.
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
