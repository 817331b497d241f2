"""
SSH: C{twisted.conch}.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Courteous

#: RFC 4253, 11.1: "by application".
_BY_APPLICATION = 11


class SSH(Courteous):
    """
    In flight is a registered producer.

    The peer's FIN means that the peer has gone, because in SSH one direction of a
    channel can end (RFC 4254, 5.3), but not one direction of the connection.  A drain
    gives the channels (commands and shells) some seconds to close, and then sends
    SSH_MSG_DISCONNECT (RFC 4253, 11.1).
    """

    patience = 5.0

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        return bool(getattr(self.protocol.service, "channels", None))

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        return super(Courteous, self).inFlight(transport)

    def peerFin(self, transport: Any) -> bool:
        """
        See L{IConversation.peerFin}.
        """
        return True

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return True  # a peer may send any message at any time

    def goodbye(self) -> None:
        """
        See L{Courteous.goodbye}.
        """
        self.protocol.sendDisconnect(_BY_APPLICATION, b"the server is going down")


def register(transport: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.conch.ssh.transport}.
    """
    registerAdapter(SSH, transport.SSHTransportBase, IConversation)


__all__ = ["SSH", "register"]
