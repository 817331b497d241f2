"""
twisted.web: a site whose connections are drained request by request, and the
readiness that a load balancer asks for.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from .interfaces import IDrainable


class _DrainingRequest:
    """
    Mixed in before the site's request class.
    """

    channel: Any

    def process(self) -> None:
        if self.channel.site.draining:
            _closeAfter(self)
        super().process()  # type: ignore[misc]


def _closeAfter(request: Any) -> None:
    """
    Make C{request} the last one of its connection (RFC 9112, 9.6).
    """
    if not request.startedWriting:
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
    request.channel.persistent = False


@implementer(IDrainable)
class DrainingSite(Site):
    """
    A C{Site} for a L{twisted_term.DrainingService}.  In a drain, an idle
    keep-alive connection ends at once; one with a request in flight, or
    arriving, ends when that is answered, with C{Connection: close} if the
    response has not begun.  HTTP/1 only: HTTP/2 ends as any other protocol.

    @ivar draining: has a drain begun?
    """

    draining = False

    def __init__(
        self,
        resource: Any,
        requestFactory: Optional[Callable[..., Any]] = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        base: Any = requestFactory or Request
        self._request = type(base.__name__, (_DrainingRequest, base), {})
        self._inFlight: dict[Any, set[Any]] = {}
        super().__init__(resource, self._makeRequest, *args, **kwargs)

    def _makeRequest(self, channel: Any, *args: Any, **kwargs: Any) -> Any:
        request = self._request(channel, *args, **kwargs)
        transport = channel.transport
        self._inFlight.setdefault(transport, set()).add(request)
        request.notifyFinish().addBoth(self._finished, transport, request)
        return request

    def _finished(self, result: Any, transport: Any, request: Any) -> None:
        requests = self._inFlight[transport]
        requests.discard(request)
        if not requests:
            del self._inFlight[transport]

    def drain(self, transport: Any) -> None:
        """
        See L{IDrainable.drain}.
        """
        self.draining = True
        requests = self._inFlight.get(transport)
        if not requests:
            transport.loseConnection()
        for request in requests or ():
            _closeAfter(request)


class ReadinessResource(Resource):
    """
    Answers 200 while C{ready()} is true, and 503 from then on: C{ready} may
    be C{lambda: not service.draining}.
    """

    isLeaf = True

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._ready = ready

    def render_GET(self, request: Any) -> bytes:
        """
        Say whether new connections are welcome.
        """
        ready = self._ready()
        request.setResponseCode(200 if ready else 503)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return b"ready\n" if ready else b"draining\n"


__all__ = ["DrainingSite", "ReadinessResource"]
