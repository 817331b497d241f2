"""
What is the same of all grounds: there is no TLS in them.
"""

from __future__ import annotations

from typing import Any, Optional

from ..report import Outcome


class Lowest:
    """
    A lowest transport.
    """

    __slots__ = ("_above", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._above: Any = None

    @property
    def clock(self) -> Any:
        return getattr(self._transport, "reactor", None)

    def owed(self, count: int) -> int:
        return count

    def judge(self, outcome: Outcome) -> Outcome:
        return outcome

    def closeNotify(self) -> tuple[Optional[bool], Optional[bool]]:
        return None, None


__all__ = ["Lowest"]
