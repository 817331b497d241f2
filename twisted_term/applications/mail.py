"""
The servers of C{twisted.mail}: SMTP, POP3 and IMAP.

Private attributes that are read, and why: C{_SMTP__inheader} and C{_from} of SMTP,
because nothing else says that a message was handed over; C{_oldTimeout} of IMAP,
because nothing else says that a message is being fetched.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Courteous


class SMTP(Courteous):
    """
    In flight is a message whose end has not come: it is received, and answered.

    After the end of a message nothing says whether the answer was sent.  A drain
    waits until the client sends another command, or for some seconds; a server that
    needs longer to deliver calls C{transport.track}.  Then the server says 421 (RFC
    5321, 3.8).
    """

    patience = 5.0

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        protocol = self.protocol
        if protocol.mode == "DATA":
            return True
        # A message has been handed over, and the next one has not begun.
        was = hasattr(protocol, "_SMTP__inheader")
        return was and protocol._from is None

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        ended = transport.peerDone or transport.disconnecting
        return self.expectsMore(transport) and not ended

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return bool(self.protocol.mode == "DATA")

    def goodbye(self) -> None:
        """
        See L{Courteous.goodbye}.
        """
        self.protocol.sendCode(421, self.protocol.host + b" Service not available")


class POP3(Courteous):
    """
    In flight is an answer that is being made.  POP3 has no word for goodbye.
    """

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        return self.protocol.blocked is not None


class IMAP4(Courteous):
    """
    In flight is an answer that is being made.  A drain says BYE (RFC 9051, 7.1.5).
    """

    def busy(self) -> bool:
        """
        See L{Courteous.busy}.
        """
        protocol = self.protocol
        # _oldTimeout is there from a FETCH to the end of its answer.
        return protocol.blocked is not None or hasattr(protocol, "_oldTimeout")

    def goodbye(self) -> None:
        """
        See L{Courteous.goodbye}.
        """
        self.protocol.sendUntaggedResponse(b"BYE Server is going down")


def registerSMTP(smtp: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.mail.smtp}.
    """
    registerAdapter(SMTP, smtp.SMTP, IConversation)


def registerPOP3(pop3: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.mail.pop3}.
    """
    registerAdapter(POP3, pop3.POP3, IConversation)


def registerIMAP4(imap4: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.mail.imap4}.
    """
    registerAdapter(IMAP4, imap4.IMAP4Server, IConversation)


__all__ = ["IMAP4", "POP3", "SMTP"]
