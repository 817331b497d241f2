"""
What all grounds have in common: the answers of a layer without TLS.
"""

from __future__ import annotations

from typing import Any, Optional

from ..report import Outcome


class Lowest:
    """
    The base of the two kinds of ground.
    """

    __slots__ = ("_above", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._above: Any = None

    @property
    def clock(self) -> Any:
        return getattr(self._transport, "reactor", None)

    def watchHandshake(self) -> None:
        pass

    def owed(self, count: int) -> int:
        return count

    def judge(self, outcome: Outcome) -> Outcome:
        return outcome

    def closeNotify(self) -> tuple[Optional[bool], Optional[bool]]:
        return None, None


__all__ = ["Lowest"]
