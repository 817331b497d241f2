"""
The drain: from the live connections of some listeners to a report.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from .._waiters import Waiters
from ..connection.report import Termination
from ..connection.wrapping import TerminatingFactory
from ..interfaces import IDrainable
from ..policy import TerminationPolicy
from .port import CarefulPort
from .report import DrainReport, Tally
from .systemd import notify

_log = Logger()

#: Seconds; fits into the 30 seconds that Kubernetes gives a pod.
DRAIN_TIMEOUT = 25.0
#: Microseconds that systemd is asked for while the drain makes progress.
_EXTENSION = 10_000_000
#: A connection is new for so long (seconds), and its first request may still be
#: on its way: it is not ended before that.
_NEW = 0.5


class LiveFactory(TerminatingFactory):
    """
    Tells a L{Drainer} of the connections that are made.
    """

    def __init__(
        self, drainer: Drainer, factory: Any, policy: Optional[TerminationPolicy]
    ) -> None:
        super().__init__(factory, policy)
        self._drainer = drainer

    def _gate(self, application: Any) -> Any:
        gate = super()._gate(application)
        gate.connected += (self._connected,)
        return gate

    def _connected(self, transport: Any) -> None:
        self._drainer.connected(transport, self._end)

    def _end(self, transport: Any) -> None:
        drainable = IDrainable(self.wrappedFactory, None)
        if drainable is not None:
            drainable.drain(transport)
        else:
            transport.drain()


class Drainer:
    """
    Knows the live connections of its listeners, and drains them, once.

    @ivar draining: has the drain begun?
    """

    draining = False

    def __init__(
        self, clock: IReactorTime, timeout: Optional[float], delay: float = 0.0
    ) -> None:
        """
        @param timeout: seconds after which a drain resets what is left.
        @param delay: seconds from the begin of the drain until listening stops.
        @raise ValueError: for a negative time.
        """
        for name, value in (("drainTimeout", timeout), ("readinessDelay", delay)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name}={value!r}: must be 0 seconds or more")
        self._clock = clock
        self._timeout = timeout
        self._delay = delay
        self._live: dict[Any, tuple[Callable[[Any], None], float]] = {}
        self._ports: list[CarefulPort] = []
        self._calls: list[IDelayedCall] = []
        self._report: Waiters[DrainReport] = Waiters()
        self._tally: Optional[Tally] = None
        self._stopping = self._ending = False
        self._idle: Callable[[], object] = lambda: None

    def wrap(self, factory: Any, policy: Optional[TerminationPolicy]) -> LiveFactory:
        """
        Make a factory whose connections are drained.
        """
        return LiveFactory(self, factory, policy)

    def listens(self, port: Any) -> CarefulPort:
        """
        A port listens with such a factory.

        @return: the port for its owner.
        """
        careful = CarefulPort(port, self._changed)
        self._ports.append(careful)
        if self._stopping:  # too late
            careful.stopListening()
        return careful

    def connected(self, transport: Any, end: Callable[[Any], None]) -> None:
        """
        A connection is made; C{end} ends it when its work is done.
        """
        self._live[transport] = end, self._clock.seconds()
        transport.whenTerminated().addCallback(self._ended, transport)
        if self.draining:
            self._clock.callLater(0, transport.drainBegins, self._seconds())
        if self._ending:
            self._endOne(transport)

    def _seconds(self) -> Optional[float]:
        return None if self._timeout is None else self._timeout + self._delay

    def whenIdle(self, what: Callable[[], object]) -> None:
        """
        Call C{what} once all ports are closed and all connections have ended,
        by a drain or not.
        """
        self._idle = what

    def drain(self) -> Deferred[DrainReport]:
        """
        Stop listening, and end all connections without losing anything.

        @return: a Deferred of the report; a new one for each call.
        """
        if not self.draining:
            self.draining = True
            self._tally = Tally(self._clock.seconds())
            self._remaining = len(self._live)
            for transport in list(self._live):
                transport.drainBegins(self._seconds())
            if self._live:
                self._tick()
            if self._delay:
                self._later(self._delay, self._stopListening)
            else:
                self._stopListening()
        return self._report.wait()

    def abort(self) -> None:
        """
        Reset the connections that are left; their unsent data is lost.
        """
        for transport in list(self._live):
            transport.abortConnection()

    def _later(self, seconds: Optional[float], what: Any) -> None:
        if seconds is not None:
            self._calls.append(self._clock.callLater(seconds, what))

    def _stopListening(self) -> None:
        self._stopping = True
        for port in self._ports:
            port.stopListening()
        self._changed()
        if self._live:
            self._later(self._timeout, self.abort)
            # What has arrived is read first, a request perhaps.  A call that
            # is due now may still come before the reactor's next look at its
            # sockets; one that is made in that call does not.
            self._later(0, lambda: self._later(0, self._endAll))

    def _endAll(self) -> None:
        self._ending = True
        for transport in list(self._live):
            self._endOne(transport)

    def _endOne(self, transport: Any) -> None:
        if transport not in self._live:
            return
        end, made = self._live[transport]
        left = made + _NEW - self._clock.seconds()
        if left > 0:
            self._later(left, lambda: self._endOne(transport))
            return
        try:
            end(transport)
        except Exception:  # an application's; the others are not to suffer
            _log.failure("cannot drain {transport}", transport=transport)
            transport.loseConnection()

    def _ended(self, report: Termination, transport: Any) -> None:
        del self._live[transport]
        if self._tally is not None:
            self._tally.add(transport.getPeer(), report, self._clock.seconds())
        self._changed()

    def _changed(self) -> None:
        """
        A connection has ended, or a port is closed: was it the last one?
        """
        if self._live or not all(port.stopped for port in self._ports):
            return
        if self._stopping and not self._report.fired:
            self._done()
        idle, self._idle = self._idle, lambda: None
        idle()

    def _done(self) -> None:
        assert self._tally is not None
        for call in self._calls:
            if call.active():
                call.cancel()
        report = self._tally.report(self._clock.seconds())
        _log.info("{report}", report=report)
        self._report.fire(report)

    def _tick(self) -> None:
        """
        Once a second: say how far it has come.
        """
        count = len(self._live)
        if count < self._remaining:
            notify(EXTEND_TIMEOUT_USEC=_EXTENSION)
        self._remaining = count
        notify(STATUS=f"draining, {count} connections left")
        states = Counter(transport.state.value for transport in self._live)
        _log.info(
            "draining, {count} connections left{states}",
            count=count,
            states="".join(f", {n} {state}" for state, n in sorted(states.items())),
        )
        self._calls = [call for call in self._calls if call.active()]
        self._later(1.0, self._tick)


__all__ = ["DRAIN_TIMEOUT", "Drainer", "LiveFactory"]
