"""
Remote calls: AMP and Perspective Broker.

Attributes that are read, and why: C{_outstandingRequests} of AMP, which is private,
and C{waitingForAnswers} of PB, because nothing else says which questions are open.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Courteous


class Caller(Courteous):
    """
    In flight are questions of ours that the peer can still answer.  Neither of the
    two protocols counts the answers that it owes, so an application that answers by
    a Deferred calls C{transport.track}.  A drain waits for both, and closes; the
    protocols have no message to announce that.
    """

    def open(self) -> Any:
        """
        The questions that the peer has not answered yet.
        """
        raise NotImplementedError

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        return bool(self.open())

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        return super(Courteous, self).inFlight(transport) or (
            self.busy() and not (transport.peerDone or transport.disconnecting)
        )


class AMP(Caller):
    """
    C{twisted.protocols.amp}.
    """

    def open(self) -> Any:
        """
        See L{Caller.open}.
        """
        return self.protocol._outstandingRequests


class PB(Caller):
    """
    C{twisted.spread.pb}.
    """

    def open(self) -> Any:
        """
        See L{Caller.open}.
        """
        return self.protocol.waitingForAnswers


def registerAMP(amp: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.protocols.amp}.
    """
    registerAdapter(AMP, amp.AMP, IConversation)


def registerPB(pb: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.spread.pb}.
    """
    registerAdapter(PB, pb.Broker, IConversation)


__all__ = ["AMP", "PB", "Caller"]
