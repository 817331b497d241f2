"""
How many connections are in which state, without asking every connection each time.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.interfaces import IReactorTime

from ..connection.report import State

#: The states of a connection that lives.
LIVE = (State.OPEN, State.FLUSHING, State.HALF_CLOSED, State.LINGERING)
#: Seconds for which the answer of a connection is used again.
_FRESH = 0.1


class States:
    """
    Some live connections, and how many of them are in which state.  Their number is
    exact.  Each connection is asked for its state when it is added, and after that at
    most ten times a second, however often the numbers are wanted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: dict[Any, State] = {}
        self._counts = dict.fromkeys(LIVE, 0)
        self._asked: Optional[float] = None

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, transport: object) -> bool:
        return transport in self._known

    def add(self, transport: Any) -> None:
        """
        A connection is made.

        @param transport: its L{twisted_term.ITerminableTransport}.
        """
        self._take(transport, transport.state)

    def discard(self, transport: Any) -> None:
        """
        A connection has ended; nothing of it is kept.
        """
        known = self._known.pop(transport, None)
        if known in self._counts:
            self._counts[known] -= 1

    def counts(self) -> dict[State, int]:
        """
        How many connections are in which state.  Closed connections whose protocols
        were not told yet are left out.
        """
        now = self._clock.seconds()
        # If the clock was set back, the answers count as old, too.
        if self._asked is None or not 0 <= now - self._asked < _FRESH:
            self._asked = now
            for transport, known in list(self._known.items()):
                if transport.state is not known:
                    self.discard(transport)
                    self._take(transport, transport.state)
        return dict(self._counts)

    def _take(self, transport: Any, state: State) -> None:
        self._known[transport] = state
        if state in self._counts:
            self._counts[state] += 1


__all__ = ["LIVE", "States"]
