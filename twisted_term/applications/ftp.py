"""
FTP: the control connection of C{twisted.protocols.ftp}.
"""

from __future__ import annotations

from types import ModuleType

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Courteous


class FTP(Courteous):
    """
    In flight is a command, a transfer on the other connection included.  A drain
    says 421 (RFC 959, 5.4).
    """

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        return bool(self.protocol.paused)  # from a command to its answer

    def goodbye(self) -> None:
        """
        See L{Courteous.goodbye}.
        """
        self.protocol.sendLine("421 Service not available, closing control connection.")


def register(ftp: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.protocols.ftp}.
    """
    registerAdapter(FTP, ftp.FTP, IConversation)


__all__ = ["FTP", "register"]
