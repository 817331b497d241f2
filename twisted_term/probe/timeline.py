"""
The time line: what happened on a connection, and when.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, Optional

#: Bytes at the start, and at the end, that are shown.
_FIRST, _LAST = 160, 60


@dataclass
class Moment:
    """
    Something that happened, perhaps many times in a row.

    @ivar seconds: since the start of the connection, when it began.
    @ivar until: and when it was last seen.
    @ivar count: bytes, if it is about bytes.
    @ivar server: what the kernel said of the server's side just behind it, when
        it was last seen.
    """

    seconds: float
    until: float
    what: str
    count: int
    server: str

    def isLike(self, what: str, server: str) -> bool:
        """
        Is it the same again, and the server's side in the same state?
        """
        states = (text.partition(",")[0] for text in (self.server, server))
        return self.what == what and len({*states}) == 1

    def line(self) -> str:
        """
        For people.
        """
        what = f"{self.what} {self.count} bytes" if self.count else self.what
        lasted = f" until {self.until:.3f}" if self.until > self.seconds + 0.001 else ""
        server = f"server: {self.server}" if self.server else ""
        return f"{self.seconds:8.3f} s  {what + lasted:<38}{server}".rstrip()


class Timeline:
    """
    The moments of one connection.

    @ivar watch: says how the server's side is; C{None} if nobody wants to know,
        for it takes some time to find out.
    """

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.watch: Optional[Callable[[], str]] = None
        self._started = time.monotonic()

    def add(self, what: str, count: int = 0) -> None:
        """
        It has happened just now.
        """
        now = time.monotonic() - self._started
        server = self.watch() if self.watch else ""
        last = self.moments[-1] if self.moments else None
        if last is not None and last.isLike(what, server):
            last.count += count
            last.until, last.server = now, server
        else:
            self.moments.append(Moment(now, now, what, count, server))

    def lines(self) -> list[str]:
        """
        For people.
        """
        return [moment.line() for moment in self.moments]


def excerpt(data: bytes) -> str:
    """
    The start and the end of it.
    """
    if len(data) <= _FIRST + _LAST:
        return repr(data)
    left = len(data) - _FIRST - _LAST
    return f"{data[:_FIRST]!r} ... {left} bytes ... {data[-_LAST:]!r}"


__all__ = ["Moment", "Timeline", "excerpt"]
