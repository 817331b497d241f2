"""
One timer for all ending connections of a reactor.

Most connections that end do so before anybody has to look at them, and a
C{DelayedCall} for each, made and cancelled, costs more than the end itself.
"""

from __future__ import annotations

import weakref
from heapq import heappop, heappush
from typing import Any, Callable, Optional
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Look:
    """
    When to look at one ending connection.

    @ivar due: when; C{None} if nobody wants to know any more.
    """

    __slots__ = ("call", "due")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Optional[Callable[[], None]] = call
        self.due: Optional[float] = None


class Sweep:
    """
    Calls what is due, and has a delayed call of its own while, and only while,
    there is something to wait for.
    """

    def __init__(self, clock: IReactorTime) -> None:
        # It is found by its clock, which it must not keep alive.
        self._clock = weakref.ref(clock)
        self._heap: list[tuple[float, int, Look]] = []
        self._number = 0
        self._wanted = 0
        self._call: Optional[IDelayedCall] = None
        self._sweeping = False
        self._atStop: dict[Any, None] = {}
        if IReactorCore.providedBy(clock):
            clock.addSystemEventTrigger("during", "shutdown", _stop, weakref.ref(self))

    def want(self, look: Look, pause: float) -> None:
        """
        Call it in C{pause} seconds, and not when that was wanted before.
        """
        clock = self._clock()
        assert clock is not None
        if look.due is None:
            self._wanted += 1
        look.due = due = clock.seconds() + pause
        self._number += 1
        heappush(self._heap, (due, self._number, look))
        if not self._sweeping:
            self._schedule(clock, due)

    def forget(self, look: Look) -> None:
        """
        Do not call it.
        """
        if look.due is not None:
            look.due = None
            self._wanted -= 1
            if not self._wanted and not self._sweeping:
                self._rest()
        look.call = None

    def _rest(self) -> None:
        self._heap.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _schedule(self, clock: IReactorTime, due: float) -> None:
        if self._call is None:
            pause = max(0.0, due - clock.seconds())
            self._call = clock.callLater(pause, self._sweep)
        elif self._call.getTime() > due:
            self._call.reset(max(0.0, due - clock.seconds()))

    def _sweep(self) -> None:
        self._call = None
        clock = self._clock()
        assert clock is not None
        now = clock.seconds()
        heap = self._heap
        self._sweeping = True
        try:
            while heap and heap[0][0] <= now:
                due, _, look = heappop(heap)
                if look.due == due and look.call is not None:
                    look.due = None
                    self._wanted -= 1
                    try:
                        look.call()
                    except Exception:  # each one's trouble is its own
                        _log.failure("a look at an ending connection")
        finally:
            self._sweeping = False
            if not self._wanted:
                self._rest()
            else:
                while heap[0][2].due != heap[0][0]:
                    heappop(heap)
                self._schedule(clock, heap[0][0])

    def atStop(self, what: Any) -> None:
        """
        Call C{what.stopped()} if the reactor stops before L{leave}.
        """
        self._atStop[what] = None

    def leave(self, what: Any) -> None:
        """
        It has ended.
        """
        self._atStop.pop(what, None)

    def stop(self) -> None:
        """
        The reactor stops.
        """
        for what in list(self._atStop):
            what.stopped()


def _stop(found: weakref.ref[Sweep]) -> None:
    sweep = found()
    if sweep is not None:
        sweep.stop()


_sweeps: WeakKeyDictionary[Any, Sweep] = WeakKeyDictionary()


def sweepOf(clock: IReactorTime) -> Sweep:
    """
    The one of a reactor, or a clock.
    """
    found = _sweeps.get(clock)
    if found is None:
        found = _sweeps[clock] = Sweep(clock)
    return found


__all__ = ["Look", "Sweep", "sweepOf"]
