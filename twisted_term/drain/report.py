"""
How a drain went.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .._addresses import addressText
from ..connection.report import Outcome, Termination


@dataclass(frozen=True)
class DrainReport:
    """
    The report on a drain.  It counts the connections that were open when the drain
    began, or were accepted during it.

    @ivar outcomes: how many connections ended in which way.
    @ivar undelivered: how many did not deliver all bytes.
    @ivar bytesUnacknowledged: bytes written and not acknowledged, in all.
    @ivar seconds: seconds from the begin of the drain to its end.
    @ivar slowest: the peer whose connection ended last, and the seconds that took;
        C{None} if there was no connection.
    @ivar left: how many have not ended, although they were reset.  The drain
        does not wait for them.
    """

    outcomes: Mapping[Outcome, int]
    undelivered: int
    bytesUnacknowledged: int
    seconds: float
    slowest: Optional[tuple[Any, float]]
    left: int = 0

    def __str__(self) -> str:
        counts = [
            f"{count} {outcome.value}" for outcome, count in self.outcomes.items()
        ]
        parts = [
            f"drained {sum(self.outcomes.values())} connections"
            f" in {self.seconds:.3f} s",
            ", ".join(counts),
        ]
        if self.undelivered:
            parts.append(
                f"{self.undelivered} NOT delivered"
                f" ({self.bytesUnacknowledged} bytes unacknowledged)"
            )
        if self.left:
            parts.append(f"{self.left} did NOT end, although they were reset")
        if self.slowest is not None:
            peer, seconds = self.slowest
            parts.append(f"slowest {addressText(peer)} {seconds:.3f} s")
        return "; ".join(part for part in parts if part)


class Tally:
    """
    Counts terminations, for a L{DrainReport}.

    @ivar ended: how many connections were counted.
    """

    ended = 0
    _undelivered = 0
    _bytes = 0
    _last: Optional[tuple[Any, float]] = None

    def __init__(self, start: float) -> None:
        self._start = start
        self._outcomes: dict[Outcome, int] = {}

    def add(self, transport: Any, report: Termination, now: float) -> None:
        """
        Count one connection that has ended now.
        """
        self.ended += 1
        self._outcomes[report.outcome] = self._outcomes.get(report.outcome, 0) + 1
        self._undelivered += report.delivered is False
        self._bytes += report.bytesUnacknowledged or 0
        self._last = transport, now

    def report(self, left: int, now: float) -> DrainReport:
        """
        Make the report on the connections that were counted.

        @param left: how many have not ended.
        """
        slowest = None
        if self._last is not None:
            transport, ended = self._last
            slowest = transport.getPeer(), ended - self._start
        return DrainReport(
            outcomes=dict(self._outcomes),
            undelivered=self._undelivered,
            bytesUnacknowledged=self._bytes,
            seconds=now - self._start,
            slowest=slowest,
            left=left,
        )


__all__ = ["DrainReport", "Tally"]
