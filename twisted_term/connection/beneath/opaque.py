"""
An opaque transport beneath: a Conch channel, a C{StringTransport}, and any other
transport that is no C{IHalfCloseableDescriptor}.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ..replaced import unsentBytes
from .kernel import SendQueue
from .lowest import Lowest


class Opaque(Lowest):
    """
    A lowest transport that can only close, and tell when it has closed.
    """

    __slots__ = ("_later",)

    tellsFin = False

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._later: Optional[IDelayedCall] = None

    def attach(self, above: Any, plain: bool = False) -> None:
        self._above = above

    def standsOn(self, transport: Any) -> bool:
        return False

    def halfClose(self, reading: bool, now: bool = False) -> None:
        # It has no FIN.  Its loseConnection flushes and closes.
        self._transport.loseConnection()

    def close(self, bothDone: bool = False) -> None:
        self._transport.loseConnection()

    drop = letGo = close

    def reset(self) -> None:
        abort = getattr(self._transport, "abortConnection", None)
        if abort is not None:
            abort()
            return
        # Its loseConnection may wait for a peer that never reads.
        self._later = self._above.clock.callLater(
            0, self._finish, Failure(ConnectionAborted())
        )
        self._transport.loseConnection()

    def _finish(self, reason: Failure) -> None:
        self._later = None
        self._above.finished(reason)

    def discard(self, paused: bool) -> None:
        pass  # it cannot be told to go on reading

    def skip(self, small: bool) -> None:
        pass

    def watchPeer(self) -> None:
        pass  # it never tells of the peer's FIN

    def unread(self) -> bool:
        return False

    def queue(self, finSent: bool) -> Optional[SendQueue]:
        return None

    def unacknowledged(self, finSent: bool) -> Optional[int]:
        return None

    def unsent(self) -> int:
        return unsentBytes(self._transport)

    def written(self, finSent: bool) -> Optional[int]:
        return None

    def hangsUp(self, owed: Optional[int]) -> bool:
        return False

    def stopped(self) -> bool:
        return False

    def abandon(self) -> None:
        self._above.finished(Failure(ConnectionLost()))

    def detach(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
        self._above = None


__all__ = ["Opaque"]
