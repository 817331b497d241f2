"""
Stopping a server without losing what it has begun.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..connection.beneath import prepare
from ..policy import TerminationPolicy
from .drainer import DRAIN_TIMEOUT, Drainer
from .report import DrainReport
from .signals import signalDrain
from .systemd import notify

_log = Logger()


class DrainingService(Service):
    """
    Listens as L{twisted.application.internet.StreamServerEndpointService}
    does, and ends as a server should: C{stopService} accepts what the kernel
    has established, stops listening, ends each connection when its work in
    flight is done, and aborts what is left at the deadline.

    While it runs under a reactor that handles signals, SIGTERM and SIGINT
    drain, and then stop the reactor: whatever else the process needs to answer
    is there until then.  A second one aborts at once.

    Under systemd it says C{READY=1} when all endpoints listen, and
    C{STOPPING=1}, C{STATUS=} and C{EXTEND_TIMEOUT_USEC=} (while connections
    go on ending) from then on, see sd_notify(3).
    """

    def __init__(
        self,
        endpoint: Any,
        factory: Any,
        policy: Optional[TerminationPolicy] = None,
        drainTimeout: Optional[float] = DRAIN_TIMEOUT,
        readinessDelay: float = 0.0,
        reactor: Any = None,
        onSignal: bool = True,
    ) -> None:
        """
        @param endpoint: an C{IStreamServerEndpoint}.
        @param factory: the factory of the protocols; it need not be wrapped.
        @param policy: the limits of each connection; C{None} for those of the
            endpoint, or else the defaults.
        @param drainTimeout: seconds after which a drain resets what is left,
            and its unsent data is lost; C{None} for no limit but the policy.
            The default fits into the 30 seconds that Kubernetes gives a pod.
        @param readinessDelay: seconds from the begin of a drain, when
            C{draining} is true already, until listening stops: the time that
            a load balancer needs to take notice.
        @param onSignal: drain as soon as the signal comes.  C{False} is for what
            serves until all else has drained, such as a status page: it drains
            when the service is stopped, and has no part in C{READY}.
        @raise ValueError: for a negative time.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._times = drainTimeout, readinessDelay
        self._policy = policy
        self._signals = signalDrain(reactor) if onSignal else None
        self._drainer = Drainer(reactor, *self._times)
        self._endpoints: list[tuple[Any, Any]] = []
        self._listening: list[Deferred[Any]] = []
        self.addEndpoint(endpoint, factory)
        prepare()

    @property
    def draining(self) -> bool:
        """
        Has a drain begun?
        """
        return self._drainer.draining

    def addEndpoint(self, endpoint: Any, factory: Any) -> None:
        """
        Serve another endpoint too; call it before the service starts.
        """
        self._endpoints.append((endpoint, factory))

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise Exception: what an endpoint fails with at once, such as
            L{twisted.internet.error.CannotListenError}.
        """
        if self._drainer.draining:
            self._drainer = Drainer(self._reactor, *self._times)
        for endpoint, factory in self._endpoints:
            wrapped = self._drainer.wrap(factory, self._policy)
            listening = endpoint.listen(wrapped)
            failed: list[Failure] = []
            listening.addCallbacks(self._drainer.listens, failed.append)
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
        if self._signals is not None:
            self._signals.add(self)
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
        if self._signals is not None:
            self._signals.remove(self)
        return result

    def drain(self) -> Deferred[DrainReport]:
        """
        Stop listening, and end all connections without losing anything; the
        process goes on.  A later call waits for the same end, until the
        service is started again.

        @return: a Deferred of the L{DrainReport}; a new one for each call.
        """
        # One that does not listen yet closes as soon as it does.
        self._listening = []
        return self._drainer.drain()

    def abort(self) -> None:
        """
        Reset the connections that are left; their unsent data is lost.
        """
        self._drainer.abort()


__all__ = ["DrainingService"]
