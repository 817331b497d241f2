"""
The bounds on a connection that is ending: one timer for each.
"""

from __future__ import annotations

import math
from typing import Callable, Optional, Protocol, Union

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..policy import TerminationPolicy
from .beneath.kernel import SendQueue
from .machine import Input, Node, State

#: Progress is looked for so many times in the shortest limit, so that what
#: expires does so between one and one and an eighth of its limit.
_LOOKS = 8
#: The first pause, and the longest one, between two looks (seconds); a pause
#: is twice the one before.  Most connections end before the first look.
_FIRST, _LONGEST = 0.1, 60.0
#: While nothing but the last acknowledgement is awaited, there is no event to
#: wait for: the kernel reports hang-up from the peer's FIN on (tcp_poll,
#: net/ipv4/tcp.c).  So the queue is looked at, at first often.
_FIRST_ACK, _LONGEST_ACK = 0.005, 0.25


class Watched(Protocol):
    """
    What a L{Watch} needs of the transport that it watches.
    """

    policy: TerminationPolicy
    _node: Node
    _readPaused: bool

    def _sendQueue(self) -> Optional[SendQueue]: ...
    def _unsent(self) -> int: ...
    def _checkWork(self) -> None: ...
    def _input(self, event: Input) -> None: ...
    def _vanished(self) -> None: ...


class Watch:
    """
    Watches one ending connection through its states, and tells it what has
    expired.

    @ivar _owed: are bytes unacknowledged?
    @ivar _progress: when that, or what is acknowledged, last changed.
    @ivar _settled: when all was found to be acknowledged.
    @ivar _arrival: when bytes last arrived.
    """

    def __init__(self, transport: Watched, clock: IReactorTime) -> None:
        self._transport = transport
        self._clock = clock
        self._call: Optional[IDelayedCall] = None
        self._acknowledged: Optional[int] = None
        self._owed: Optional[bool] = None
        self._arrival = 0.0
        self._longest = min(_LONGEST, max(transport.policy.shortest / _LOOKS, 0.001))

    def begin(self) -> None:
        """
        The connection has entered a state that is bounded.
        """
        now = self._clock.seconds()
        self._progress = self._settled = now
        self._pause = _FIRST
        if self._transport._node is Node.LAST_ACK:
            self._longest = min(_LONGEST_ACK, self._longest)
            self._pause = _FIRST_ACK
        self._schedule(now, min(self._pause, self._longest))

    def stop(self) -> None:
        """
        The end has come.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def arrived(self) -> None:
        """
        Bytes have arrived.
        """
        self._arrival = self._clock.seconds()

    def _schedule(self, now: float, pause: float) -> None:
        # What is due sooner may stay: a look too many does no harm, and the
        # states of a connection that ends well follow each other fast.
        if self._call is None:
            self._call = self._clock.callLater(pause, self._look)
        elif self._call.getTime() > now + pause:
            self._call.reset(pause)

    def _look(self) -> None:
        """
        See what has expired, and when to look again.
        """
        self._call = None
        transport = self._transport
        node = transport._node
        if node.flushing:
            transport._checkWork()
            if transport._node is not node:
                return
        now = self._clock.seconds()
        queue = transport._sendQueue()
        self._note(queue, now)
        if queue is not None and queue.gone and node.peerDone and self._owed:
            transport._vanished()
            return
        if self._owed:
            found = self._expires(
                self._progress, transport.policy.flushTimeout, now, Input.FLUSH_EXPIRED
            )
        else:
            found = _BOUNDS[node.state](self, now)
        if isinstance(found, Input):
            if queue is not None and queue.gone and found is not Input.ACKNOWLEDGED:
                # A reset that the reactor has not told of, as uvloop's may not.
                transport._vanished()
            else:
                transport._input(found)
            return
        self._pause = min(self._pause * 2, self._longest)
        # With nothing owed, only what arrives can make a difference, and that
        # puts the end off; with work in flight, it may come to be owed.
        pause = self._pause if self._owed or node.flushing else _LONGEST
        self._schedule(now, min(pause, found))

    def _note(self, queue: Optional[SendQueue], now: float) -> None:
        if queue is not None:
            acknowledged, owed = queue.acknowledged, queue.unacknowledged > 0
        else:  # what leaves our own buffer is all that can be seen
            unsent = self._transport._unsent()
            acknowledged, owed = -unsent, unsent > 0
        if owed != self._owed or acknowledged != self._acknowledged:
            if self._owed is not None:
                self._progress = now
            if not owed:
                self._settled = now
            self._owed, self._acknowledged = owed, acknowledged

    def _expires(
        self, since: float, limit: Optional[float], now: float, event: Input
    ) -> Union[Input, float]:
        """
        C{event} if the limit is reached, else the seconds left.
        """
        if limit is None:
            return math.inf
        left = since + limit - now
        # The least that a clock is sure to show.
        return event if left <= 0 else max(left, 0.001)

    # The bound of each state while the peer owes no acknowledgement.

    def _flushing(self, now: float) -> Union[Input, float]:
        limit = self._transport.policy.workTimeout
        return self._expires(self._progress, limit, now, Input.FLUSH_EXPIRED)

    def _halfClosed(self, now: float) -> Union[Input, float]:
        since = max(self._arrival, self._settled)
        policy = self._transport.policy
        # Where reading is paused the silence is the application's own.
        paused = self._transport._readPaused
        limit = policy.workTimeout if paused else policy.halfCloseIdle
        return self._expires(since, limit, now, Input.FLUSH_EXPIRED)

    def _lingering(self, now: float) -> Union[Input, float]:
        if self._transport._node is Node.LAST_ACK:
            return Input.ACKNOWLEDGED
        policy, event = self._transport.policy, Input.LINGER_EXPIRED
        idleSince = max(self._arrival, self._settled)
        found = (
            self._expires(self._settled, policy.lingerTime, now, event),
            self._expires(idleSince, policy.lingerIdle, now, event),
        )
        return event if event in found else min(found)  # type: ignore[type-var]


_BOUNDS: dict[State, Callable[[Watch, float], Union[Input, float]]] = {
    State.FLUSHING: Watch._flushing,
    State.HALF_CLOSED: Watch._halfClosed,
    State.LINGERING: Watch._lingering,
}

__all__ = ["Watch", "Watched"]
