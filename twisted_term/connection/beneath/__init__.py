"""
What lies beneath a connection.

There are two kinds of ground: a L{Descriptor}, which
tells of the peer's FIN and can half-close, and an L{Opaque} one,
which can do neither.  L{TLS<twisted_term.connection.beneath.tls.TLS>} stands on
either, or on another TLS::

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

Nothing above asks what it is.
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
    What stands above, and is told.

    @ivar clock: for the timers.
    @ivar policy: the limits.
    """

    clock: IReactorTime
    policy: TerminationPolicy

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
        Somebody between us and the ground has asked for the end.
        """

    def tlsFailed(self) -> None:
        """
        Nothing can be sent any more, but for what is said in parting.
        """

    def handshakeExpired(self) -> None:
        """
        TLS has taken too long to begin.
        """

    def discarded(self, count: int) -> None:
        """
        So many bytes have arrived, and were dropped.
        """

    def losing(self, reason: Failure) -> Failure:
        """
        The connection is about to be lost; the kernel can still be asked.

        @return: the reason that is told.
        """

    def finished(self, reason: Failure) -> None:
        """
        It is lost.  Called at the latest when all others have been told.
        """


class Beneath(Protocol):
    """
    What lies beneath, as a connection sees it.

    @ivar tellsFin: does it tell of the peer's FIN, and can it half-close?
        Where it cannot, its own flush and close is all there is.
    @ivar clock: the reactor that serves it; C{None} where it has none.
    """

    @property
    def tellsFin(self) -> bool: ...

    @property
    def clock(self) -> Any: ...

    def attach(self, above: Any, plain: bool = False) -> None:
        """
        Tell C{above} from now on.

        @param plain: the gate is the protocol of the ground: nothing stands in
            between.
        """

    def standsOn(self, transport: Any) -> bool:
        """
        Is it this object whose C{loseConnection} tells C{above}?
        """

    def halfClose(self, reading: bool, now: bool = False) -> None:
        """
        FIN, or what stands for it, behind all that was written.

        @param reading: the application goes on reading.
        @param now: in this turn, if the kernel takes what is buffered.
        """

    def close(self, bothDone: bool = False) -> None:
        """
        Both directions have ended, or the other one is given up.

        @param bothDone: it is the former, so that nothing has to be shut down.
        """

    def letGo(self) -> None:
        """
        Close our descriptor, and send nothing: somebody else has a duplicate.
        """

    def drop(self) -> None:
        """
        Close, and drop what this process has not sent.  What the kernel has
        goes out as it can.
        """

    def reset(self) -> None:
        """
        Send RST where that can be done, and deliver nothing more.
        """

    def discard(self, paused: bool) -> None:
        """
        Go on reading, for nobody.

        @param paused: the application has paused reading.
        """

    def skip(self, small: bool) -> None:
        """
        Something has arrived for nobody, and more may: let it be read without
        a copy, if that can be done.

        @param small: no more at once than before, for the sake of a limit.
        """

    def watchPeer(self) -> None:
        """
        The peer is done, and we are not: let the kernel find out if it goes.
        """

    def unread(self) -> bool:
        """
        Has something arrived that nobody has read yet?
        """

    def queue(self, finSent: bool) -> Optional[SendQueue]:
        """
        What the kernel knows of what was sent; C{None} where it cannot say.
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
        Bytes that were written in all, those that are still in this process
        included; C{None} where the kernel cannot say.
        """

    def hangsUp(self, owed: Optional[int]) -> bool:
        """
        May a loss be no more than the peer's close?

        @param owed: bytes unacknowledged, as far as known.
        """

    def stopped(self) -> bool:
        """
        Has the reactor stopped, which closes all that is open?
        """

    def abandon(self) -> None:
        """
        End our side: the connection is no more, and nobody has told.
        """

    def owed(self, count: int) -> int:
        """
        How many of so many bytes are the application's.
        """

    def judge(self, outcome: Outcome) -> Outcome:
        """
        What the layers here make of the way in which the ground has ended.
        """

    def closeNotify(self) -> tuple[Optional[bool], Optional[bool]]:
        """
        Was TLS's close_notify sent, and received?  C{None} without TLS.
        """

    def detach(self) -> None:
        """
        The connection has ended: give all that was replaced back.
        """


def bottom(transport: Any) -> Any:
    """
    What lies beneath the wrappers around a transport, TLS among them, or
    around a L{TerminatingTransport}.
    """
    while issubclass(type(transport), ProtocolWrapper):
        transport = transport.transport
    return transport


def isTLS(wrapper: object) -> bool:
    """
    Is it Twisted's TLS?  If a TLS protocol exists, its module is already
    imported; nobody else has to import it.
    """
    module = sys.modules.get("twisted.protocols.tls")
    return module is not None and issubclass(type(wrapper), module.TLSMemoryBIOProtocol)


def innermostTLS(protocol: Any) -> Any:
    """
    The last TLS among the wrappers around a protocol, or C{None}.
    """
    found = None
    while issubclass(type(protocol), ProtocolWrapper):
        if isTLS(protocol):
            found = protocol
        protocol = protocol.wrappedProtocol
    return found


def ground(transport: Any) -> Beneath:
    """
    What lies beneath, without TLS.
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
    Take hold of each TLS among the wrappers from C{wrapped} down to the ground.
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
    changed its root, or whose installed files have been replaced, finds
    nothing any more.  Who has no TLS still imports none.
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
