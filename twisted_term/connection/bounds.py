"""
What bounds an end: the limits of the policy, and the looks that find out whether one
of them is reached.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional, Union

from .beneath.kernel import SendQueue
from .machine import Input, Node, State
from .timer import FIRST

#: Progress is looked for this many times within a limit, so that a limit expires
#: after between one and one and an eighth of its time.
_LOOKS = 8
#: With a limit below this one (seconds) the first look comes sooner than usual.
SOON = FIRST * _LOOKS
#: The longest and the shortest pause between two looks (seconds).  Each pause is
#: twice as long as the one before.
_LONGEST, _SHORTEST = 60.0, 0.001
#: The first pause while only the last acknowledgement is awaited.  The kernel has no
#: event for it, because it reports hang-up from the peer's FIN on (tcp_poll,
#: net/ipv4/tcp.c), so the send queue is looked at, at first often.
_FIRST_ACK = 0.005
#: After the peer's FIN and before ours, no event says that the peer has gone either.
#: The kernel is asked after this many seconds at the latest.  While work is in
#: flight it is asked more often, because not each protocol says when its work is done.
_WATCHED, _WATCHED_AT_WORK = 5.0, 1.0
#: When such a peer is probed first (seconds).  Each pause is twice as long as the one
#: before, because some clients accept only a few interim responses.
_PROBE = 0.25
#: Of the time between two looks, at most this multiple of the pause counts.
#: Twisted's clock is the wall clock, and a step of it is not silence of the peer.
_SLACK = 1.25


class Bounds:
    """
    The bounds of one end.  They are made for the first look, because most connections
    end before that.
    """

    __slots__ = (
        "_acknowledged",
        "_arrival",
        "_connection",
        "_looked",
        "_most",
        "_owed",
        "_pause",
        "_probeAt",
        "_probePause",
        "_progress",
        "_settled",
        "_steady",
        "_want",
    )
    _acknowledged: int

    def __init__(
        self, connection: Any, want: Callable[[float], object], begun: float
    ) -> None:
        """
        @param want: asks for the next L{look}, after so many seconds.
        @param begun: when the bounded state has begun; the first look comes after
            the timer's first pause.
        """
        self._connection = connection
        self._want = want
        self._owed: Optional[bool] = None
        self._looked = begun
        self._steady = self._arrival = 0.0
        self._progress = self._settled = 0.0
        self._pause = FIRST
        self._most = FIRST * _SLACK
        self._probeAt = self._probePause = _PROBE

    def begin(self, soon: bool) -> None:
        """
        The connection has entered a state that is bounded.

        @param soon: nothing but acknowledgements is awaited.
        """
        connection = self._connection
        self._steady = self._progress = self._settled = self._now()
        self._looked = connection.clock.seconds()
        self._probeAt = self._steady + _PROBE
        self._pause = _FIRST_ACK if soon else FIRST
        self._wait(min(self._pause, connection.policy.shortest / _LOOKS))

    def arrived(self) -> None:
        """
        Bytes have arrived, or the application reads again: the limits on silence
        begin anew.
        """
        self._arrival = self._now()

    def _now(self) -> float:
        elapsed: float = self._connection.clock.seconds() - self._looked
        return self._steady + min(max(elapsed, 0.0), self._most)

    def _wait(self, pause: float) -> None:
        pause = max(pause, _SHORTEST)
        self._most = pause * _SLACK
        self._want(pause)

    def look(self) -> None:
        """
        Tell the machine if a limit has expired, and else plan the next look.
        """
        connection = self._connection
        node = connection.node
        if node.working:
            connection.checkWork()
            if connection.node is not node:
                return
        self._steady = now = self._now()
        self._looked = connection.clock.seconds()
        queue = connection.queue()
        self._note(queue, now)
        gone = queue is not None and queue.gone
        if gone and node.peerDone and (self._owed or node.sending):
            connection.vanished()
            return
        if node.working and node.peerDone and now >= self._probeAt:
            self._probePause *= 2
            self._probeAt = now + self._probePause
            connection.probe()
        if node is Node.LAST_ACK and not self._owed:
            connection.input(Input.ACKNOWLEDGED)
            return
        left = math.inf
        for since, limit, event in self._limits():
            if since + limit - now <= 0:
                if gone:
                    # The peer has reset, and the reactor has not said so; uvloop
                    # does not always.
                    connection.vanished()
                else:
                    connection.input(event)
                return
            left = min(left, since + limit - now)
        self._pause = min(self._pause * 2, _LONGEST)
        if node.peerDone and node.sending:
            longest = _WATCHED_AT_WORK if node.working else _WATCHED
            pause = min(self._pause, longest)
        elif self._owed or node.flushing:
            limits = [limit for _, limit, _ in self._limits()]
            pause = min([self._pause, *(limit / _LOOKS for limit in limits)])
        else:
            # Everything is acknowledged, so only bytes that arrive can change
            # anything, and they put the end off.
            pause = _LONGEST
        # There is a look at half of the time that is left, because of _SLACK.
        self._wait(min(pause, left / 2 if left > FIRST else left))

    def _note(self, queue: Optional[SendQueue], now: float) -> None:
        if queue is not None:
            acknowledged, owed = queue.acknowledged, queue.unacknowledged > 0
        else:  # only our own buffer can be seen
            unsent = self._connection.unsent()
            acknowledged, owed = unsent, unsent > 0
        # When no byte was owed, only our FIN has changed the number.
        changed = owed != self._owed or (owed and acknowledged != self._acknowledged)
        if changed and self._owed is not None:
            self._progress = now
            if not owed:
                self._settled = now
        self._owed, self._acknowledged = owed, acknowledged

    def _limits(self) -> list[tuple[float, float, Input]]:
        """
        The limits that apply now: for each, when it began, its length, and the input
        for the machine when it expires.
        """
        policy = self._connection.policy
        if self._connection.node.state is State.OPEN:
            return []  # an IHalfCloseableProtocol goes on after the peer's FIN
        if self._owed:
            limits = [(self._progress, policy.flushTimeout, Input.FLUSH_EXPIRED)]
        else:
            limits = _BOUNDS[self._connection.node](self, policy)
        return [found for found in limits if found[1] is not None]

    # The bounds of each state while the peer owes no acknowledgement.

    def _flushing(self, policy: Any) -> list[Any]:
        return [(self._progress, policy.workTimeout, Input.FLUSH_EXPIRED)]

    def _halfClosed(self, policy: Any) -> list[Any]:
        # While the application has paused reading, nothing can arrive.
        paused = self._connection.readPaused
        limit = policy.workTimeout if paused else policy.halfCloseIdle
        since = max(self._arrival, self._settled)
        return [(since, limit, Input.FLUSH_EXPIRED)]

    def _lingering(self, policy: Any) -> list[Any]:
        if not self._connection.lingers():
            return [(self._settled, 0.0, Input.LINGER_EXPIRED)]
        since = max(self._arrival, self._settled)
        return [
            (self._settled, policy.lingerTime, Input.LINGER_EXPIRED),
            (since, policy.lingerIdle, Input.LINGER_EXPIRED),
        ]

    def _leaving(self, policy: Any) -> list[Any]:
        return [(self._settled, policy.closeTimeout, Input.CLOSE_EXPIRED)]


_Bound = Callable[[Bounds, Any], list[tuple[float, Union[float, None], Input]]]
_IN_STATE: dict[State, _Bound] = {
    State.FLUSHING: Bounds._flushing,
    State.HALF_CLOSED: Bounds._halfClosed,
    State.LINGERING: Bounds._lingering,
}
_BOUNDS: dict[Node, _Bound] = {
    node: Bounds._leaving if node.leaving else _IN_STATE[node.state]
    for node in Node
    if node.state in _IN_STATE
}

__all__ = ["SOON", "Bounds"]
