"""
SIGTERM and SIGINT: the first one drains, the second one aborts.
"""

from __future__ import annotations

import signal
from typing import Any, Callable
from weakref import WeakKeyDictionary

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_drains: WeakKeyDictionary[Any, SignalDrain] = WeakKeyDictionary()


class SignalDrain:
    """
    Takes the place of one reactor's own handlers, which make the process die
    of the signal after a clean stop, and a second signal an error.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._aborts: list[Callable[[], None]] = []
        self._previous: dict[int, Any] = {}
        self._stopping = False

    def add(self, abort: Callable[[], None]) -> None:
        """
        Call C{abort} on a second signal.  The handlers are replaced once the
        reactor has installed its own, if it does at all: in other cases
        signals are somebody else's.
        """
        self._aborts.append(abort)
        when = getattr(self._reactor, "callWhenRunning", None)
        if when is not None and len(self._aborts) == 1:
            when(lambda: self._reactor.callLater(0, self._take))

    def remove(self, abort: Callable[[], None]) -> None:
        """
        Forget C{abort}; with the last one, put back what was there.
        """
        if abort in self._aborts:
            self._aborts.remove(abort)
        if not self._aborts:
            for number, previous in self._previous.items():
                signal.signal(number, previous)
            self._previous = {}

    def _take(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if getattr(handler, "__self__", None) is self._reactor and self._aborts:
                self._previous[number] = handler
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        # In a signal handler nothing else may be touched.
        self._reactor.callFromThread(self._received)

    def _received(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()
        else:
            for abort in list(self._aborts):
                abort()


def signalDrain(reactor: Any) -> SignalDrain:
    """
    The one for C{reactor}, which several services share.
    """
    found = _drains.get(reactor)
    if found is None:
        found = _drains[reactor] = SignalDrain(reactor)
    return found


__all__ = ["SignalDrain", "signalDrain"]
