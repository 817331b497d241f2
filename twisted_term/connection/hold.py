"""
The work in flight that an application counts itself.  The modules of
L{twisted_term.applications} know other work in flight.
"""

from __future__ import annotations

from typing import Optional, Protocol

from zope.interface import implementer

from ..interfaces import IHold


class Held(Protocol):
    """
    What a L{Hold} needs of the transport that it keeps alive.
    """

    def released(self) -> None: ...


@implementer(IHold)
class Hold:
    """
    One count of the work in flight on a connection.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Optional[Held]) -> None:
        self._transport = transport

    def release(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.released()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


__all__ = ["Held", "Hold"]
