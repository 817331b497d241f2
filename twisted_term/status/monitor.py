"""
Counting connections: those that live, and how the others have ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Optional

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from .._waiters import Waiters
from ..connection.report import Initiator, Outcome, State, Termination
from ..connection.wrapping import TerminatingFactory
from ..interfaces import IDrainListener
from .states import LIVE, States

#: The upper bounds (seconds) of the buckets for the time spent in a state.
BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0)


@dataclass(frozen=True, eq=False)
class Ended:
    """
    One connection that has ended.  It keeps nothing of the connection alive.

    @ivar number: the number of this end, counted from 1.
    @ivar at: when it ended, in seconds since the epoch.
    @ivar peer: the address of the peer.
    @ivar outcome: how it ended.
    @ivar summary: L{Termination.summary}.
    @ivar timeline: L{Termination.timeline}.
    """

    number: int
    at: float
    peer: Any
    outcome: Outcome
    summary: str
    timeline: list[tuple[float, str]]


class Spent:
    """
    A histogram of the seconds that connections have spent in one state.

    @ivar counts: how many connections are in each bucket: one for each of L{BOUNDS}
        (at most that, and more than the bound before), and one for longer times.
    @ivar seconds: the seconds of all connections together.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """
        Count one connection.
        """
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Drain(NamedTuple):
    """
    A drain so far.

    @ivar seconds: since it began.
    @ivar undelivered: how many connections have ended since then that did not
        deliver all bytes.
    @ivar bytesUnacknowledged: bytes written to those that have ended since then,
        and not acknowledged.
    """

    seconds: float
    undelivered: int
    bytesUnacknowledged: int


class Monitor:
    """
    Knows the connections that it is told of, by L{wrap} or L{watch}.  It does work
    when a connection is made and when it has ended, and none in between: it asks the
    connections for their state when somebody wants the numbers.

    @ivar name: the name that tells this monitor from others, in metrics.
    @ivar since: when this monitor was made, in seconds since the epoch.
    @ivar ended: how many connections have ended, by outcome and initiator.
    @ivar recent: the connections that have ended last, oldest first.
    @ivar spent: the time that ended connections have spent in each state.
    @ivar undelivered: how many ended connections did not deliver all bytes, as far
        as known.
    @ivar bytesUnacknowledged: bytes written to ended connections and not
        acknowledged, as far as known.
    @ivar bytesDiscarded: bytes that arrived after C{loseConnection}.
    @ivar writesDropped: writes that came too late.
    """

    def __init__(
        self,
        recent: int = 50,
        clock: Optional[IReactorTime] = None,
        name: str = "default",
    ) -> None:
        """
        @param recent: how many of the connections that have ended are kept.
        @param clock: C{None} for the global reactor.
        @raise ValueError: for a negative number.
        @raise TypeError: if C{recent} is no whole number, or C{name} no text.
        """
        if clock is None:
            from twisted.internet import reactor

            clock = IReactorTime(reactor)
        if isinstance(recent, bool) or not isinstance(recent, int):
            raise TypeError(f"recent={recent!r}: must be a number of connections")
        if recent < 0:
            raise ValueError(f"recent={recent!r}: must be 0 connections or more")
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: must be text")
        self.name = name
        self._clock = clock
        self._live = States(clock)
        self._idle: Waiters[None] = Waiters()
        # When the drain began, and the totals at that time.
        self._drain: Optional[Drain] = None
        self.since = clock.seconds()
        self.ended: Counter[tuple[Outcome, Initiator]] = Counter()
        self.recent: deque[Ended] = deque(maxlen=recent)
        self.spent = {state: Spent() for state in LIVE}
        self.undelivered = 0
        self.bytesUnacknowledged = self.bytesDiscarded = self.writesDropped = 0

    def wrap(self, factory: Any) -> TerminatingFactory:
        """
        Make a factory whose connections are known here, for any server or
        client, endpoint or service.  It does what
        L{twisted_term.TerminatingFactory} does, and tells of a drain too.
        """
        return _Watched(self, factory)

    def watch(self, transport: Any) -> None:
        """
        Watch one connection.  A protocol with L{twisted_term.TerminationMixin} may
        call this in C{connectionMade}.  A second call does nothing.

        @param transport: its L{twisted_term.ITerminableTransport}.
        """
        if transport not in self._live:
            self._live.add(transport)
            transport.callWhenTerminated(partial(self._terminated, transport))

    def states(self) -> dict[State, int]:
        """
        How many connections are in which state now.  Closed connections whose
        protocols were not told yet are left out.  A state may be a tenth of a second
        old.
        """
        return self._live.counts()

    @property
    def total(self) -> int:
        """
        How many connections have ended.
        """
        return sum(self.ended.values())

    def whenIdle(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when no connection lives; a new one for
            each call.
        """
        return self._idle.wait() if self._live else succeed(None)

    # Drains.

    @property
    def draining(self) -> bool:
        """
        Has a drain begun?
        """
        return self._drain is not None

    @property
    def drain(self) -> Drain:
        """
        The drain so far; all is 0 where none has begun.
        """
        if self._drain is None:
            return Drain(0.0, 0, 0)
        began, undelivered, unacknowledged = self._drain
        return Drain(
            # A clock may be set back.
            max(0.0, self._clock.seconds() - began),
            self.undelivered - undelivered,
            self.bytesUnacknowledged - unacknowledged,
        )

    def servingBegins(self) -> None:
        """
        The server is about to serve: for the first time, or after a drain.
        """
        self._drain = None

    def drainBegins(self) -> None:
        """
        A drain begins.  A second call does nothing.
        """
        if self._drain is None:
            now = self._clock.seconds()
            self._drain = Drain(now, self.undelivered, self.bytesUnacknowledged)

    def _terminated(self, transport: Any, report: Termination) -> None:
        self._live.discard(transport)
        self.ended[report.outcome, report.initiator] += 1
        self.undelivered += report.delivered is False
        self.bytesUnacknowledged += report.bytesUnacknowledged or 0
        self.bytesDiscarded += report.bytesDiscarded
        self.writesDropped += report.writesDropped
        for state, seconds in report.seconds.items():
            self.spent[state].add(seconds)
        self.recent.append(
            Ended(
                number=self.total,
                at=self._clock.seconds(),
                peer=transport.getPeer(),
                outcome=report.outcome,
                summary=report.summary,
                timeline=report.timeline,
            )
        )
        if not self._live:
            idle, self._idle = self._idle, Waiters()
            idle.fire(None)


@implementer(IDrainListener)
class _Watched(TerminatingFactory):
    """
    Tells a L{Monitor} of the connections that are made, and of drains.
    """

    def __init__(self, monitor: Monitor, factory: Any) -> None:
        super().__init__(factory)
        self._monitor = monitor
        self.servingBegins = monitor.servingBegins
        self.drainBegins = monitor.drainBegins
        self.connected = monitor.watch


__all__ = ["BOUNDS", "Drain", "Ended", "Monitor", "Spent"]
