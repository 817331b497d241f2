"""
Discarding what arrives, without copying it.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Callable, Optional

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from .kernel import isTCP

# On Linux "the received bytes of data to be discarded, rather than passed back
# in a caller-supplied buffer" (tcp(7), MSG_TRUNC): nothing touches this memory,
# and all connections may name it.  Elsewhere the flag has another meaning.
_LINUX = sys.platform.startswith("linux")
_NOWHERE = bytearray(1 << 20)


def discarding(
    below: Any, arrived: Callable[[int], object], small: bool
) -> Optional[Callable[[], Optional[Exception]]]:
    """
    Make a C{doRead} that discards, for a plain TCP transport on Linux.

    @param below: the transport whose C{doRead} the reactor calls.
    @param arrived: called with the number of bytes of each read.
    @param small: read no more at once than the transport does, because of
        C{lingerBytes}; and up to 1 MiB otherwise.
    @return: C{None} for any other transport, which delivers as before.
    """
    skt: Any = getattr(below, "socket", None)
    if not _LINUX or not isTCP(skt):
        return None
    size = min(below.bufferSize, len(_NOWHERE)) if small else len(_NOWHERE)

    def doRead() -> Optional[Exception]:
        try:
            count = skt.recv_into(_NOWHERE, size, socket.MSG_TRUNC)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        arrived(count)
        return None

    return doRead


__all__ = ["discarding"]
