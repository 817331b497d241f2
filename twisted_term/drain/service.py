"""
Stopping a server without losing what it has begun.
"""

from __future__ import annotations

from typing import Any, Optional, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from .._checks import checkEndpoint, checkFactory, checkFlag, checkPolicy
from .._types import ProtocolFactory, ServerEndpoint
from ..connection.beneath import prepare
from ..policy import TerminationPolicy
from .drainer import DRAIN_TIMEOUT, Drainer
from .notify import notify
from .report import DrainReport
from .signals import signalDrain

_log = Logger()


class DrainingService(Service):
    """
    Listens as L{twisted.application.internet.StreamServerEndpointService}
    does, and ends as a server should: C{stopService} accepts what the kernel
    has established, stops listening, ends each connection when its work in
    flight is done, and aborts what is left at the deadline.

    While it runs under a reactor that handles signals, SIGTERM and SIGINT drain first,
    and stop the reactor after that, so that everything that the application needs for
    its answers is still there during the drain.  A second signal stops listening and
    aborts at once, unless it comes so soon that it is the first one passed on again.

    Under systemd the process says C{READY=1} when all endpoints listen and the
    reactor runs, C{STOPPING=1} when it is about to end, and in a drain
    C{STATUS=} and, while connections go on ending, C{EXTEND_TIMEOUT_USEC=}; see
    sd_notify(3).
    """

    def __init__(
        self,
        endpoint: ServerEndpoint,
        factory: ProtocolFactory,
        policy: Optional[TerminationPolicy] = None,
        drainTimeout: Optional[float] = DRAIN_TIMEOUT,
        readinessDelay: float = 0.0,
        reactor: Any = None,
        onSignal: bool = True,
    ) -> None:
        """
        @param endpoint: an C{IStreamServerEndpoint}.
        @param factory: the factory of the protocols; it need not be wrapped.  It
            is told of the drain if it is an L{twisted_term.IDrainListener}.
        @param policy: the limits of each connection; C{None} for those of the
            endpoint, or else the defaults.
        @param drainTimeout: seconds after which a drain resets what is left,
            and its unsent data is lost; C{None} for no limit but the policy.
            The default fits into the 30 seconds that Kubernetes gives a pod.
        @param readinessDelay: seconds from the begin of a drain, when
            C{draining} is true already, until listening stops: the time that
            a load balancer needs to take notice.
        @param onSignal: drain as soon as the signal comes, and stop the reactor
            after that.  With C{False} the reactor stops at once, and it drains
            when it is stopped with the other services.  This is for a service that
            serves until all others have drained, such as a status page, and for
            applications that close their own connections when they are stopped.
        @raise ValueError: for a negative time.
        @raise TypeError: for an argument of a wrong type.
        """
        if reactor is None:
            from twisted.internet import reactor
        checkPolicy(policy)
        checkFlag("onSignal", onSignal)
        self._reactor = reactor
        self._times = drainTimeout, readinessDelay
        self._policy = policy
        self._onSignal = onSignal
        self._signals = signalDrain(reactor)
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

    @property
    def ports(self) -> list[IListeningPort]:
        """
        The ports that it listens on, in the order in which they were opened;
        none before it is started and after it has stopped listening.
        """
        return cast("list[IListeningPort]", self._drainer.ports)

    def addEndpoint(self, endpoint: ServerEndpoint, factory: ProtocolFactory) -> None:
        """
        Serve another endpoint too; call it before the service starts.

        @raise TypeError: if C{endpoint} is no endpoint, or C{factory} no factory.
        """
        checkEndpoint(endpoint, "listen", "serverFromString")
        checkFactory(factory)
        self._endpoints.append((endpoint, factory))

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise Exception: if an endpoint fails at once, its exception, such as
            L{twisted.internet.error.CannotListenError}.
        """
        if self._drainer.draining:
            self._drainer = Drainer(self._reactor, *self._times)
            notify(STATUS="")  # the text of the last drain is out of date
        drainer = self._drainer
        for endpoint, factory in self._endpoints:
            listening = endpoint.listen(drainer.wrap(factory, self._policy))
            failed: list[Failure] = []
            listening.addCallbacks(drainer.listens, failed.append)
            if failed:
                failed[0].raiseException()
            listening.addCallback(self._listens, failed)
            self._listening.append(listening)

    def _listens(self, port: Any, failed: list[Failure]) -> Any:
        if failed:  # it has failed later, and no caller could catch an exception
            _log.failure("cannot listen", failure=failed[0])
        return port

    def startService(self) -> None:
        """
        Listen, if C{privilegedStartService} has not.
        """
        super().startService()
        if not self._listening:
            self.privilegedStartService()
        self._signals.add(self, self._onSignal)
        ready: Deferred[None] = Deferred()
        self._signals.process.awaits(ready)
        DeferredList(self._listening).addCallback(self._ready, ready)

    def _ready(self, results: list[tuple[bool, Any]], ready: Deferred[None]) -> None:
        if all(port is not None for _, port in results) and not self.draining:
            ready.callback(None)

    def stopService(self) -> Deferred[DrainReport]:
        """
        C{drain}.
        """
        super().stopService()
        return self.drain().addBoth(self._uninstall)

    def _uninstall(self, result: Any) -> Any:
        self._signals.remove(self)
        return result

    def drain(self) -> Deferred[DrainReport]:
        """
        Stop listening, and end all connections without losing anything; the
        process goes on.  Until the service is started again, a later call waits for
        the end of the same drain.

        @return: a Deferred of the L{DrainReport}; a new one for each call.
        """
        # An endpoint that does not listen yet closes its port as soon as it does.
        self._listening = []
        return self._drainer.drain()

    def whenDraining(self) -> Deferred[None]:
        """
        For an application that has to do something itself when the server is
        drained, such as ending long polls.

        @return: a Deferred that fires when a drain begins, before
            C{readinessDelay}, or now if one has begun; a new one for each call.
        """
        return self._drainer.whenDraining()

    def abort(self) -> None:
        """
        Stop listening now, and reset the connections that are left; their
        unsent data is lost.
        """
        self._listening = []
        self._drainer.abort()


__all__ = ["DrainingService"]
