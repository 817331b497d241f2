"""
Saying how far a drain has come, in the log and to systemd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Optional

from twisted.logger import Logger

from .notify import notify
from .report import DrainReport

_log = Logger()
#: Microseconds that systemd is asked for while the drain makes progress.
_EXTENSION = 10_000_000


class Progress:
    """
    Tells of one drain.  Each value of a log event can be written as JSON.
    """

    _ended = 0

    def tell(
        self,
        transports: Iterable[Any],
        ended: int,
        listensFor: Optional[float],
        left: Optional[float],
    ) -> None:
        """
        Say how far it has come; once a second.  systemd is asked for more time
        while connections go on ending, and while C{readinessDelay} lasts.

        @param transports: the connections that are left.
        @param ended: how many have ended so far.
        @param listensFor: seconds until listening stops; C{None} if it has.
        @param left: seconds until what is left is reset; C{None} for no limit.
        """
        states = Counter(map(attrgetter("state"), transports))
        found = {state.value: n for state, n in states.items()}
        count = sum(found.values())
        if ended > self._ended or listensFor is not None:
            notify(EXTEND_TIMEOUT_USEC=_EXTENSION)
        self._ended = ended
        notify(STATUS=f"draining, {count} connections left")
        parts = [f"{n} {state}" for state, n in sorted(found.items())]
        if listensFor is not None:
            parts.append(f"listening for {listensFor:.0f} s more")
        elif left is not None:
            parts.append(f"{left:.0f} s left")
        _log.info(
            "draining, {count} connections left{details}",
            count=count,
            details="".join(f", {part}" for part in parts),
            states=found,
            seconds=left if listensFor is None else listensFor,
        )

    def expired(self, count: int, timeout: float) -> None:
        """
        C{drainTimeout} is reached.
        """
        _log.warn(
            "drainTimeout={timeout:g} is reached: {count} connections are reset",
            timeout=timeout,
            count=count,
        )

    def done(self, report: DrainReport) -> None:
        """
        The drain is over.
        """
        notify(STATUS=report)
        say = _log.warn if report.undelivered or report.left else _log.info
        say(
            "{report}",
            report=str(report),
            outcomes={outcome.name: n for outcome, n in report.outcomes.items()},
            undelivered=report.undelivered,
            bytesUnacknowledged=report.bytesUnacknowledged,
            left=report.left,
            seconds=report.seconds,
        )


__all__ = ["Progress"]
