"""
Which cases are played over which protocol.  What needs a library is imported
only when it is asked for.
"""

from __future__ import annotations

from . import http1
from .cases import Case
from .targets import Target

_NEEDS = 'needs more libraries: pip install "twisted_term[probe]"'


def casesOf(target: Target) -> tuple[Case, ...]:
    """
    The first one is the polite one.

    @raise ValueError: if a library is missing.
    """
    try:
        if target.protocol == "HTTP/2":
            from . import http2

            return http2.CASES
        if target.protocol == "WebSocket":
            from . import websocket

            return websocket.CASES
    except ImportError as error:
        raise ValueError(
            f"{target.text!r}: {error.name} is missing; {_NEEDS}"
        ) from None
    return http1.CASES


__all__ = ["casesOf"]
