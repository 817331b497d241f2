"""
What an end is made of: how it was begun and by whom, what bounds it, what has
become of the bytes, and the report on it.

An open connection has none of it.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional, Union

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from .beneath.kernel import SendQueue
from .hook import Hook
from .machine import Input, Node, Ours, State
from .report import Initiator, Outcome, Termination
from .sweep import FIRST, Sweep, sweepOf

#: Progress is looked for so many times in the limit that applies, so that what
#: expires does so between one and one and an eighth of its limit.
_LOOKS = 8
#: The first pause, and the longest one, between two looks (seconds); a pause
#: is twice the one before.  Most connections end before the first look.
_FIRST, _LONGEST, _SHORTEST = FIRST, 60.0, 0.001
#: While nothing but the last acknowledgement is awaited, there is no event to
#: wait for: the kernel reports hang-up from the peer's FIN on (tcp_poll,
#: net/ipv4/tcp.c).  So the queue is looked at, at first often.
_FIRST_ACK = 0.005
#: While the peer is done and we are not, no event says that it has gone either,
#: and the kernel is asked so often at least; more often while work is in flight,
#: for not each protocol tells of its end.
_WATCHED, _WATCHED_AT_WORK = 5.0, 1.0
#: The first time at which such a peer is asked; each pause is twice the one
#: before, because some clients take only a few interim responses.
_PROBE = 0.25
#: No more than this share of a pause counts beyond the pause: Twisted's clock
#: is the wall's, and a step of it is not the peer's silence.
_SLACK = 1.25

_OUTCOMES = {
    Input.CLOSE: Outcome.CLOSED,
    Input.ABORT: Outcome.ABORTED,
    Input.DEADLINE: Outcome.DEADLINE_EXPIRED,
    Input.HANDSHAKE_EXPIRED: Outcome.TLS_FAILED,
    Input.FLUSH_EXPIRED: Outcome.FLUSH_EXPIRED,
    Input.TAKEN: Outcome.TAKEN,
}
_BY_PEER = frozenset(
    [
        Input.PEER_FIN,
        Input.PEER_FIN_HALF,
        Input.PEER_GONE,
        Input.TLS_FAILED,
        Input.LOST,
    ]
)


class Ending:
    """
    One connection's end, from the first thing that begins it to the report.

    @ivar checking: a look for work in flight, or for the peer, in the next turn
        of the reactor.
    @ivar due: when to look at it again; the sweep's.
    @ivar initiator: who has begun it.
    @ivar outcome: how it has ended, once that is known.
    @ivar reason: what was raised, if that has brought the end.
    @ivar known: what the kernel has said before the socket was gone: bytes
        that are unacknowledged or unsent, and whether it has given up.
    @ivar hook: the application's own word on this end; C{None} if it has none.
    @ivar conversation: who knows what is in flight, once that is settled;
        C{None} while it is found anew each time.
    """

    __slots__ = (
        "_acknowledged",
        "_afterFin",
        "_arrival",
        "_bounded",
        "_connection",
        "_deadline",
        "_looked",
        "_most",
        "_owed",
        "_pause",
        "_peerFinAt",
        "_probeAt",
        "_probePause",
        "_progress",
        "_seconds",
        "_settled",
        "_since",
        "_steady",
        "_sweep",
        "_written",
        "bytesDiscarded",
        "checking",
        "conversation",
        "due",
        "hook",
        "initiator",
        "known",
        "outcome",
        "reason",
        "writesDropped",
    )
    _acknowledged: int

    def __init__(self, connection: Any, event: Input) -> None:
        """
        @param event: what begins it.
        """
        self._connection = connection
        self.initiator = Initiator.PEER if event in _BY_PEER else Initiator.LOCAL
        self._since: float = connection.since
        self._seconds: dict[State, float] = {}
        self._peerFinAt: Optional[float] = None
        self._written: Optional[int] = None
        self._afterFin: Optional[int] = None
        self._deadline: Optional[IDelayedCall] = None
        self._sweep: Optional[Sweep] = None
        self._bounded = False
        self.checking: Optional[IDelayedCall] = None
        self.due: Optional[float] = None
        self.outcome: Optional[Outcome] = None
        self.reason: Optional[Failure] = None
        self.known: Optional[tuple[int, bool]] = None
        self.conversation: Any = None
        self.hook: Optional[Hook] = None
        self.bytesDiscarded = self.writesDropped = 0

    def enter(self, before: Node, after: Node, event: Input) -> None:
        """
        The machine has moved.
        """
        connection = self._connection
        now = connection.clock.seconds()
        if after.ended:
            self._end(before, event)
        elif after.peerDone and not before.peerDone:
            self._peerFinAt = now - connection.since
            if before.ours is Ours.OPEN or before.asking:
                self._written = connection.written(before)
            if before.ours is not Ours.SENT:
                self._tellStop()
        state = before.state
        if state is not after.state:
            # No state comes again.
            self._seconds[state] = now - self._since
            self._since = now

    def _end(self, before: Node, event: Input) -> None:
        self.rest()
        # In order, unless something else is known.
        orderly = Outcome.CLEAN if before.peerDone else Outcome.LINGER_EXPIRED
        self.outcome = _OUTCOMES.get(event, self.outcome or orderly)
        if self.hook is not None:
            self.hook.forget()
        if self._written is not None:
            written = self._connection.written(before)
            self._afterFin = (
                None if written is None else max(0, written - self._written)
            )

    # The deadline of terminate().

    def expectEnd(self, seconds: float) -> None:
        """
        Reset when it has not come within so many seconds.
        """
        self._forgetDeadline()
        clock = self._connection.clock
        self._deadline = clock.callLater(seconds, self._deadlineReached)

    def _deadlineReached(self) -> None:
        self._deadline = None
        self._connection.input(Input.DEADLINE)

    def _forgetDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    # The bounds of each state.

    def begin(self, soon: bool = False) -> None:
        """
        The connection has entered a state that is bounded.

        @param soon: nothing but acknowledgements is awaited.
        """
        connection = self._connection
        if connection.node.ended:  # by who was asked on the way here
            return
        if not self._bounded:
            self._bounded = True
            self._steady = 0.0
            self._owed: Optional[bool] = None
            self._arrival = 0.0
        else:
            self._steady = self._now()
        self._looked = connection.clock.seconds()
        self._progress = self._settled = self._steady
        self._probePause = _PROBE
        self._probeAt = self._steady + _PROBE
        if connection.node.peerDone:
            self._tellStop()
        self._pause = _FIRST_ACK if soon else _FIRST
        shortest = connection.policy.shortest / _LOOKS
        if soon or shortest < _FIRST:
            self._wait(min(self._pause, shortest))
        else:
            # Most ends come before the first look.
            self._most = _FIRST * _SLACK
            self._sweepOf().enrol(self)

    def rest(self) -> None:
        """
        Nothing is bounded any more.
        """
        self._bounded = False
        if self._sweep is not None:
            self._sweep.forget(self)

    def arrived(self) -> None:
        """
        Bytes have arrived; or the application reads again, and silence counts
        anew.
        """
        if self._bounded:
            self._arrival = self._now()

    def _now(self) -> float:
        elapsed: float = self._connection.clock.seconds() - self._looked
        return self._steady + min(max(elapsed, 0.0), self._most)

    def _wait(self, pause: float) -> None:
        pause = max(pause, _SHORTEST)
        self._most = pause * _SLACK
        self._sweepOf().want(self, pause)

    def _sweepOf(self) -> Sweep:
        sweep = self._sweep
        if sweep is None:
            sweep = self._sweep = sweepOf(self._connection.clock)
        return sweep

    def look(self) -> None:
        """
        See what has expired, and when to look again.
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
                    # A reset that the reactor has not told of, as uvloop's
                    # may not.
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
        # The last look but one is at half of the time: see _SLACK.
        self._wait(min(pause, left / 2 if left > _FIRST else left))

    def _note(self, queue: Optional[SendQueue], now: float) -> None:
        if queue is not None:
            acknowledged, owed = queue.acknowledged, queue.unacknowledged > 0
        else:  # what leaves our own buffer is all that can be seen
            unsent = self._connection.unsent()
            acknowledged, owed = -unsent, unsent > 0
        # When nothing was owed, the one number more is our FIN.
        changed = owed != self._owed or (owed and acknowledged != self._acknowledged)
        if changed and self._owed is not None:
            self._progress = now
            if not owed:
                self._settled = now
        self._owed, self._acknowledged = owed, acknowledged

    def _limits(self) -> list[tuple[float, float, Input]]:
        """
        What is bounded now: since when, for how long, and what expires.
        """
        policy = self._connection.policy
        if self._connection.node.state is State.OPEN:
            return []  # an IHalfCloseableProtocol's, which goes on
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

    # The end itself.

    def _tellStop(self) -> None:
        # From the peer's FIN on it is neither read nor, with nothing to write,
        # written: the reactor does not know of it when it stops.
        self._sweepOf().atStop(self)

    def stopped(self) -> None:
        """
        The reactor stops.
        """
        self._connection.vanished()

    def report(
        self,
        reason: Failure,
        outcome: Outcome,
        closeNotify: tuple[Optional[bool], Optional[bool]],
    ) -> Termination:
        """
        The connection is no more.
        """
        if self._deadline is not None:
            self._forgetDeadline()
        if self._sweep is not None:
            self._sweep.leave(self)
        count = None if self.known is None else self.known[0]
        self._connection = None
        # A frozen dataclass's own __init__ sets each field by a call.
        report: Termination = _new(Termination)
        _setFields(
            report,
            {
                "outcome": outcome,
                "initiator": self.initiator,
                "delivered": None if count is None else count == 0,
                "bytesUnacknowledged": count,
                "bytesDiscarded": self.bytesDiscarded,
                "writesDropped": self.writesDropped,
                "seconds": self._seconds,
                "reason": reason,
                "closeNotifySent": closeNotify[0],
                "closeNotifyReceived": closeNotify[1],
                "peerFin": self._peerFinAt,
                "bytesAfterPeerFin": self._afterFin,
            },
        )
        return report


_new = object.__new__
_setFields = Termination.__dict__["__dict__"].__set__
_Bound = Callable[[Ending, Any], list[tuple[float, Union[float, None], Input]]]
_IN_STATE: dict[State, _Bound] = {
    State.FLUSHING: Ending._flushing,
    State.HALF_CLOSED: Ending._halfClosed,
    State.LINGERING: Ending._lingering,
}
_BOUNDS: dict[Node, _Bound] = {
    node: Ending._leaving if node.leaving else _IN_STATE[node.state]
    for node in Node
    if node.state in _IN_STATE
}

__all__ = ["Ending"]
