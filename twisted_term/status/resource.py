"""
The numbers of a L{Monitor}, for people and programs: a live page, Prometheus
metrics, and the answers for a load balancer or Kubernetes.

It can be put into any C{Site}, at any path::

    monitor = Monitor()
    service = DrainingService(endpoint, monitor.wrap(factory))
    root.putChild(b"status", StatusResource(monitor))  # http://.../status/

The page shows the addresses of peers, and asks for no password.  Make sure that only
people who may see the addresses can reach it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import Site

from . import page
from .events import Events
from .hosts import Hosts
from .leaf import Leaf
from .monitor import Monitor
from .site import ReadinessResource

_NEEDS = "/metrics needs prometheus_client: pip install 'twisted_term[metrics]'"


class StatusResource(Resource):
    """
    The page, and below it:

      - C{events}: the news of the page, L{twisted_term.status.events.Events}.
      - C{metrics}: for Prometheus; 501 without the extra C{metrics}.
      - C{health}: 200, as long as the process answers.
      - C{ready}: L{twisted_term.web.ReadinessResource}.

    The page, C{events} and C{metrics} answer only to the names in
    L{twisted_term.status.hosts.Hosts}.
    """

    def __init__(
        self,
        monitor: Monitor,
        ready: Optional[Callable[[], bool]] = None,
        clock: Optional[IReactorTime] = None,
        hosts: Iterable[str] = (),
    ) -> None:
        """
        @param ready: as for L{twisted_term.web.ReadinessResource}; C{None} if the
            monitor knows it, because the factory that its C{wrap} made is drained.
        @param clock: C{None} for the global reactor.
        @param hosts: names by which the page may be asked for, such as
            C{status.example.com}, beside addresses and local names.
        @raise TypeError: if C{ready} cannot be called, or C{hosts} is no list of names.
        """
        super().__init__()
        if clock is None:
            from twisted.internet import reactor

            clock = IReactorTime(reactor)
        if ready is None:

            def ready() -> bool:
                return not monitor.draining

        readiness = ReadinessResource(ready)
        names = Hosts(hosts)
        self.putChild(b"", _Page(monitor, ready, names))
        self.putChild(b"events", Events(monitor, ready, clock, names))
        self.putChild(b"metrics", _Metrics(monitor, names))
        self.putChild(b"health", _Health())
        self.putChild(b"ready", readiness)

    def render_GET(self, request: Any) -> bytes:
        """
        The page.  A request without the slash at the end of the path is redirected,
        because the page refers to resources below it.
        """
        request.redirect(f"./{quote(request.prepath[-1])}/".encode("ascii"))
        return b""


class _Page(Leaf):
    def __init__(
        self, monitor: Monitor, ready: Callable[[], bool], hosts: Hosts
    ) -> None:
        super().__init__(hosts)
        self._monitor = monitor
        self._ready = ready

    def render_GET(self, request: Any) -> bytes:
        self.begin(request, "text/html; charset=utf-8")
        request.setHeader("content-security-policy", page.POLICY)
        request.setHeader("referrer-policy", "no-referrer")
        return page.page(self._monitor, self._ready())


def statusSite(monitor: Monitor, hosts: Iterable[str]) -> Site:
    """
    A web server for the page alone, which writes no log.
    """
    site = Site(StatusResource(monitor, hosts=hosts))
    site.noisy = False
    return site


class _Health(Leaf):
    def render_GET(self, request: Any) -> bytes:
        return self.say(request, 200, "healthy")


class _Metrics(Leaf):
    def __init__(self, monitor: Monitor, hosts: Hosts) -> None:
        super().__init__(hosts)
        self._monitor = monitor

    def render_GET(self, request: Any) -> bytes:
        try:
            from .metrics import exposition
        except ImportError:
            return self.say(request, 501, _NEEDS)
        accept = b",".join(request.requestHeaders.getRawHeaders(b"accept", []))
        body, contentType = exposition(self._monitor, accept.decode("latin-1"))
        self.begin(request, contentType)
        return body


__all__ = ["StatusResource", "statusSite"]
