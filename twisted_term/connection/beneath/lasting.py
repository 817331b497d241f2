"""
Reading on after the reactor has stopped to watch a socket.

At the first error of a socket, mostly a reset, libuv stops to watch it
(C{uv__poll_io}, src/unix/poll.c), and uvloop calls the reader for the last time
(C{UVPoll._fatal_error}, uvloop/handles/poll.pyx).  If bytes came before the reset,
that call reads some of them, and the reset is never seen: bare Twisted keeps such a
connection for ever, and its protocol is never told.
"""

from __future__ import annotations

import select
import sys
from typing import Any, Callable, Optional

from ..replaced import eventLoop

_Read = Callable[[], Optional[Exception]]


def forgets(reactor: Any) -> bool:
    """
    Is it a reactor on uvloop?
    """
    uvloop: Any = sys.modules.get("uvloop")
    return uvloop is not None and isinstance(eventLoop(reactor), uvloop.Loop)


def lasting(transport: Any, doRead: _Read) -> _Read:
    """
    Make a C{doRead} for a reactor that L{forgets} sockets: after the connection has
    gone, it reads all that is left, and then the error.

    @param transport: the transport that reads.
    @param doRead: its C{doRead}, which reads once.
    """

    def read() -> Optional[Exception]:
        why = doRead()
        while why is None and _hasGone(transport.fileno()) and _reads(transport):
            why = doRead()
        return why

    return read


def _hasGone(descriptor: int) -> bool:
    if descriptor < 0:  # closed by who was told
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-up is told unasked, see poll(2)
    # From then on a read finds bytes, the error or the end, and never nothing: both
    # directions are shut (tcp_poll, net/ipv4/tcp.c; unix_poll, net/unix/af_unix.c).
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _reads(transport: Any) -> bool:
    # A transport that has paused is watched anew when it resumes.
    return transport in transport.reactor.getReaders()


__all__ = ["forgets", "lasting"]
