"""
Which cases are played over which protocol.
"""

from __future__ import annotations

from . import http1
from .cases import Case
from .targets import Target


def casesOf(target: Target) -> tuple[Case, ...]:
    """
    The first one is the polite one.

    @raise ValueError: if there is none.
    """
    if target.protocol in ("HTTP/2", "WebSocket"):
        raise ValueError(f"{target.text!r}: {target.protocol} is not supported")
    return http1.CASES


__all__ = ["casesOf"]
