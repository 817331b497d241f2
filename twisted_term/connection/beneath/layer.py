"""
A layer between the connection and the ground, which passes everything on.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ...policy import TerminationPolicy
from ..report import Outcome
from .kernel import SendQueue


class Layer:
    """
    Passes the calls of the layer above on to the layer beneath, and the calls of the
    layer beneath on to the layer above.  A subclass overrides some of them.
    """

    _above: Any = None

    def __init__(self, lower: Any) -> None:
        """
        @param lower: the L{Beneath} under this layer.
        """
        self._lower = lower

    def attach(self, above: Any, plain: bool = False) -> None:
        self._above = above
        self._lower.attach(self)

    def detach(self) -> None:
        self._lower.detach()
        self._above = None
        del self._lower

    # What the layer above calls.

    @property
    def tellsFin(self) -> bool:
        return bool(self._lower.tellsFin)

    def watchHandshake(self) -> None:
        self._lower.watchHandshake()

    def reset(self) -> None:
        self._lower.reset()

    def discard(self, paused: bool) -> None:
        self._lower.discard(paused)

    def watchPeer(self) -> None:
        self._lower.watchPeer()

    def unread(self) -> bool:
        return bool(self._lower.unread())

    def queue(self, finSent: bool) -> Optional[SendQueue]:
        queue: Optional[SendQueue] = self._lower.queue(finSent)
        return queue

    def unacknowledged(self, finSent: bool) -> Optional[int]:
        count: Optional[int] = self._lower.unacknowledged(finSent)
        return count

    def unsent(self) -> int:
        return int(self._lower.unsent())

    def written(self, finSent: bool) -> Optional[int]:
        written: Optional[int] = self._lower.written(finSent)
        return written

    def hangsUp(self, owed: Optional[int]) -> bool:
        return bool(self._lower.hangsUp(owed))

    def stopped(self) -> bool:
        return bool(self._lower.stopped())

    def abandon(self) -> None:
        self._lower.abandon()

    def owed(self, count: int) -> int:
        return int(self._lower.owed(count))

    def judge(self, outcome: Outcome) -> Outcome:
        judged: Outcome = self._lower.judge(outcome)
        return judged

    # What the layer beneath calls.

    @property
    def clock(self) -> IReactorTime:
        clock: IReactorTime = self._above.clock
        return clock

    @property
    def policy(self) -> TerminationPolicy:
        policy: TerminationPolicy = self._above.policy
        return policy

    @property
    def discards(self) -> bool:
        return bool(self._above.discards)

    def peerFin(self) -> None:
        self._above.peerFin()

    def finSent(self) -> None:
        self._above.finSent()

    def closeAsked(self) -> None:
        self._above.closeAsked()

    def tlsFailed(self) -> None:
        self._above.tlsFailed()

    def handshakeExpired(self) -> None:
        self._above.handshakeExpired()

    def discarded(self, count: int) -> None:
        self._above.discarded(count)

    def losing(self, reason: Failure) -> Failure:
        found: Failure = self._above.losing(reason)
        return found

    def finished(self, reason: Failure) -> None:
        if self._above is not None:
            self._above.finished(reason)


__all__ = ["Layer"]
