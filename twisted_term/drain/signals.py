"""
SIGTERM and SIGINT: the first one drains, and then stops the reactor; the
second one aborts.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore

from .systemd import notify

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_drains: WeakKeyDictionary[Any, SignalDrain] = WeakKeyDictionary()


class Drained(Protocol):
    """
    What is drained.
    """

    def drain(self) -> Deferred[Any]: ...
    def abort(self) -> None: ...


class SignalDrain:
    """
    Takes the place of one reactor's own handlers, which stop it at once: then
    whatever else runs before its shutdown, what the connections need to end
    well included, stops too.  They also make the process die of the signal
    after a clean stop.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._drained: list[Drained] = []
        self._previous: dict[int, Any] = {}
        self._draining = False

    def add(self, drained: Drained) -> None:
        """
        Drain C{drained} on a signal.  The handlers are replaced once the
        reactor has installed its own, if it does at all: in other cases
        signals are somebody else's.
        """
        self._drained.append(drained)
        if len(self._drained) == 1 and IReactorCore.providedBy(self._reactor):
            self._reactor.callWhenRunning(self._take)

    def remove(self, drained: Drained) -> None:
        """
        Forget C{drained}; with the last one, put back what was there.
        """
        if drained in self._drained:
            self._drained.remove(drained)
        if not self._drained and not self._draining:
            for number, previous in self._previous.items():
                signal.signal(number, previous)
            self._previous = {}

    def _take(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if getattr(handler, "__self__", None) is self._reactor and self._drained:
                self._previous[number] = handler
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        # In a signal handler nothing else may be touched.
        self._reactor.callFromThread(self._received)

    def _received(self) -> None:
        if self._draining:
            for drained in list(self._drained):
                drained.abort()
            return
        self._draining = True
        notify(STOPPING=1)
        draining = [drained.drain() for drained in self._drained]
        DeferredList(draining, consumeErrors=True).addCallback(self._stop)

    def _stop(self, ignored: object) -> None:
        with contextlib.suppress(ReactorNotRunning):  # stopped by somebody else
            self._reactor.stop()


def signalDrain(reactor: Any) -> SignalDrain:
    """
    The one for C{reactor}, which several services share.
    """
    found = _drains.get(reactor)
    if found is None:
        found = _drains[reactor] = SignalDrain(reactor)
    return found


__all__ = ["Drained", "SignalDrain", "signalDrain"]
