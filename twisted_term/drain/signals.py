"""
SIGTERM and SIGINT: the first one drains, and then stops the reactor; a second
one aborts.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Optional, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from .drainer import Drainer
from .notify import Process

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: A signal that comes within this many seconds after the first one counts as the same
#: signal: C{uv run}, npm and honcho pass on, within 0.3 seconds, the signal that the
#: terminal or the supervisor has already sent to the whole process group.
_REPEAT = 0.4
_log = Logger()
# The key is the reactor's id.  If it were the reactor, the reactor would live for
# ever, because it refers to the value.  No other reactor gets the same id while the
# value lives, because the value refers to the reactor.
_drains: WeakValueDictionary[int, SignalDrain] = WeakValueDictionary()


class Drained(Protocol):
    """
    The object that a signal drains.
    """

    def drain(self) -> Deferred[Any]: ...
    def abort(self) -> None: ...


class SignalDrain:
    """
    Replaces the signal handlers of one reactor.  The reactor's own handlers stop the
    reactor at once, and with it everything that the connections need in order to end
    well.  They also make the process die of the signal after a clean stop.

    @ivar process: tells systemd of the process that the reactor runs in.
    """

    def __init__(self, reactor: Any) -> None:
        self.process = Process(reactor)
        self._reactor = reactor
        self._drained: dict[Drained, bool] = {}
        self._previous: dict[int, Any] = {}
        self._since: Optional[float] = None
        if IReactorCore.providedBy(reactor):
            reactor.addSystemEventTrigger("before", "shutdown", self._shutsDown)

    def _shutsDown(self) -> None:
        self.process.stops()

    def add(self, drained: Drained, first: bool) -> None:
        """
        Drain C{drained} on a signal.  The handlers are replaced after the reactor has
        installed its own.  If the reactor installs none, other code handles the
        signals, and nothing is replaced.

        @param first: drain C{drained} before the reactor is stopped.  With C{False}
            its owner drains it when the reactor stops; a second signal aborts that
            drain too.
        """
        self._drained[drained] = first
        if len(self._drained) == 1 and IReactorCore.providedBy(self._reactor):
            self._reactor.callWhenRunning(self._take)
        if self._since is not None:  # a signal has come: do not serve any more
            self._drain(drained)

    def remove(self, drained: Drained) -> None:
        """
        Forget C{drained}.  If it was the last one, put back the reactor's handlers.
        """
        self._drained.pop(drained, None)
        if not self._drained and self._since is None:
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
        # A signal handler may do nothing else.  The time is taken here, because a
        # busy reactor may handle two signals in one turn.
        self._reactor.callFromThread(self._received, self._reactor.seconds())

    def _received(self, at: float) -> None:
        if self._since is None:
            self._since = at
            self.process.stops()
            draining = [
                self._drain(drained)
                for drained, first in self._drained.items()
                if first
            ]
            DeferredList(draining).addCallback(self._parting)
        elif not 0 <= at - self._since < _REPEAT:
            for drained in list(self._drained):
                try:
                    drained.abort()
                except Exception:  # the others must be aborted too
                    _log.failure("cannot abort {drained}", drained=repr(drained))

    def _drain(self, drained: Drained) -> Deferred[Any]:
        draining = maybeDeferred(drained.drain)
        return draining.addErrback(
            lambda failure: _log.failure(
                "cannot drain {drained}", failure, drained=repr(drained)
            )
        )

    def _parting(self, ignored: object) -> None:
        self._reactor.callLater(_PARTING, self._stop)

    def _stop(self) -> None:
        with contextlib.suppress(ReactorNotRunning):  # other code has stopped it
            self._reactor.stop()


#: The reactor runs for this many seconds after all connections have ended, because
#: their applications have just been told, and may need another turn.  Daphne's
#: coroutines do: they fail if they are ended together with the interpreter.
_PARTING = 0.05


def signalDrain(reactor: Any) -> SignalDrain:
    """
    The L{SignalDrain} of C{reactor}, which several services share.  The reactor keeps
    it alive, because it calls it before its shutdown.
    """
    found = _drains.get(id(reactor))
    if found is None:
        found = _drains[id(reactor)] = SignalDrain(reactor)
    return found


def drainAtShutdown(reactor: Any, drainer: Drainer, onSignal: bool) -> None:
    """
    Drain when the reactor stops, and on a signal as L{SignalDrain.add} has it,
    as long as C{drainer} has a port that listens or a connection that lives.
    """
    signals = signalDrain(reactor)
    trigger: Any = None

    def inUse(used: bool) -> None:
        nonlocal trigger
        if used:
            signals.add(drainer, onSignal)
            trigger = reactor.addSystemEventTrigger("before", "shutdown", drainer.drain)
        else:
            signals.remove(drainer)
            if not drainer.draining:  # this may be called by that very trigger
                reactor.removeSystemEventTrigger(trigger)

    drainer.whileInUse(inUse)


__all__ = ["Drained", "SignalDrain", "drainAtShutdown", "signalDrain"]
