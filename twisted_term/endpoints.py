"""
Endpoints whose connections end without losing data.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from .connection.beneath import prepare
from .connection.wrapping import TerminatingFactory, handOut
from .drain.drainer import DRAIN_TIMEOUT, Drainer, LiveFactory
from .drain.signals import signalDrain
from .policy import TerminationPolicy


@implementer(IStreamServerEndpoint)
class TerminatingServerEndpoint:
    """
    Wraps a server endpoint.  Wrapping one that is wrapped changes nothing.

    Before the reactor stops, it stops listening and ends each connection when
    its work in flight is done; L{twisted_term.DrainingService} does the same,
    and more, for a service that knows of it.  SIGTERM and SIGINT drain first
    and then stop the reactor; a second one aborts at once.
    """

    def __init__(
        self,
        endpoint: Any,
        policy: Optional[TerminationPolicy] = None,
        drainTimeout: Optional[float] = DRAIN_TIMEOUT,
        reactor: Any = None,
    ) -> None:
        """
        @param policy: the limits of each connection; C{None} for those of a
            wrapping endpoint, or else the defaults.
        @param drainTimeout: seconds after which connections that are left when
            the reactor stops are reset, and their unsent data is lost; C{None}
            for no limit but the policy.
        @param reactor: whose stop is meant; C{None} for the global one.
        @raise ValueError: for a negative time.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.endpoint = endpoint
        self.policy = policy
        self.drainTimeout = drainTimeout
        self._reactor = reactor
        self._drainer()  # checks the time
        prepare()

    def _drainer(self) -> Drainer:
        return Drainer(self._reactor, self.drainTimeout)

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen with a wrapped factory.

        @return: a Deferred of the listening port.  Its C{stopListening}
            accepts what the kernel has established, and resets nobody.
        """
        if isinstance(self.endpoint, TerminatingServerEndpoint):
            return self.endpoint.listen(factory)
        if isinstance(factory, LiveFactory):  # a service drains it
            return self.endpoint.listen(TerminatingFactory(factory, self.policy))
        drainer = self._drainer()
        listening: Deferred[Any] = self.endpoint.listen(
            drainer.wrap(factory, self.policy)
        )
        return listening.addCallback(self._listens, drainer)

    def _listens(self, port: Any, drainer: Drainer) -> Any:
        # stdio: has a connection, and no port.
        hasPort = IListeningPort.providedBy(port)
        careful = drainer.listens(port) if hasPort else port
        if IReactorCore.providedBy(self._reactor):
            _drainAtShutdown(self._reactor, drainer)
        return careful


def _drainAtShutdown(reactor: Any, drainer: Drainer) -> None:
    """
    Drain when the reactor stops, unless the port has been closed, and all its
    connections have ended, before.
    """
    signals = signalDrain(reactor)
    signals.add(drainer)
    trigger = reactor.addSystemEventTrigger("before", "shutdown", drainer.drain)

    def forget() -> None:
        signals.remove(drainer)
        if not drainer.draining:
            reactor.removeSystemEventTrigger(trigger)

    drainer.whenIdle(forget)


@implementer(IStreamClientEndpoint)
class TerminatingClientEndpoint:
    """
    Wraps a client endpoint.  Wrapping one that is wrapped changes nothing.
    """

    def __init__(self, endpoint: Any, policy: Optional[TerminationPolicy] = None):
        self.endpoint = endpoint
        self.policy = policy
        prepare()

    def connect(self, factory: Any) -> Deferred[Any]:
        """
        Connect with a wrapped factory.

        @return: a Deferred of the protocol that C{factory} built.
        """
        if isinstance(self.endpoint, TerminatingClientEndpoint):
            return self.endpoint.connect(factory)
        wrapped = TerminatingFactory(factory, self.policy)
        connecting: Deferred[Any] = self.endpoint.connect(wrapped)
        return connecting.addCallback(handOut, wrapped)


__all__ = ["TerminatingClientEndpoint", "TerminatingServerEndpoint"]
