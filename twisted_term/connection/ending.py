"""
The state of one end: who began it and how, what has become of the bytes, and the
report.  Its limits are in L{twisted_term.connection.bounds}.

An open connection has none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Optional

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .bounds import SOON, Bounds
from .hook import Hook
from .machine import Input, Node, Ours, State
from .report import Initiator, Outcome, Termination
from .timer import SharedTimer, timerOf

_log = Logger()

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

    @ivar checking: the delayed call that looks for work in flight, or for the peer,
        in the next turn of the reactor.
    @ivar due: when to look at this end again; the timer sets it.
    @ivar initiator: who has begun the end.
    @ivar outcome: how the connection has ended, as soon as that is known.
    @ivar reason: the exception that has caused the end, if one has.
    @ivar known: what the kernel said before the socket was closed: how many bytes
        are unacknowledged or unsent, and whether the kernel has given up.
    @ivar report: the report; C{None} before the end is over.
    @ivar hook: the application's hook for this end; C{None} if it has none.
    @ivar conversation: the conversation that says what is in flight; C{None} while
        it is looked up each time.
    """

    __slots__ = (
        "_afterFin",
        "_begun",
        "_bounds",
        "_connection",
        "_deadline",
        "_peerFinAt",
        "_seconds",
        "_since",
        "_timer",
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
        "report",
        "writesDropped",
    )

    def __init__(self, connection: Any, event: Input) -> None:
        """
        @param event: the input that begins the end.
        """
        self._connection = connection
        self.initiator = Initiator.PEER if event in _BY_PEER else Initiator.LOCAL
        self._since: float = connection.since
        self._seconds: dict[State, float] = {}
        self._peerFinAt: Optional[float] = None
        self._written: Optional[int] = None
        self._afterFin: Optional[int] = None
        self._deadline: Optional[IDelayedCall] = None
        self._timer: Optional[SharedTimer] = None
        self._bounds: Optional[Bounds] = None
        self._begun: Optional[float] = None
        self.checking: Optional[IDelayedCall] = None
        self.due: Optional[float] = None
        self.outcome: Optional[Outcome] = None
        self.reason: Optional[Failure] = None
        self.report: Optional[Termination] = None
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
            if event is Input.PEER_FIN:
                self._peerFinAt = now - connection.since
            self._end(before, event)
        elif after.peerDone and not before.peerDone:
            self._peerFinAt = now - connection.since
            if before.ours is Ours.OPEN or before.asking:
                self._written = connection.written(before)
            if before.ours is not Ours.SENT:
                self._tellStop()
        state = before.state
        if state is not after.state:
            # The connection is in each state at most once.
            self._seconds[state] = now - self._since
            self._since = now

    def _end(self, before: Node, event: Input) -> None:
        self.rest()
        # The end is in order, unless another outcome is known.
        clean = before.peerDone or event is Input.PEER_FIN
        orderly = Outcome.CLEAN if clean else Outcome.LINGER_EXPIRED
        self.outcome = _OUTCOMES.get(event, self.outcome or orderly)
        if self.hook is not None:
            self.hook.forget()
        if self._written is not None:
            written = self._connection.written(before)
            self._afterFin = (
                None if written is None else max(0, written - self._written)
            )

    # Writes that come too late.

    def write(self, data: bytes) -> None:
        """
        Drop C{data}, and count the call.

        @raise TypeError: if C{data} is not bytes.
        """
        self.writeSequence([data])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        Drop the pieces, and count the call.

        @raise TypeError: if a piece is not bytes.
        """
        chunks = list(iovec)
        for data in chunks:
            if not isinstance(data, bytes):
                raise TypeError("Data must be bytes")
        if not any(chunks) or self.report is not None:
            return
        self.writesDropped += 1
        if self.writesDropped == 1:
            _log.warn(
                "a write after the end of {transport} was asked for is dropped;"
                " further ones are counted only",
                transport=self._connection.transport,
            )

    # The deadline of terminate().

    def expectEnd(self, seconds: float) -> None:
        """
        Reset the connection if it has not ended within so many seconds.
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
        node = connection.node
        if node.ended:  # the application was asked, and has ended the connection
            return
        if node.peerDone:
            self._tellStop()
        if self._bounds is not None or soon or connection.policy.shortest < SOON:
            self._bounded().begin(soon)
        else:
            # Most ends come before the first look, and need no more than this.
            self._begun = self._timerOf().enrol(self)

    def _bounded(self) -> Bounds:
        bounds = self._bounds
        if bounds is None:
            connection, begun = self._connection, self._begun
            if begun is None:
                begun = connection.clock.seconds()
            bounds = Bounds(connection, partial(self._timerOf().want, self), begun)
            self._bounds = bounds
        return bounds

    def rest(self) -> None:
        """
        The connection has left the states that are bounded.
        """
        self._bounds = self._begun = None
        if self._timer is not None:
            self._timer.forget(self)

    def arrived(self) -> None:
        """
        Bytes have arrived, or the application reads again: the limits on silence
        begin anew.
        """
        if self._begun is not None or self._bounds is not None:
            self._bounded().arrived()

    def look(self) -> None:
        """
        See what has expired, and when to look again.
        """
        self._bounded().look()

    def _timerOf(self) -> SharedTimer:
        timer = self._timer
        if timer is None:
            timer = self._timer = timerOf(self._connection.clock)
        return timer

    # The end itself.

    def _tellStop(self) -> None:
        # After the peer's FIN the socket is not read any more, and with an empty
        # buffer it is not written.  The reactor does not know the socket then, and
        # does not tell it when the reactor stops.
        self._timerOf().atStop(self)

    def stopped(self) -> None:
        """
        The reactor stops.
        """
        self._connection.vanished()

    def conclude(
        self,
        reason: Failure,
        outcome: Outcome,
        closeNotify: tuple[Optional[bool], Optional[bool]],
    ) -> Termination:
        """
        Make the report.
        """
        if self._deadline is not None:
            self._forgetDeadline()
        if self._timer is not None:
            self._timer.leave(self)
        count = None if self.known is None else self.known[0]
        self._connection = None
        # A frozen dataclass's own __init__ sets each field by a call.
        self.report = report = _new(Termination)
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

__all__ = ["Ending"]
