"""
Relays: C{twisted.protocols.portforward} and SOCKS.  A connection is one of two
legs, and what is in flight on it comes from the other.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Optional

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Conversation


class Leg(Conversation):
    """
    In flight is what the other leg may still bring, until that leg has ended or its
    peer has sent FIN.

    The peer's FIN is passed on, as a half-close.  A drain waits until one of the
    two peers ends, because a relay does not know the protocol that they speak.
    """

    def other(self) -> Any:
        """
        The transport of the other leg, or C{None}.
        """
        raise NotImplementedError

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        other = self.other()
        if other is None or transport.disconnecting:
            return False
        return not (
            getattr(other, "disconnected", False) or getattr(other, "peerDone", False)
        )

    def peerFin(self, transport: Any) -> bool:
        """
        See L{IConversation.peerFin}.
        """
        other = self.other()
        halfCloses = IHalfCloseableDescriptor.providedBy(other)
        if halfCloses:
            # A transport that has paused its producer would wait for more.
            other.unregisterProducer()
            other.loseWriteConnection()
        return False

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return True  # a relay does not know the peers' protocol

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """


def _transport(leg: Any) -> Optional[Any]:
    return None if leg is None else leg.transport


class Forwarded(Leg):
    """
    A leg of C{portforward}.
    """

    def other(self) -> Any:
        """
        See L{Leg.other}.
        """
        return _transport(self.protocol.peer)


class Incoming(Leg):
    """
    The leg to a SOCKS client.
    """

    def other(self) -> Any:
        """
        See L{Leg.other}.
        """
        return _transport(self.protocol.otherConn)


class Outgoing(Leg):
    """
    The leg from a SOCKS server to where its client wanted to go.
    """

    def other(self) -> Any:
        """
        See L{Leg.other}.
        """
        return _transport(self.protocol.socks)


def registerForward(portforward: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.protocols.portforward}.
    """
    registerAdapter(Forwarded, portforward.Proxy, IConversation)


def registerSOCKS(socks: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.protocols.socks}.
    """
    registerAdapter(Incoming, socks.SOCKSv4, IConversation)
    for leg in (socks.SOCKSv4Outgoing, socks.SOCKSv4Incoming):
        registerAdapter(Outgoing, leg, IConversation)


__all__ = ["Forwarded", "Incoming", "Leg", "Outgoing"]
