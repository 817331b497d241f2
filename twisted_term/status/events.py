"""
The server-sent events that the page listens to (text/event-stream, WHATWG HTML, 9.2).
"""

from __future__ import annotations

import json
from typing import Any, Callable

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from . import page
from .hosts import Hosts
from .leaf import Leaf
from .monitor import Monitor

_log = Logger()

#: Seconds between looks at the monitor while there is a viewer.
_INTERVAL = 1.0
#: After this many looks without news a comment is sent.  Otherwise a proxy between
#: the server and the viewer might close the stream because it is idle.
_HEARTBEAT = 15
#: At most this many viewers may watch at once.
_MOST_VIEWERS = 50


class _News:
    """
    The present news.  They are rendered once for all viewers that have seen the same
    before.

    @ivar numbers: all of the news but the terminations.
    """

    def __init__(self, monitor: Monitor, ready: bool) -> None:
        self._monitor = monitor
        self._texts: dict[int, bytes] = {}
        self.ready = ready
        self.last = monitor.total
        self.numbers = {
            "since": page.iso(monitor.since),
            "last": self.last,
            "ready": ready,
            "summary": page.summary(monitor, ready),
            "counts": page.counts(monitor),
        }

    def after(self, number: int) -> bytes:
        """
        The event for a viewer that has seen the terminations up to C{number}.
        """
        if number not in self._texts:
            ended = page.endedSince(self._monitor, number)
            text = json.dumps({**self.numbers, "ended": ended})
            self._texts[number] = f"data: {text}\n\n".encode("ascii")
        return self._texts[number]


@implementer(IPushProducer)
class _Viewer:
    """
    One stream of events.
    """

    _paused = False
    _silent = 0
    _seen: object = None

    def __init__(self, request: Any, after: int) -> None:
        """
        @param after: the number of the last termination that the viewer was sent.
        """
        self._request = request
        self._after = after
        request.registerProducer(self, True)

    def tell(self, news: _News) -> None:
        """
        Send the news, unless the viewer has not read the last events yet.
        """
        if self._paused:
            return
        self._silent += 1
        if news.numbers != self._seen:
            self._request.write(news.after(self._after))
            self._seen, self._after, self._silent = news.numbers, news.last, 0
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
        self._paused = False  # the next look sends what is new

    def stopProducing(self) -> None:
        """
        The connection is lost, as C{notifyFinish} says too.
        """


class Events(Leaf):
    """
    A viewer that does not read is sent nothing.  When it reads again, it gets what is
    new by then.  While
    C{ready()} is false each stream ends after one event, so that no viewer keeps a
    server from its end; the page asks again.  When there are 50 viewers, another
    one gets 503.
    """

    def __init__(
        self,
        monitor: Monitor,
        ready: Callable[[], bool],
        clock: IReactorTime,
        hosts: Hosts,
    ) -> None:
        super().__init__(hosts)
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
            return self.say(
                request, 400, f"after={text[:40]!r}: must be a whole number"
            )
        if len(self._viewers) >= _MOST_VIEWERS:
            request.setHeader("retry-after", "10")
            return self.say(request, 503, f"{_MOST_VIEWERS} viewers are here already")
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
        news = _News(self._monitor, self._ready())
        for viewer in viewers:
            viewer.tell(news)
            if not news.ready:
                viewer.finish()


__all__ = ["Events"]
