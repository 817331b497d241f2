"""
Putting a L{TerminatingTransport} before a protocol: by mixin or by factory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, cast

from twisted.internet.interfaces import IProtocolNegotiationFactory, IReactorTime
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import alsoProvides, implementer

from .._checks import checkFactory, checkMixin, checkPolicy
from .._types import ProtocolFactory
from ..interfaces import IDrainable, ITerminableTransport, ITerminationListener
from ..policy import TerminationPolicy
from .beneath import bottom, innermostTLS, prepare
from .gate import Gate, Shown
from .report import Termination
from .transport import TerminatingTransport

if TYPE_CHECKING:
    from twisted.internet.protocol import BaseProtocol

    class _Protocol(BaseProtocol):
        """
        The protocol behind the mixin, whichever it is.
        """

        transport: TerminatingTransport

else:
    _Protocol = object


@implementer(ITerminationListener)
class TerminationMixin(_Protocol):
    """
    Mix it in before a protocol class, C{class Echo(TerminationMixin,
    LineReceiver)}, and C{self.transport} is an L{ITerminableTransport}, on
    any plain Twisted server or client.

    @cvar terminationPolicy: the limits; C{None} for those of the endpoint or
        factory around, or else the defaults.
    """

    terminationPolicy: Optional[TerminationPolicy] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """
        @raise TypeError: for a class that has the mixin behind its protocol, or
            that is for datagrams, and for a C{terminationPolicy} that is none.
        """
        super().__init_subclass__(**options)
        checkMixin(cls, TerminationMixin)
        prepare()

    def makeConnection(self, transport: Any) -> None:
        """
        Connect, through a L{TerminatingTransport} unless it is one already.
        """
        if not ITerminableTransport.providedBy(transport):
            transport = TerminatingTransport(transport, self, self.terminationPolicy)
        elif self.terminationPolicy is not None:
            bottom(transport).policy = self.terminationPolicy
        super().makeConnection(transport)

    def terminated(self, report: Termination) -> None:
        """
        Override to learn how the connection ended; called once, after
        C{connectionLost}.
        """


class Entrance(Gate):
    """
    The gate that a L{TerminatingFactory} builds, before the connection is
    made.

    @ivar makers: the factory that has built it, and those farther out.
    """

    __slots__ = ("makers",)

    makers: tuple[TerminatingFactory, ...]

    def __init__(
        self, application: Any, makers: tuple[TerminatingFactory, ...]
    ) -> None:
        Gate.__init__(self, application)
        _setMakers(self, makers)

    def builder(self) -> Any:
        """
        See L{Gate.builder}.
        """
        return self.makers[-1].wrappedFactory

    def makeConnection(self, transport: Any) -> None:
        """
        Connect, through a L{TerminatingTransport} unless it is one already.
        """
        application, makers = self._subject, self.makers
        if not ITerminableTransport.providedBy(transport):
            policy = None
            for one in makers:
                policy = policy or one.policy
            transport = TerminatingTransport(
                transport, application, policy, makers[0].clock, self
            )
        else:
            # Another one stands farther out, with a wrapper in between.
            if ITerminationListener.providedBy(application):
                lowest = bottom(transport)
                lowest.callWhenTerminated(partial(_tellEnd, application, lowest))
        for one in makers:
            if one.connected is not None:
                one.connected(transport)
        application.makeConnection(transport)

    def connectionMade(self) -> None:
        """
        Called instead of C{makeConnection} by those who set C{transport}
        themselves, as Autobahn's endpoints do.
        """
        self.makeConnection(self.application.transport)


def _tellEnd(application: Any, transport: Any, report: Termination) -> None:
    """
    Tell it of the end, unless it has become the protocol that is told anyway.
    """
    if transport.protocol is not application:
        application.terminated(report)


_setMakers = Entrance.__dict__["makers"].__set__


class TerminatingFactory(WrappingFactory):
    """
    Wraps a factory, whose protocols need know nothing of it.  Around one that
    is wrapped already, it only gives the policy that the other leaves open.

    @ivar connected: called with each L{ITerminableTransport} when the
        connection is made, to keep account; C{None} if nobody does.
    """

    connected: Optional[Callable[[Any], object]] = None

    def __init__(
        self,
        wrappedFactory: ProtocolFactory,
        policy: Optional[TerminationPolicy] = None,
        clock: Optional[IReactorTime] = None,
    ) -> None:
        """
        @param policy: the limits; C{None} for those of a wrapping endpoint
            or factory, or else the defaults.
        @param clock: for the timers; C{None} for the transport's reactor.
        @raise TypeError: for what is no factory, or no policy.
        """
        checkFactory(wrappedFactory, "wrappedFactory")
        checkPolicy(policy)
        super().__init__(cast(Any, wrappedFactory))
        prepare()
        self.noisy = getattr(wrappedFactory, "noisy", True)
        self.policy = policy
        self.clock = clock
        self._makers = (self,)
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

    # Whoever looks at a port's factory means the application's.

    def __getattr__(self, name: str) -> Any:
        if name == "wrappedFactory":  # it is not there yet
            raise AttributeError(name)
        return getattr(self.wrappedFactory, name)

    # isinstance() asks for the class of this one first, and then for this.
    @property
    def __class__(self) -> type:
        """
        The wrapped factory's.
        """
        return self.wrappedFactory.__class__

    @__class__.setter
    def __class__(self, made: type) -> None:
        self.wrappedFactory.__class__ = made

    @property
    def protocol(self) -> Any:
        """
        The wrapped factory's.
        """
        return self.wrappedFactory.protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.wrappedFactory.protocol = protocol

    def logPrefix(self) -> str:
        """
        The wrapped factory's: the log is not to know of this one.
        """
        factory = self.wrappedFactory
        prefix = getattr(factory, "logPrefix", None)
        return prefix() if prefix is not None else type(factory).__name__

    def buildProtocol(self, addr: Any) -> Any:
        built: Any = self.wrappedFactory.buildProtocol(addr)
        if built is None:
            return None
        if not issubclass(type(built), _AROUND):
            return Entrance(built, self._makers)
        tls = innermostTLS(built)
        if tls is None:
            return self._gate(built)
        # The application is to see the ends of TLS, not those beneath it.
        tls.wrappedProtocol = self._gate(tls.wrappedProtocol)
        return built

    def _gate(self, application: Any) -> Entrance:
        if not issubclass(type(application), Entrance):
            return Entrance(application, self._makers)
        gate: Entrance = application
        gate.makers += self._makers
        return gate


#: What may be around an application when it is built.
_AROUND = (ProtocolWrapper, Entrance)


def handOut(built: Any, maker: TerminatingFactory) -> Any:
    """
    What the factory wrapped by C{maker} has built, as it was before that one's
    gate came in.
    """
    if issubclass(type(built), Entrance):
        return built.application
    inside: Any = getattr(built, "wrappedProtocol", None)
    if issubclass(type(inside), Entrance) and inside.makers[0] is maker:
        return Shown(built, inside.connection)
    return built


__all__ = ["Entrance", "TerminatingFactory", "TerminationMixin", "handOut"]
