"""
One timer for all ending connections of a reactor.

Most connections end before anything has to look at them.  To make and cancel a
C{DelayedCall} for each would cost more than the end itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Optional, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Watched(Protocol):
    """
    An object that the timer looks at.

    @ivar due: when the timer will look at it; C{None} if it will not.  This module
        sets it.
    """

    due: Optional[float]

    def look(self) -> None: ...
    def stopped(self) -> None: ...


#: The first pause (seconds).
FIRST = 0.1


class SharedTimer:
    """
    Calls C{look} on each object that is due.  It has a delayed call of its own only
    while an object waits for a look.

    All objects wait equally long for their first look, so the order of their coming
    is the order in which they are due.  They need not be sorted, and most of them
    leave before their first look.
    """

    def __init__(self, clock: IReactorTime) -> None:
        # A timer is found by its clock, and must not keep the clock alive.
        self.clock = weakref.ref(clock)
        self._first: dict[Watched, float] = {}
        self._heap: list[tuple[float, int, Watched]] = []
        self._number = self._later = 0
        self._call: Optional[IDelayedCall] = None
        self._firing = False
        self._atStop: dict[Any, None] = {}
        if IReactorCore.providedBy(clock):
            clock.addSystemEventTrigger("during", "shutdown", _stop, weakref.ref(self))

    def enrol(self, watched: Watched) -> float:
        """
        Look at C{watched} after the first pause.

        @return: the time now.
        """
        if watched.due is not None:
            self.forget(watched)
        clock = self.clock()
        assert clock is not None
        now = clock.seconds()
        self._first[watched] = now + FIRST
        if self._call is None and not self._firing:
            self._schedule(clock, now + FIRST)
        return now

    def want(self, watched: Watched, pause: float) -> None:
        """
        Look at C{watched} in C{pause} seconds, and not at the time that was set before.
        """
        clock = self.clock()
        assert clock is not None
        self._first.pop(watched, None)
        if watched.due is None:
            self._later += 1
        watched.due = due = clock.seconds() + pause
        self._number += 1
        heappush(self._heap, (due, self._number, watched))
        if not self._firing:
            self._schedule(clock, due)

    def forget(self, watched: Watched) -> None:
        """
        Do not look at C{watched} any more.
        """
        if watched.due is not None:
            watched.due = None
            self._later -= 1
        else:
            self._first.pop(watched, None)
        if not self._first and not self._later and not self._firing:
            self._rest()

    def _rest(self) -> None:
        self._heap.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _schedule(self, clock: IReactorTime, due: float) -> None:
        if self._call is None:
            pause = max(0.0, due - clock.seconds())
            self._call = clock.callLater(pause, self._fire)
        elif self._call.getTime() > due:
            self._call.reset(max(0.0, due - clock.seconds()))

    def _fire(self) -> None:
        self._call = None
        clock = self.clock()
        assert clock is not None
        self._firing = True
        try:
            for watched in self._due(clock.seconds()):
                try:
                    watched.look()
                except Exception:  # the others are looked at all the same
                    _log.failure("a look at an ending connection")
        finally:
            self._firing = False
            due = self._next()
            if due is None:
                self._rest()
            else:
                self._schedule(clock, due)

    def _due(self, now: float) -> Iterator[Watched]:
        first, heap = self._first, self._heap
        while first:
            watched = next(iter(first))
            if first[watched] > now:
                break
            del first[watched]
            yield watched
        while heap and heap[0][0] <= now:
            due, _, watched = heappop(heap)
            if watched.due == due:
                watched.due = None
                self._later -= 1
                yield watched

    def _next(self) -> Optional[float]:
        heap = self._heap
        while heap and heap[0][2].due != heap[0][0]:
            heappop(heap)
        dues = [next(iter(self._first.values()))] if self._first else []
        dues += [heap[0][0]] if heap else []
        return min(dues, default=None)

    def atStop(self, what: Any) -> None:
        """
        Call C{what.stopped()} if the reactor stops before L{leave}.
        """
        self._atStop[what] = None

    def leave(self, what: Any) -> None:
        """
        C{what} has ended, and need not be told of the reactor's stop.
        """
        self._atStop.pop(what, None)

    def stop(self) -> None:
        """
        The reactor stops.
        """
        for what in list(self._atStop):
            what.stopped()


def _stop(found: weakref.ref[SharedTimer]) -> None:
    timer = found()
    if timer is not None:
        timer.stop()


_timers: WeakKeyDictionary[Any, SharedTimer] = WeakKeyDictionary()
_last: Optional[SharedTimer] = None  # there is seldom more than one


def timerOf(clock: IReactorTime) -> SharedTimer:
    """
    The timer of a reactor, or of a clock.
    """
    global _last
    if _last is not None and _last.clock() is clock:
        return _last
    found = _timers.get(clock)
    if found is None:
        found = _timers[clock] = SharedTimer(clock)
    _last = found
    return found


__all__ = ["FIRST", "SharedTimer", "Watched", "timerOf"]
