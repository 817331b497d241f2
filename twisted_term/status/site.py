"""
For C{twisted.web}: a C{Site} that knows whether it is drained, and the answer to a
load balancer that asks for readiness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from ..interfaces import IDrainable, IDrainListener


@implementer(IDrainable, IDrainListener)
class DrainingSite(Site):
    """
    A C{Site} that knows whether it is drained, by a L{twisted_term.DrainingService}
    or with C{term:}, so that a resource can say so.  Any other C{Site} is drained in
    the same way.

    @ivar draining: has a drain begun?  C{readinessDelay} is part of it.
    """

    draining = False

    if TYPE_CHECKING:  # Twisted's Site has no annotations

        def __init__(self, resource: Any, *args: Any, **kwargs: Any) -> None: ...

    def servingBegins(self) -> None:
        """
        See L{IDrainListener.servingBegins}.
        """
        self.draining = False

    def drainBegins(self) -> None:
        """
        See L{IDrainListener.drainBegins}.
        """
        self.draining = True

    def drain(self, transport: Any) -> None:
        """
        See L{IDrainable.drain}.
        """
        transport.drain()


class ReadinessResource(Resource):
    """
    Answers 200 while C{ready()} is true, and 503 from then on: C{ready} may
    be C{lambda: not service.draining}.  GET, HEAD and OPTIONS are the same, since
    HAProxy's C{option httpchk} asks by OPTIONS.
    """

    isLeaf = True

    def __init__(self, ready: Callable[[], bool]) -> None:
        """
        @raise TypeError: if C{ready} cannot be called.
        """
        if not callable(ready):
            raise TypeError(
                f"ready={ready!r}: must be a function that says whether the server is"
                " ready, such as lambda: not service.draining"
            )
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

    render_OPTIONS = render_GET


__all__ = ["DrainingSite", "ReadinessResource"]
