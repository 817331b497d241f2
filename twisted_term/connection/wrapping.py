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
from .gate import Gate
from .placing import Shown
from .report import Termination
from .transport import TerminatingTransport

if TYPE_CHECKING:
    from twisted.internet.protocol import BaseProtocol

    class _Protocol(BaseProtocol):
        """
        The protocol class that the mixin is used with.
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

    @cvar terminationPolicy: the limits; C{None} for those of the wrapping endpoint
        or factory, or else the defaults.
    """

    terminationPolicy: Optional[TerminationPolicy] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """
        @raise TypeError: for a class that names the mixin after its protocol, for
            a protocol for datagrams, and for a C{terminationPolicy} that is no
            L{TerminationPolicy}.
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

    @ivar makers: the factory that has built this gate, and the wrapping factories
        around that one.
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
            # Another gate is farther out, with a wrapper in between.
            if ITerminationListener.providedBy(application):
                lowest = bottom(transport)
                lowest.callWhenTerminated(partial(_tellEnd, application, lowest))
        for one in makers:
            if one.connected is not None:
                one.connected(transport)
        application.makeConnection(transport)

    def connectionMade(self) -> None:
        """
        Code that sets C{transport} itself, as Autobahn's endpoints do, calls this
        instead of C{makeConnection}.
        """
        self.makeConnection(self.application.transport)


def _tellEnd(application: Any, transport: Any, report: Termination) -> None:
    """
    Tell the application of the end, unless it has become the connection's protocol
    and is told as such.
    """
    if transport.protocol is not application:
        application.terminated(report)


_setMakers = Entrance.__dict__["makers"].__set__


class TerminatingFactory(WrappingFactory):
    """
    Wraps a factory, whose protocols need not know about it.  If that factory is a
    L{TerminatingFactory} already, this one only gives a policy where the inner one
    has none.

    @ivar connected: called with each L{ITerminableTransport} when the
        connection is made, so that a server can keep a list of its connections;
        or C{None}.
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
        @raise TypeError: if an argument is no factory, or no policy.
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
        # A drain asks the factory to end the connections that it knows.
        drainable = IDrainable(wrappedFactory, None)
        if drainable is not None:
            alsoProvides(self, IDrainable)
            self.drain = drainable.drain

    # Code that looks at a port's factory wants the application's factory.

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
        The C{protocol} of the wrapped factory.
        """
        return self.wrappedFactory.protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.wrappedFactory.protocol = protocol

    def logPrefix(self) -> str:
        """
        The prefix of the wrapped factory, so that the log reads as without this one.
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
        # The gate goes inside of TLS, so that the application sees the ends of TLS
        # and not those of TCP beneath it.
        tls.wrappedProtocol = self._gate(tls.wrappedProtocol)
        return built

    def _gate(self, application: Any) -> Entrance:
        if not issubclass(type(application), Entrance):
            return Entrance(application, self._makers)
        gate: Entrance = application
        gate.makers += self._makers
        return gate


#: The classes of the objects that may be around an application when it is built.
_AROUND = (ProtocolWrapper, Entrance)


def handOut(built: Any, maker: TerminatingFactory) -> Any:
    """
    The protocol that the factory wrapped by C{maker} has built, without the gate
    that C{maker} has added.
    """
    if issubclass(type(built), Entrance):
        return built.application
    inside: Any = getattr(built, "wrappedProtocol", None)
    if issubclass(type(inside), Entrance) and inside.makers[0] is maker:
        return Shown(built, inside.connection)
    return built


__all__ = ["Entrance", "TerminatingFactory", "TerminationMixin", "handOut"]
