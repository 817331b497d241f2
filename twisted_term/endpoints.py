"""
Endpoints whose connections end without losing data.
"""

from __future__ import annotations

from typing import Any, Optional, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorCore,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from ._checks import checkEndpoint, checkFactory, checkFlag, checkPolicy
from ._types import Builds, ClientEndpoint, ProtocolFactory, ServerEndpoint
from .connection.beneath import prepare
from .connection.wrapping import TerminatingFactory, handOut
from .drain.drainer import DRAIN_TIMEOUT, Drainer, LiveFactory
from .drain.signals import drainAtShutdown, signalDrain
from .policy import TerminationPolicy

_Built = TypeVar("_Built")


@implementer(IStreamServerEndpoint)
class TerminatingServerEndpoint:
    """
    Wraps a server endpoint.  If the endpoint is wrapped already, a second wrapper
    changes nothing.

    Before the reactor stops, it stops listening and ends each connection when
    its work in flight is done.  A L{twisted_term.DrainingService} that listens with
    this endpoint does that itself, and its times count.  SIGTERM and SIGINT drain
    first and then stop the reactor.  A second signal aborts at once, unless it comes
    so soon that it is the first one passed on again.

    Under systemd the process says C{READY=1} when all such endpoints listen and
    the reactor runs, and C{STOPPING=1} when it is about to end.
    """

    def __init__(
        self,
        endpoint: ServerEndpoint,
        policy: Optional[TerminationPolicy] = None,
        drainTimeout: Optional[float] = DRAIN_TIMEOUT,
        readinessDelay: float = 0.0,
        reactor: Any = None,
        onSignal: bool = True,
    ) -> None:
        """
        @param policy: the limits of each connection; C{None} for those of a
            wrapping endpoint, or else the defaults.
        @param drainTimeout: seconds after which connections that are left when
            the reactor stops are reset, and their unsent data is lost; C{None}
            for no limit but the policy.
        @param readinessDelay: seconds from the begin of the drain until listening
            stops.  A factory that is an L{twisted_term.IDrainListener} is told at
            their begin.
        @param reactor: the reactor whose stop begins the drain; C{None} for the
            global one.
        @param onSignal: drain as soon as the signal comes, and stop the reactor
            after that.  With C{False} the reactor stops at once, and the drain
            runs together with all else that runs before the reactor's shutdown.
        @raise ValueError: for a negative time.
        @raise TypeError: for an argument of a wrong type.
        """
        if reactor is None:
            from twisted.internet import reactor
        checkEndpoint(endpoint, "listen", "serverFromString")
        checkPolicy(policy)
        checkFlag("onSignal", onSignal)
        self.endpoint = endpoint
        self.policy = policy
        self.drainTimeout = drainTimeout
        self.readinessDelay = readinessDelay
        self.onSignal = onSignal
        self._reactor = reactor
        self._drainer()  # checks the times
        prepare()

    def _drainer(self) -> Drainer:
        return Drainer(self._reactor, self.drainTimeout, self.readinessDelay)

    def listen(self, factory: ProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen with a wrapped factory.

        @return: a Deferred of the listening port.  Its C{stopListening}
            accepts the connections that the kernel has established, so that none of
            them is reset.
        @raise TypeError: if C{factory} is no factory.
        """
        checkFactory(factory)
        if isinstance(self.endpoint, TerminatingServerEndpoint):
            return self.endpoint.listen(factory)
        if isinstance(factory, LiveFactory):  # a service drains its connections
            return self.endpoint.listen(TerminatingFactory(factory, self.policy))
        drainer = self._drainer()
        listening: Deferred[Any] = self.endpoint.listen(
            drainer.wrap(factory, self.policy)
        )
        listening.addCallback(self._listens, drainer)
        if IReactorCore.providedBy(self._reactor):
            drainAtShutdown(self._reactor, drainer, self.onSignal)
            signalDrain(self._reactor).process.awaits(listening)
        return listening

    def _listens(self, port: Any, drainer: Drainer) -> Any:
        # The endpoint stdio: has a connection, and no port.
        return drainer.listens(port) if IListeningPort.providedBy(port) else port


@implementer(IStreamClientEndpoint)
class TerminatingClientEndpoint:
    """
    Wraps a client endpoint.  If the endpoint is wrapped already, a second wrapper
    changes nothing.
    """

    def __init__(
        self, endpoint: ClientEndpoint, policy: Optional[TerminationPolicy] = None
    ) -> None:
        """
        @param policy: the limits; C{None} for those of a wrapping endpoint, or
            else the defaults.
        @raise TypeError: if C{endpoint} is no endpoint, or C{policy} no policy.
        """
        checkEndpoint(endpoint, "connect", "clientFromString")
        checkPolicy(policy)
        self.endpoint = endpoint
        self.policy = policy
        prepare()

    @overload
    def connect(self, factory: Builds[_Built]) -> Deferred[_Built]: ...
    @overload
    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]: ...

    def connect(self, factory: ProtocolFactory) -> Deferred[Any]:
        """
        Connect with a wrapped factory.

        @return: a Deferred of the protocol that C{factory} built.
        @raise TypeError: if C{factory} is no factory.
        """
        checkFactory(factory)
        if isinstance(self.endpoint, TerminatingClientEndpoint):
            return self.endpoint.connect(factory)
        wrapped = TerminatingFactory(factory, self.policy)
        connecting: Deferred[Any] = self.endpoint.connect(wrapped)
        return connecting.addCallback(handOut, wrapped)


__all__ = ["TerminatingClientEndpoint", "TerminatingServerEndpoint"]
