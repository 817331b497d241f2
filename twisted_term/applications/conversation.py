"""
What can be said of a protocol that nobody knows.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.interfaces import ISystemHandle
from zope.interface import implementer

from ..interfaces import IConversation


def stands(producer: object) -> bool:
    """
    Does it stay registered for as long as it has the connection, to be told of
    back-pressure, and not because it has something to give?  twisted.web's
    channels do; a conversation says what is in flight on them.
    """
    return IConversation(producer, None) is not None


@implementer(IConversation)
class Conversation:
    """
    In flight is a registered producer.  The peer's FIN may be a half-close, and
    a drain closes.  The base of those who know more.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        producer = transport.producer
        if producer is None or stands(producer):
            return False
        if ISystemHandle.providedBy(producer):
            # A proxy registers one transport with another and leaves it there.
            # When that has ended nothing comes from it; and when the peer has
            # sent its FIN, each of the two would wait for the other.
            return not (transport.peerDone or getattr(producer, "disconnected", False))
        return True

    def peerFin(self, transport: Any) -> bool:
        """
        See L{IConversation.peerFin}.
        """
        return False

    def probe(self, transport: Any) -> bool:
        """
        See L{IConversation.probe}.
        """
        return False

    def drainBegins(self, transport: Any, seconds: Optional[float]) -> None:
        """
        See L{IConversation.drainBegins}.
        """

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """
        transport.loseConnection()


class Silent(Conversation):
    """
    Nothing is in flight, and nothing is said.
    """

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        return False


SILENT = Silent(None)

__all__ = ["SILENT", "Conversation", "Silent", "stands"]
