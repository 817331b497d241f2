"""
Putting a L{TerminatingTransport} before a protocol: by mixin or by factory.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Callable, Optional

from twisted.internet.interfaces import IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from ..interfaces import IDrainable, ITerminableTransport, ITerminationListener
from ..policy import TerminationPolicy
from .gate import Gate, bottom, innermostTLS
from .report import Termination
from .transport import TerminatingTransport


@implementer(ITerminationListener)
class TerminationMixin:
    """
    Mix it in before a protocol class, C{class Echo(TerminationMixin,
    LineReceiver)}, and C{self.transport} is an L{ITerminableTransport}, on
    any plain Twisted server or client.

    @cvar terminationPolicy: the limits; C{None} for those of the endpoint or
        factory around, or else the defaults.
    """

    terminationPolicy: Optional[TerminationPolicy] = None

    def makeConnection(self, transport: Any) -> None:
        """
        Connect, through a L{TerminatingTransport} unless it is one already.
        """
        if not ITerminableTransport.providedBy(transport):
            transport = TerminatingTransport(transport, self, self.terminationPolicy)
        elif self.terminationPolicy is not None:
            bottom(transport).policy = self.terminationPolicy
        super().makeConnection(transport)  # type: ignore[misc]

    def terminated(self, report: Termination) -> None:
        """
        Override to learn how the connection ended; called once, after
        C{connectionLost}.
        """


class _Connecting(Gate):
    """
    The gate that a L{TerminatingFactory} builds, before the connection is
    made.

    @ivar connected: each is called with the L{ITerminableTransport}, to keep
        account.
    """

    connected: tuple[Callable[[Any], object], ...] = ()
    _aside = False

    def __init__(
        self,
        application: Any,
        policy: Optional[TerminationPolicy],
        clock: Optional[IReactorTime],
    ) -> None:
        super().__init__(application)
        self.policy = policy
        self.clock = clock

    def makeConnection(self, transport: Any) -> None:
        application = self.application
        if not ITerminableTransport.providedBy(transport):
            transport = TerminatingTransport(
                transport, application, self.policy, self.clock, self
            )
        else:
            # Another one stands farther out, with a wrapper in between.
            self._aside = True
            if ITerminationListener.providedBy(application):
                transport.whenTerminated().addCallback(application.terminated)
        for tell in self.connected:
            tell(transport)
        application.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._aside:
            self.application.connectionLost(reason)
        else:
            super().connectionLost(reason)


class TerminatingFactory(WrappingFactory):
    """
    Wraps a factory, whose protocols need know nothing of it.  Around one that
    is wrapped already, it only gives the policy that the other leaves open.
    """

    def __init__(
        self,
        wrappedFactory: Any,
        policy: Optional[TerminationPolicy] = None,
        clock: Optional[IReactorTime] = None,
    ) -> None:
        """
        @param policy: the limits; C{None} for those of a wrapping endpoint
            or factory, or else the defaults.
        @param clock: for the timers; C{None} for the transport's reactor.
        """
        super().__init__(wrappedFactory)
        self.noisy = getattr(wrappedFactory, "noisy", True)
        self.policy = policy
        self.clock = clock
        # TLS asks the factory which protocols to negotiate (ALPN).
        negotiating = IProtocolNegotiationFactory(wrappedFactory, None)
        if negotiating is not None:
            alsoProvides(self, IProtocolNegotiationFactory)
            self.acceptableProtocols = negotiating.acceptableProtocols
        # And the drain asks it to end what it knows.
        drainable = IDrainable(wrappedFactory, None)
        if drainable is not None:
            alsoProvides(self, IDrainable)
            self.drain = drainable.drain

    def buildProtocol(self, addr: Any) -> Any:
        built: Any = self.wrappedFactory.buildProtocol(addr)
        if built is None:
            return None
        tls = innermostTLS(built)
        if tls is None:
            return self._gate(built)
        # The application is to see the ends of TLS, not those beneath it.
        tls.wrappedProtocol = self._gate(tls.wrappedProtocol)
        return built

    def _gate(self, application: Any) -> _Connecting:
        if not isinstance(application, _Connecting):
            return _Connecting(application, self.policy, self.clock)
        if application.policy is None:
            application.policy = self.policy
        return application


def handOut(built: Any) -> Any:
    """
    What the wrapped factory has built, as it was before the gate came in.
    """
    if isinstance(built, Gate):
        return built.application
    # A TLS with the gate inside: its owner looks for the protocol there.
    shown = copy(built)
    if isinstance(shown.wrappedProtocol, Gate):
        shown.wrappedProtocol = shown.wrappedProtocol.application
    return shown


__all__ = ["TerminatingFactory", "TerminationMixin", "handOut"]
