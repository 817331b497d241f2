"""
Stopping a server without losing what it has begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ._listening import acceptQueued
from ._notify import notify
from ._signals import signalDrain
from .drain import DrainReport, Tally
from .interfaces import IDrainable
from .policy import TerminationPolicy
from .protocol import TerminatingFactory
from .report import Termination

_log = Logger()

#: Microseconds that systemd is asked for while the drain makes progress.
_EXTENSION = 10_000_000


class _Live(TerminatingFactory):
    """
    Knows the connections that it has built and that have not ended.
    """

    def __init__(self, service: DrainingService, factory: Any) -> None:
        super().__init__(factory, service.policy)
        self._service = service

    def buildProtocol(self, addr: Any) -> Any:
        built = super().buildProtocol(addr)
        if built is not None:
            built.connected = self._connected
        return built

    def _connected(self, transport: Any) -> None:
        self._service._connected(transport, self._end)

    def _end(self, transport: Any) -> None:
        if IDrainable.providedBy(self.wrappedFactory):
            self.wrappedFactory.drain(transport)
        else:
            transport.loseConnection()


class DrainingService(Service):
    """
    Listens as L{twisted.application.internet.StreamServerEndpointService}
    does, and ends as a server should: C{stopService} accepts what the kernel
    has established, stops listening, ends each connection when its work in
    flight is done, and aborts what is left at the deadline.

    While it runs under a reactor that handles signals, SIGTERM and SIGINT
    stop the reactor, and so drain; a second one aborts at once.

    @ivar draining: has a drain begun?
    """

    def __init__(
        self,
        endpoint: Any,
        factory: Any,
        policy: Optional[TerminationPolicy] = None,
        drainTimeout: Optional[float] = 30.0,
        readinessDelay: float = 0.0,
        reactor: Any = None,
    ) -> None:
        """
        @param endpoint: an C{IStreamServerEndpoint}.
        @param factory: the factory of the protocols; it need not be wrapped.
        @param policy: the limits of each connection; C{None} for the defaults.
        @param drainTimeout: seconds after which a drain resets what is left,
            and its unsent data is lost; C{None} for no limit but the policy.
        @param readinessDelay: seconds from the begin of a drain, when
            C{draining} is true already, until listening stops: the time that
            a load balancer needs to take notice.
        @raise ValueError: for a negative time.
        """
        if reactor is None:
            from twisted.internet import reactor
        for name, value in (
            ("drainTimeout", drainTimeout),
            ("readinessDelay", readinessDelay),
        ):
            if value is not None and not value >= 0:
                raise ValueError(f"{name}={value!r}: must be 0 seconds or more")
        self.policy = policy
        self.drainTimeout = drainTimeout
        self.readinessDelay = readinessDelay
        self.draining = False
        self._live: dict[Any, Callable[[Any], None]] = {}
        self._clock: IReactorTime = reactor
        self._signals = signalDrain(reactor)
        self._endpoints: list[tuple[Any, _Live]] = []
        self._listening: list[Deferred[Any]] = []
        self._waiting: list[Deferred[DrainReport]] = []
        self._calls: list[IDelayedCall] = []
        self._tally: Optional[Tally] = None
        self._closed = self._ending = False
        self._report: Optional[DrainReport] = None
        self.addEndpoint(endpoint, factory)

    def addEndpoint(self, endpoint: Any, factory: Any) -> None:
        """
        Serve another endpoint too; call it before the service starts.
        """
        self._endpoints.append((endpoint, _Live(self, factory)))

    # The service.

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise Exception: what an endpoint fails with at once, such as
            L{twisted.internet.error.CannotListenError}.
        """
        for endpoint, live in self._endpoints:
            listening = endpoint.listen(live)
            failed: list[Failure] = []
            listening.addErrback(failed.append)
            if failed:
                failed[0].raiseException()
            listening.addCallback(self._listens, failed)
            self._listening.append(listening)

    def _listens(self, port: Any, failed: list[Failure]) -> Any:
        if failed:  # later, when there is nobody to raise it to
            _log.failure("cannot listen", failure=failed[0])
        return port

    def startService(self) -> None:
        """
        Listen, if C{privilegedStartService} has not.
        """
        super().startService()
        if not self._listening:
            self.privilegedStartService()
        self._signals.add(self.abort)
        DeferredList(self._listening).addCallback(self._ready)

    def _ready(self, results: list[tuple[bool, Any]]) -> None:
        if all(port is not None for _, port in results) and not self.draining:
            notify(READY=1)

    def stopService(self) -> Deferred[DrainReport]:
        """
        C{drain}.
        """
        super().stopService()
        notify(STOPPING=1)
        drained = self.drain()
        drained.addBoth(self._uninstall)
        return drained

    def _uninstall(self, result: Any) -> Any:
        self._signals.remove(self.abort)
        return result

    # The drain.

    def drain(self) -> Deferred[DrainReport]:
        """
        Stop listening, and end all connections without losing anything; the
        process goes on.  Drains once: a later call waits for the same end.

        @return: a Deferred of the L{DrainReport}; a new one for each call.
        """
        if self._report is not None:
            return succeed(self._report)
        done: Deferred[DrainReport] = Deferred()
        self._waiting.append(done)
        if not self.draining:
            self.draining = True
            self._tally = Tally(self._clock.seconds())
            self._remaining = len(self._live)
            self._tick()
            self._later(self.readinessDelay, self._stopListening)
        return done

    def abort(self) -> None:
        """
        Abort the connections that are left; their unsent data is lost.
        """
        for transport in list(self._live):
            transport.abortConnection()

    def _later(self, seconds: Optional[float], what: Any) -> None:
        if seconds is not None:
            self._calls.append(self._clock.callLater(seconds, what))

    def _stopListening(self) -> None:
        stopping = [
            listening.addCallback(self._stopPort) for listening in self._listening
        ]
        self._listening = []
        DeferredList(stopping, consumeErrors=True).addCallback(self._listenersGone)
        self._later(self.drainTimeout, self.abort)
        # What has arrived is read first: a request, perhaps.
        self._later(0, self._endAll)

    def _stopPort(self, port: Any) -> Any:
        if port is not None:  # it never listened
            acceptQueued(port)
            return maybeDeferred(port.stopListening)
        return None

    def _listenersGone(self, ignored: object) -> None:
        self._closed = True
        self._checkDone()

    def _endAll(self) -> None:
        self._ending = True
        for transport, end in list(self._live.items()):
            end(transport)

    def _connected(self, transport: Any, end: Callable[[Any], None]) -> None:
        self._live[transport] = end
        transport.whenTerminated().addCallback(self._ended, transport)
        if self._ending:
            self._later(0, lambda: end(transport))

    def _ended(self, report: Termination, transport: Any) -> None:
        del self._live[transport]
        if self._tally is not None:
            self._tally.add(transport.getPeer(), report, self._clock.seconds())
            self._checkDone()

    def _checkDone(self) -> None:
        if not self._closed or self._live or self._report is not None:
            return
        assert self._tally is not None
        for call in self._calls:
            if call.active():
                call.cancel()
        self._report = self._tally.report(self._clock.seconds())
        _log.info("{report}", report=self._report)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(self._report)

    def _tick(self) -> None:
        """
        Once a second: say how far it has come.
        """
        count = len(self._live)
        if count < self._remaining:
            notify(EXTEND_TIMEOUT_USEC=_EXTENSION)
        self._remaining = count
        notify(STATUS=f"draining, {count} connections left")
        _log.info(
            "draining, {count} connections left{states}",
            count=count,
            states=_states(self._live),
        )
        self._calls = [call for call in self._calls if call.active()]
        self._later(1.0, self._tick)


def _states(connections: Iterable[Any]) -> str:
    counts: dict[str, int] = {}
    for transport in connections:
        state = transport.state.value
        counts[state] = counts.get(state, 0) + 1
    return "".join(f", {count} {state}" for state, count in sorted(counts.items()))


__all__ = ["DrainingService"]
