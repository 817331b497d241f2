"""
What a L{Monitor} knows, for people and programs: a live page, Prometheus
metrics, and what a load balancer or Kubernetes asks.

It can be put into any C{Site}, at any path::

    monitor = Monitor()
    service = DrainingService(endpoint, monitor.wrap(factory))
    status = StatusResource(monitor, lambda: not service.draining)
    root.putChild(b"status", status)  # http://.../status/

The page shows the addresses of peers, and asks nobody for a password: let only
those reach it who may know.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Optional
from urllib.parse import quote

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from ..web import ReadinessResource
from . import page
from .monitor import Monitor

_log = Logger()

#: Seconds between looks at the monitor, while somebody watches.
_INTERVAL = 1.0
#: After so many looks with no news a comment is sent, so that nobody between
#: here and the viewer takes the stream for dead.
_HEARTBEAT = 15
_NEEDS = b"/metrics needs prometheus_client: pip install 'twisted_term[metrics]'\n"


class StatusResource(Resource):
    """
    The page, and below it:

      - C{events}: what the page listens to (text/event-stream, see WHATWG HTML,
        9.2).  A viewer that does not read is sent nothing, and then what is new.
        While C{ready()} is false each stream ends after one event, so that no
        viewer keeps a server from its end; the page asks again.
      - C{metrics}: for Prometheus; 501 without the extra C{metrics}.
      - C{health}: 200, as long as the process answers.
      - C{ready}: L{twisted_term.web.ReadinessResource}.
    """

    def __init__(
        self,
        monitor: Monitor,
        ready: Callable[[], bool],
        clock: Optional[IReactorTime] = None,
    ) -> None:
        """
        @param ready: as for L{twisted_term.web.ReadinessResource}; without a
            drain it may be C{lambda: True}.
        @param clock: C{None} for the global reactor.
        """
        super().__init__()
        if clock is None:
            from twisted.internet import reactor

            clock = IReactorTime(reactor)
        self.putChild(b"", _Page(monitor, ready))
        self.putChild(b"events", _Events(monitor, ready, clock))
        self.putChild(b"metrics", _Metrics(monitor))
        self.putChild(b"health", _Health())
        self.putChild(b"ready", ReadinessResource(ready))

    def render_GET(self, request: Any) -> bytes:
        """
        Asked without the slash: what the page refers to is below it.
        """
        request.redirect(f"./{quote(request.prepath[-1])}/".encode("ascii"))
        return b""


class _Leaf(Resource):
    isLeaf = True

    def begin(self, request: Any, contentType: str, code: int = 200) -> None:
        request.setResponseCode(code)
        request.setHeader("content-type", contentType)
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-content-type-options", "nosniff")


class _Page(_Leaf):
    def __init__(self, monitor: Monitor, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._monitor = monitor
        self._ready = ready

    def render_GET(self, request: Any) -> bytes:
        self.begin(request, "text/html; charset=utf-8")
        request.setHeader("content-security-policy", page.POLICY)
        request.setHeader("referrer-policy", "no-referrer")
        return page.page(self._monitor, self._ready())


class _Health(_Leaf):
    def render_GET(self, request: Any) -> bytes:
        self.begin(request, "text/plain; charset=utf-8")
        return b"healthy\n"


class _Metrics(_Leaf):
    def __init__(self, monitor: Monitor) -> None:
        super().__init__()
        self._monitor = monitor

    def render_GET(self, request: Any) -> bytes:
        try:
            from .metrics import exposition
        except ImportError:
            self.begin(request, "text/plain; charset=utf-8", 501)
            return _NEEDS
        body, contentType = exposition(self._monitor, request.getHeader("accept") or "")
        self.begin(request, contentType)
        return body


@implementer(IPushProducer)
class _Viewer:
    """
    One stream of events.

    @ivar after: the number of the last termination that it has been sent.
    """

    _paused = False
    _silent = 0
    _seen: object = None

    def __init__(self, request: Any, after: int) -> None:
        self._request = request
        self.after = after
        request.registerProducer(self, True)

    def tell(self, news: dict[str, Any], monitor: Monitor) -> None:
        """
        Send what is new, unless the last events have not been read yet.
        """
        if self._paused:
            return
        self._silent += 1
        if news != self._seen:
            ended = page.endedSince(monitor, self.after)
            text = json.dumps({**news, "ended": ended})
            self._request.write(f"data: {text}\n\n".encode("ascii"))
            self._seen, self.after, self._silent = news, news["last"], 0
        elif self._silent >= _HEARTBEAT:
            self._request.write(b":\n\n")
            self._silent = 0

    def finish(self) -> None:
        """
        End the stream.
        """
        self._request.unregisterProducer()
        self._request.finish()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False  # the next look is not far

    def stopProducing(self) -> None:
        """
        The connection is lost, as C{notifyFinish} says too.
        """


class _Events(_Leaf):
    def __init__(
        self, monitor: Monitor, ready: Callable[[], bool], clock: IReactorTime
    ) -> None:
        super().__init__()
        self._monitor = monitor
        self._ready = ready
        self._viewers: list[_Viewer] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def render_HEAD(self, request: Any) -> bytes:
        self.begin(request, "text/event-stream")
        return b""

    def render_GET(self, request: Any) -> Any:
        text = request.args.get(b"after", [b"0"])[0]
        if not (text.isdigit() and len(text) < 20):
            self.begin(request, "text/plain; charset=utf-8", 400)
            return f"after={text[:40]!r}: must be a whole number\n".encode("ascii")
        self.begin(request, "text/event-stream")
        request.setHeader("x-accel-buffering", "no")  # nginx: pass events on at once
        viewer = _Viewer(request, int(text))
        self._viewers.append(viewer)
        request.notifyFinish().addBoth(self._gone, viewer)
        self._tell([viewer])
        if self._viewers and not self._looking.running:
            looking = self._looking.start(_INTERVAL, now=False)
            looking.addErrback(lambda failure: _log.failure("no news", failure))
        return NOT_DONE_YET

    def _gone(self, result: object, viewer: _Viewer) -> None:
        self._viewers.remove(viewer)
        if not self._viewers and self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        self._tell(list(self._viewers))

    def _tell(self, viewers: list[_Viewer]) -> None:
        monitor, ready = self._monitor, self._ready()
        news = {
            "since": page.iso(monitor.since),
            "last": monitor.total,
            "ready": ready,
            "summary": page.summary(monitor, ready),
            "counts": page.counts(monitor),
        }
        for viewer in viewers:
            viewer.tell(news, monitor)
            if not ready:
                viewer.finish()


__all__ = ["StatusResource"]
