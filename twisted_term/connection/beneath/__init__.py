"""
What lies beneath a connection.

The lowest layer (the ground) is of one of two kinds: a L{Descriptor}, which tells of
the peer's FIN and can half-close, or an L{Opaque}, which can do neither.
L{TLS<twisted_term.connection.beneath.tls.TLS>} is a layer above one of these, or
above another TLS::

        what asks         Connection
                              |   ^
       halfClose, close,      |   |     peerFin, finSent, peerClosed,
       reset, discard ...     v   |     losing, failed ...
                             [TLS] ...
                              |   ^
                              v   |
                   Descriptor  or  Opaque
                              |   ^
                              v   |
                  Twisted's transport, and the kernel

The connection does not ask which layers there are.
"""

from __future__ import annotations

import sys
from typing import Any, Optional, Protocol

from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from ... import applications
from ...policy import TerminationPolicy
from ..report import Outcome
from .descriptor import Descriptor
from .kernel import SendQueue
from .opaque import Opaque


class Above(Protocol):
    """
    The layer above, which the layer beneath calls.

    @ivar clock: for the timers.
    @ivar policy: the limits.
    @ivar discards: is what arrives dropped?
    """

    clock: IReactorTime
    policy: TerminationPolicy

    @property
    def discards(self) -> bool: ...

    def peerFin(self) -> None:
        """
        The peer has ended its direction.
        """

    def finSent(self) -> None:
        """
        Our FIN is out.
        """

    def closeAsked(self) -> None:
        """
        A wrapper between the connection and the ground has asked for the end.
        """

    def tlsFailed(self) -> None:
        """
        TLS has failed: nothing can be sent any more but the alert that says why.
        """

    def handshakeExpired(self) -> None:
        """
        The handshake of TLS has taken too long.
        """

    def discarded(self, count: int) -> None:
        """
        C{count} bytes have arrived, and were dropped.
        """

    def losing(self, reason: Failure) -> Failure:
        """
        The connection is about to be lost; the kernel can still be asked.

        @return: the reason that the application is given.
        """

    def finished(self, reason: Failure) -> None:
        """
        The connection is lost.  This is called at the latest when all others have
        been told.
        """


class Beneath(Protocol):
    """
    The layers beneath, as a connection sees them.

    @ivar tellsFin: does it tell of the peer's FIN, and can it half-close?
        Where it cannot, the connection can only let it flush and close.
    @ivar clock: the reactor that serves the transport; C{None} where it has none.
    """

    @property
    def tellsFin(self) -> bool: ...

    @property
    def clock(self) -> Any: ...

    def attach(self, above: Any, plain: bool = False) -> None:
        """
        Call C{above} from now on.

        @param plain: the gate is the protocol of the ground, with nothing in between.
        """

    def watchHandshake(self) -> None:
        """
        Bound the time of the handshake, if there is one, from now on.
        """

    def standsOn(self, transport: Any) -> bool:
        """
        Does C{loseConnection} of C{transport} tell C{above} already?
        """

    def halfClose(self, reading: bool, now: bool = False) -> None:
        """
        Send FIN, or what takes its place, behind all that was written.

        @param reading: the application goes on reading.
        @param now: send it in this turn, if the kernel takes what is buffered.
        """

    def close(self, bothDone: bool = False) -> None:
        """
        Close, because both directions have ended, or because the peer's is given up.

        @param bothDone: both have ended, so that nothing has to be shut down.
        """

    def letGo(self) -> None:
        """
        Close our descriptor, and send nothing: the application has a duplicate.
        """

    def drop(self) -> None:
        """
        Close, and drop what this process has not sent.  The kernel goes on sending
        what it already has.
        """

    def reset(self) -> None:
        """
        Send RST where that is possible, and deliver nothing more.
        """

    def discard(self, paused: bool) -> None:
        """
        Go on reading, and drop what arrives.

        @param paused: the application has paused reading.
        """

    def skip(self, small: bool) -> None:
        """
        Bytes have arrived and were dropped, and more may come: from now on, read them
        without a copy, if that is possible.

        @param small: read no more at once than before, because C{lingerBytes} limits
            what may arrive.
        """

    def watchPeer(self) -> None:
        """
        The peer has sent FIN, and we have not: let the kernel find out if it goes away.
        """

    def unread(self) -> bool:
        """
        Has the kernel received bytes that were not read yet?
        """

    def queue(self, finSent: bool) -> Optional[SendQueue]:
        """
        The kernel's account of what was sent; C{None} where it cannot say.
        """

    def unacknowledged(self, finSent: bool) -> Optional[int]:
        """
        Bytes that the kernel has, and the peer's TCP has not acknowledged;
        C{None} where it cannot say.
        """

    def unsent(self) -> int:
        """
        Bytes that were written and are still in this process.
        """

    def written(self, finSent: bool) -> Optional[int]:
        """
        Bytes that were written in all, including those that are still in this
        process; C{None} where the kernel cannot say.
        """

    def hangsUp(self, owed: Optional[int]) -> bool:
        """
        Does a loss of the connection look like an ordinary close of the peer's?

        @param owed: bytes unacknowledged, as far as known.
        """

    def stopped(self) -> bool:
        """
        Has the reactor stopped, which closes all that is open?
        """

    def abandon(self) -> None:
        """
        End our side: the connection has gone, but no event has said so.
        """

    def owed(self, count: int) -> int:
        """
        How many of C{count} unacknowledged bytes are the application's.
        """

    def judge(self, outcome: Outcome) -> Outcome:
        """
        Turn the outcome of the ground into the outcome of the connection.
        """

    def closeNotify(self) -> tuple[Optional[bool], Optional[bool]]:
        """
        Was TLS's close_notify sent, and received?  C{None} without TLS.
        """

    def detach(self) -> None:
        """
        The connection has ended: undo all that was replaced.
        """


def bottom(transport: Any) -> Any:
    """
    The transport beneath all wrappers (TLS is one).  It may be a
    L{TerminatingTransport}.
    """
    while issubclass(type(transport), ProtocolWrapper):
        transport = transport.transport
    return transport


def isTLS(wrapper: object) -> bool:
    """
    Is it Twisted's TLS?  If a TLS protocol exists, its module is already
    imported, so this function need not import it.
    """
    module = sys.modules.get("twisted.protocols.tls")
    return module is not None and issubclass(type(wrapper), module.TLSMemoryBIOProtocol)


def innermostTLS(protocol: Any) -> Any:
    """
    The innermost TLS among the wrappers around a protocol, or C{None}.
    """
    found = None
    while issubclass(type(protocol), ProtocolWrapper):
        if isTLS(protocol):
            found = protocol
        protocol = protocol.wrappedProtocol
    return found


def ground(transport: Any) -> Beneath:
    """
    The ground beneath a transport.
    """
    lowest = transport
    if issubclass(type(transport), ProtocolWrapper):
        lowest = bottom(transport)
    # A third party's proxy provides what its transport does, but nobody calls what
    # is replaced on it.
    tells = IHalfCloseableDescriptor.implementedBy(type(lowest))
    return Descriptor(lowest) if tells else Opaque(lowest)


def overTLS(below: Beneath, wrapped: Any) -> Beneath:
    """
    Add a layer for each TLS among the wrappers from C{wrapped} down to the ground.
    """
    found = []
    while issubclass(type(wrapped), ProtocolWrapper):
        if isTLS(wrapped):
            found.append(wrapped)
        wrapped = wrapped.transport
    for tls in reversed(found):
        below = _tls().TLS(tls, below)
    return below


def _tls() -> Any:
    from . import tls

    return tls


def prepare() -> None:
    """
    Import what a connection may need, before there is one: a process that has
    changed its root, or whose installed files have been replaced, can import
    nothing any more.  TLS is imported only if the program has imported it.
    """
    if "twisted.protocols.tls" in sys.modules:
        _tls()
    applications.prepare()


__all__ = [
    "Above",
    "Beneath",
    "bottom",
    "ground",
    "innermostTLS",
    "isTLS",
    "overTLS",
    "prepare",
]
