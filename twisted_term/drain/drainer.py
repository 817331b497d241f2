"""
The drain: from the live connections of some listeners to a report.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, auto
from functools import partial
from operator import methodcaller
from typing import Any, Callable, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory

from .._checks import checkSeconds
from .._waiters import Waiters
from ..connection.report import Termination
from ..connection.wrapping import TerminatingFactory
from ..interfaces import IDrainable, IDrainListener
from ..policy import TerminationPolicy
from .port import CarefulPort
from .progress import Progress
from .report import DrainReport, Tally

_log = Logger()

#: Seconds; fits into the 30 seconds that Kubernetes gives a pod.
DRAIN_TIMEOUT = 25.0
#: A connection is new for this many seconds.  It is not ended before that, because
#: its first request may still be on its way.
_NEW = 0.5
#: The drain waits at most this many seconds for the end of the connections that it
#: has reset.  They most often end in one turn of the reactor.
_GRACE = 1.0


class LiveFactory(TerminatingFactory):
    """
    Tells a L{Drainer} of the connections that are made.
    """

    def __init__(
        self, drainer: Drainer, factory: Any, policy: Optional[TerminationPolicy]
    ) -> None:
        super().__init__(factory, policy)
        self._drainer = drainer

    def whenDraining(self) -> Deferred[None]:
        """
        See L{Drainer.whenDraining}.
        """
        return self._drainer.whenDraining()

    def connected(self, transport: Any) -> None:
        """
        A connection is made.
        """
        self._drainer.connected(transport, self._end)

    def _end(self, transport: Any) -> None:
        drainable = IDrainable(self.wrappedFactory, None)
        if drainable is not None:
            drainable.drain(transport)
        else:
            transport.drain()


_lose = methodcaller("loseConnection")
_reset = methodcaller("abortConnection")


class Phase(IntEnum):
    """
    How far a drain has come, in this order; phases may be left out.  If a connection
    is made after the end of the drain, because an endpoint has begun to listen late,
    the phase goes back to CLOSING.
    """

    SERVING = auto()  #: no drain has begun
    DELAYED = auto()  #: C{readinessDelay}: listening goes on
    CLOSING = auto()  #: listening has stopped; what has arrived is read
    ENDING = auto()  #: each connection ends when its work is done
    RESETTING = auto()  #: what is left is reset
    DRAINED = auto()  #: the report is out


class Drainer:
    """
    Knows the live connections of its listeners, and drains them, once.
    """

    def __init__(
        self, clock: IReactorTime, timeout: Optional[float], delay: float = 0.0
    ) -> None:
        """
        @param timeout: seconds after which a drain resets what is left.
        @param delay: seconds from the begin of the drain until listening stops.
        @raise ValueError: for a negative time.
        @raise TypeError: for a time that is no number.
        """
        checkSeconds("drainTimeout", timeout, unlimited=True)
        checkSeconds("readinessDelay", delay)
        self._clock = clock
        self._timeout = timeout
        self._delay = delay
        self._phase = Phase.SERVING
        # The connections that were not told to end yet, oldest first: for each, the
        # function that ends it, and when it was made.
        self._open: dict[Any, tuple[Callable[[Any], None], float]] = {}
        self._ending: set[Any] = set()
        self._ports: list[CarefulPort] = []
        self._listeners: list[IDrainListener] = []
        self._calls: list[IDelayedCall] = []
        self._begun: Waiters[None] = Waiters()
        self._report: Waiters[DrainReport] = Waiters()
        self._progress = Progress()
        self._inUse = False
        self._tellInUse: Callable[[bool], object] = lambda inUse: None

    @property
    def draining(self) -> bool:
        """
        Has the drain begun?
        """
        return self._phase is not Phase.SERVING

    @property
    def ports(self) -> list[CarefulPort]:
        """
        The ports that listen.
        """
        return [port for port in self._ports if not port.stopping]

    @property
    def _live(self) -> list[Any]:
        return [*self._open, *self._ending]

    # What is drained.

    def wrap(self, factory: Any, policy: Optional[TerminationPolicy]) -> LiveFactory:
        """
        Make a factory whose connections are drained.  C{factory}, and each factory
        inside of it, is told of the drain if it is an L{IDrainListener}.
        """
        for listener in _listeners(factory):
            if listener not in self._listeners:
                self._listeners.append(listener)
                listener.servingBegins()
        return LiveFactory(self, factory, policy)

    def listens(self, port: Any) -> CarefulPort:
        """
        A port listens with such a factory.

        @return: the port for its owner.
        """
        careful = CarefulPort(port, self._portChanged)
        self._ports.append(careful)
        self._portChanged(careful)
        return careful

    def connected(self, transport: Any, end: Callable[[Any], None]) -> None:
        """
        A connection is made; C{end} ends it when its work is done.
        """
        self._open[transport] = end, self._clock.seconds()
        transport.callWhenTerminated(partial(self._ended, transport))
        self._use(True)
        if self.draining:
            self._clock.callLater(0, _attempt, self._tell, transport)
        if self._phase is Phase.ENDING and len(self._open) == 1:
            self._later(_NEW, self._endDue)
        elif self._phase is Phase.RESETTING:
            # This happens in the next turn, after the application was told of the
            # connection.
            self._clock.callLater(0, _attempt, _reset, transport)
        elif self._phase is Phase.DRAINED:
            # An endpoint has begun to listen since the end of the drain.
            self._later(1.0, self._tick)
            self._close()

    def whileInUse(self, tell: Callable[[bool], object]) -> None:
        """
        Call C{tell} with C{True} when a port listens or a connection lives, and with
        C{False} when that is no longer so, with a drain or without; and so on for
        each change.
        """
        self._tellInUse = tell
        if self._inUse:
            tell(True)

    # The drain.

    def drain(self) -> Deferred[DrainReport]:
        """
        Stop listening, and end all connections without losing anything.

        @return: a Deferred of the report; a new one for each call.
        """
        if not self.draining:
            self._begin()
            if self._delay:
                self._later(self._delay, self._close)
            else:
                self._close()
            if self._open:
                self._tick()
            elif not self._report.fired:
                self._later(1.0, self._tick)
        return self._report.wait()

    def abort(self) -> None:
        """
        Stop listening now, and reset the connections that are left; their
        unsent data is lost.
        """
        if not self.draining:
            self._begin()
        if self._phase < Phase.DRAINED:
            self._cancelAll()
            self._phase = Phase.RESETTING
            # If a reset fails, the process must end all the same.
            self._later(_GRACE, self._done)
            self._stopListening()
            for transport in self._live:
                _attempt(_reset, transport)
            self._changed()

    def whenDraining(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the drain begins; a new one for each
            call.
        """
        return self._begun.wait()

    def _begin(self) -> None:
        now = self._clock.seconds()
        self._phase = Phase.DELAYED
        self._tally = Tally(now)
        self._closesAt = now + self._delay
        for listener in self._listeners:
            try:
                listener.drainBegins()
            except Exception:  # the application has raised
                _log.failure("{listener} failed", listener=repr(listener))
        for transport in list(self._open):
            _attempt(self._tell, transport)
        self._begun.fire(None)

    def _tell(self, transport: Any) -> None:
        timeout = self._timeout
        transport.drainBegins(None if timeout is None else timeout + self._delay)

    def _close(self) -> None:
        self._phase = Phase.CLOSING
        if self._timeout is not None:
            self._resetsAt = self._clock.seconds() + self._timeout
            self._later(self._timeout, self._expired)
        # What has arrived, such as a request, is read first.  A call after 0
        # seconds may still run before the reactor next reads its sockets.  A second
        # one, made in the first, runs after that.
        self._later(0, lambda: self._later(0, self._startEnding))
        self._stopListening()
        self._changed()

    def _stopListening(self) -> None:
        for port in self._ports:
            port.stopListening()

    def _startEnding(self) -> None:
        self._phase = Phase.ENDING
        self._endDue()

    def _endDue(self) -> None:
        """
        End all connections but those that are new; these are ended later.
        """
        now = self._clock.seconds()
        with _collectorPaused():
            for transport, (end, made) in list(self._open.items()):
                if 0 <= now - made < _NEW:  # below 0 the clock was set back
                    self._later(made + _NEW - now, self._endDue)
                    return  # those that follow are younger
                if self._open.pop(transport, None) is not None:
                    self._ending.add(transport)
                    if not _attempt(end, transport):
                        _attempt(_lose, transport)
        if self._open:  # connections were made meanwhile
            self._later(_NEW, self._endDue)

    def _expired(self) -> None:
        assert self._timeout is not None
        self._progress.expired(len(self._live), self._timeout)
        self.abort()

    # Connections and ports that have ended.

    def _ended(self, transport: Any, report: Termination) -> None:
        if self._open.pop(transport, None) is None:
            self._ending.discard(transport)
        if self._phase is not Phase.SERVING:
            self._tally.add(transport, report, self._clock.seconds())
        self._changed()

    def _portChanged(self, port: CarefulPort) -> None:
        if port.stopped:
            self._changed()
            return
        self._use(True)
        if self._phase >= Phase.CLOSING:  # too late
            port.stopListening()

    def _changed(self) -> None:
        """
        A connection has ended, or a port is closed: was it the last one?
        """
        if self._open or self._ending:
            return
        if not all(port.stopped for port in self._ports):
            return
        if Phase.CLOSING <= self._phase < Phase.DRAINED:
            self._done()
        self._use(False)

    def _done(self) -> None:
        self._cancelAll()
        self._phase = Phase.DRAINED
        report = self._tally.report(len(self._live), self._clock.seconds())
        self._progress.done(report)
        self._report.fire(report)

    def _use(self, inUse: bool) -> None:
        if inUse is not self._inUse:
            self._inUse = inUse
            self._tellInUse(inUse)

    # Time.

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        self._calls = [call for call in self._calls if call.active()]
        self._calls.append(self._clock.callLater(seconds, what))

    def _cancelAll(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()

    def _tick(self) -> None:
        """
        Once a second, say how far the drain has come.
        """
        now = self._clock.seconds()
        delayed = self._phase is Phase.DELAYED
        limited = self._timeout is not None and not delayed
        self._progress.tell(
            self._live,
            self._tally.ended,
            self._closesAt - now if delayed else None,
            self._resetsAt - now if limited else None,
        )
        self._later(1.0, self._tick)


@contextmanager
def _collectorPaused() -> Iterator[None]:
    """
    Switch Python's cyclic garbage collector off for a while.  Each connection that
    ends makes some objects, which live until it has ended.  With 10,000 connections
    these would start the collector several times.  It would look through all objects
    of the process and free none.  That took a fifth of the time until the last FIN.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _attempt(what: Callable[[Any], object], transport: Any) -> bool:
    """
    Call C{what} with one connection.  The call may fail, because the application
    raises or because the socket was closed elsewhere.  The others must be called all
    the same.
    """
    try:
        what(transport)
    except Exception:
        _log.failure(
            "{what} of {transport} failed", what=repr(what), transport=repr(transport)
        )
        return False
    return True


def _listeners(factory: Any) -> list[IDrainListener]:
    found = []
    while True:
        listener = IDrainListener(factory, None)
        if listener is not None:
            found.append(listener)
        if not isinstance(factory, WrappingFactory):
            return found
        factory = factory.wrappedFactory


__all__ = ["DRAIN_TIMEOUT", "Drainer", "LiveFactory"]
