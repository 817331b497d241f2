"""
The bounds on a connection that is ending: one timer for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ._machine import Input, Node
from .policy import TerminationPolicy

if TYPE_CHECKING:  # pragma: no cover
    from .transport import TerminatingTransport

#: No progress is looked for so many times in a limit, so that a connection
#: is aborted between one and one and an eighth of the limit after the last.
_LOOKS = 8
#: While nothing but the last acknowledgement is awaited, there is no event to
#: wait for: the kernel reports hang-up from the peer's FIN on (tcp_poll,
#: net/ipv4/tcp.c).  So the queue is looked at, at first often (seconds).
_FIRST_LOOK, _LAST_LOOK = 0.005, 0.25


class Watch:
    """
    Watches one connection in one state, and tells it what has expired.
    """

    def __init__(
        self,
        transport: TerminatingTransport,
        clock: IReactorTime,
        policy: TerminationPolicy,
    ) -> None:
        now = clock.seconds()
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self._acknowledged: Optional[int] = None
        self._owed = False
        self._progress = now
        self._arrival = now
        self._settled: Optional[float] = None
        self._pause = _FIRST_LOOK
        self._call: Optional[IDelayedCall] = None

    def stop(self) -> None:
        """
        The state is over.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def arrived(self) -> None:
        """
        Bytes have arrived.
        """
        self._arrival = self._clock.seconds()

    def look(self) -> None:
        """
        See what has expired, and when to look again.
        """
        self._call = None
        transport = self._transport
        node = transport._node
        now = self._clock.seconds()
        queue = transport.queue()
        if node.flushing:
            transport._checkWork()
            if transport._node is not node:
                return
        acknowledged = queue.acknowledged if queue else 0
        owed = bool(queue.unacknowledged) if queue else node is not Node.LINGERING
        if acknowledged != self._acknowledged or owed != self._owed:
            self._acknowledged, self._owed = acknowledged, owed
            self._progress = now
        if owed:
            self._settled = None
        elif self._settled is None:
            self._settled = now

        wait: Optional[float] = None
        if node is Node.LAST_ACK and not owed:
            transport._input(Input.ACKNOWLEDGED)
            return
        if queue and queue.gone and transport._peerDone():
            transport.vanished()
            return
        if owed:
            wait = self._left(self._progress, self._policy.flushTimeout, now)
        elif node.flushing:
            wait = self._left(self._progress, self._policy.workTimeout, now)
        elif node is Node.HALF_CLOSED:
            since = now if transport._readPaused else self._arrival
            wait = self._left(since, self._policy.halfCloseIdle, now)
        elif node is Node.LINGERING:
            assert self._settled is not None
            since = max(self._arrival, self._settled)
            ends = [
                start + limit - now
                for start, limit in (
                    (self._settled, self._policy.lingerTime),
                    (since, self._policy.lingerIdle),
                )
                if limit is not None
            ]
            wait = min(ends) if ends else None
            if wait is not None and wait <= 0:
                transport._input(Input.LINGER_EXPIRED)
                return
        if wait is not None and wait <= 0:
            transport._input(Input.FLUSH_EXPIRED)
            return
        self._call = self._clock.callLater(self._next(node, owed, wait), self.look)

    def _left(
        self, since: float, limit: Optional[float], now: float
    ) -> Optional[float]:
        return None if limit is None else since + limit - now

    def _next(self, node: Node, owed: bool, wait: Optional[float]) -> float:
        """
        Seconds until the next look.
        """
        policy = self._policy
        if node is Node.LAST_ACK:
            self._pause, pause = min(self._pause * 2, _LAST_LOOK), self._pause
        elif owed or node.flushing:
            limits = [policy.flushTimeout, policy.workTimeout]
            if node is Node.LINGERING:
                limits += [policy.lingerTime, policy.lingerIdle]
            known = [limit for limit in limits if limit is not None]
            pause = max(min(known) / _LOOKS, _FIRST_LOOK) if known else 60.0
        else:
            pause = 60.0
        return pause if wait is None else min(pause, max(wait, 0.001))


__all__ = ["Watch"]
