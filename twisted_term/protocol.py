"""
Putting a L{TerminatingTransport} before a protocol: by mixin or by factory.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from .interfaces import ITerminableTransport, ITerminationListener
from .policy import TerminationPolicy
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
            transport.policy = self.terminationPolicy
        super().makeConnection(transport)  # type: ignore[misc]

    def terminated(self, report: Termination) -> None:
        """
        Override to learn how the connection ended; called once, after
        C{connectionLost}.
        """


class _Connecting(Protocol):
    """
    Stands for the application's protocol until the connection is made.
    """

    def __init__(self, factory: TerminatingFactory, application: Any) -> None:
        self.terminatingFactory = factory
        self.application = application

    def logPrefix(self) -> str:
        prefix = getattr(self.application, "logPrefix", None)
        return prefix() if prefix else type(self.application).__name__

    def makeConnection(self, transport: Any) -> None:
        application = self.application
        application.makeConnection(
            self.terminatingFactory.terminating(transport, application)
        )


class TerminatingFactory(WrappingFactory):
    """
    Wraps a factory, whose protocols need know nothing of it.
    """

    def __init__(
        self,
        wrappedFactory: Any,
        policy: Optional[TerminationPolicy] = None,
        clock: Optional[IReactorTime] = None,
    ) -> None:
        """
        @param policy: the limits; C{None} for the defaults.
        @param clock: for the timers; C{None} for the transport's reactor.
        """
        super().__init__(wrappedFactory)
        self.policy = policy or TerminationPolicy()
        self.clock = clock

    def buildProtocol(self, addr: Any) -> Any:
        application = self.wrappedFactory.buildProtocol(addr)
        return None if application is None else _Connecting(self, application)

    def terminating(self, transport: Any, application: Any) -> Any:
        """
        Make the transport of one connection; override to keep account of them.

        @param transport: the one below; used as it is, with its own policy,
            if it is an L{ITerminableTransport} already.
        """
        if not ITerminableTransport.providedBy(transport):
            return TerminatingTransport(transport, application, self.policy, self.clock)
        transport.protocol = application
        return transport


__all__ = ["TerminatingFactory", "TerminationMixin"]
