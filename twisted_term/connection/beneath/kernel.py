"""
What the kernel knows of a connection.
"""

from __future__ import annotations

import _socket
import contextlib
import ctypes
import os
import socket
import struct
import sys
from typing import Any, NamedTuple, Optional

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ as SIOCOUTQ  # the same number, see tcp(7)
except ImportError:  # pragma: no cover - Windows
    ioctl = None  # type: ignore[assignment]

_LINUX = sys.platform.startswith("linux")
_TCP_CLOSE = 7  # include/net/tcp_states.h
# struct tcp_info, include/uapi/linux/tcp.h: tcpi_state is its first byte,
# tcpi_bytes_acked (Linux 4.1) the u64 at 120.
_BYTES_ACKED_END = 128
_BYTES_ACKED = struct.Struct("=Q")
_LINGER_ZERO = struct.pack("ii", 1, 0)
_KEEP_ALIVE = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 60))
# Python's own property makes an enum member each time, which takes ten times as long.
_familyOf: Any = vars(_socket.socket)["family"].__get__
_typeOf: Any = vars(_socket.socket)["type"].__get__
_STREAM = int(socket.SOCK_STREAM)
_INTERNET = (int(socket.AF_INET), int(socket.AF_INET6))
_libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None


class SendQueue(NamedTuple):
    """
    @ivar unacknowledged: bytes sent and not acknowledged by the peer's TCP.
    @ivar acknowledged: a number that grows as bytes are acknowledged.
    @ivar gone: the kernel has given the connection up (RST, timeout, or the
        last ACK of an orderly close).
    """

    unacknowledged: int
    acknowledged: int
    gone: bool


def unacknowledged(skt: object, finSent: bool) -> Optional[int]:
    """
    Ask the kernel how many bytes are sent and not acknowledged; C{None} where
    it cannot say (not on Linux, not a TCP socket, or a closed one).

    @param finSent: our FIN is queued; it counts as one byte in C{SIOCOUTQ}
        (C{tcp_ioctl}, net/ipv4/tcp.c: C{write_seq - snd_una}).
    """
    queued = _queued(skt)
    return queued - 1 if finSent and queued else queued


def _queued(skt: object) -> Optional[int]:
    if not _LINUX or not isinstance(skt, socket.socket):
        return None
    try:
        found = ioctl(skt.fileno(), SIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):  # ValueError: closed, or detached
        return None
    return int.from_bytes(found, sys.byteorder, signed=True)


def sendQueue(skt: object, finSent: bool) -> Optional[SendQueue]:
    """
    Ask the kernel for more than L{unacknowledged}; C{None} where it cannot say.
    """
    queued = _queued(skt)
    if queued is None:
        return None
    assert isinstance(skt, socket.socket)
    try:
        info = skt.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_END)
    except OSError:
        return None
    if len(info) < _BYTES_ACKED_END:  # pragma: no cover - Linux before 4.1
        return None
    (acknowledged,) = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_END - 8)
    if finSent and queued:
        queued -= 1
    elif finSent:  # our FIN is acknowledged, and tcpi_bytes_acked counts it
        acknowledged -= 1
    return SendQueue(queued, acknowledged, info[0] == _TCP_CLOSE)


def isTCP(skt: object) -> bool:
    """
    Is it a socket that TCP's options apply to?
    """
    return (
        isinstance(skt, socket.socket)
        and _typeOf(skt) == _STREAM
        and _familyOf(skt) in _INTERNET
    )


def unread(skt: object) -> bool:
    """
    Has the kernel received bytes that were not read?
    """
    if not isinstance(skt, socket.socket):
        return False
    try:
        return bool(skt.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (OSError, AttributeError):  # no bytes, closed, or no such flag
        return False


def keepAlive(skt: object) -> None:
    """
    Ask the peer's TCP every second whether it still has this connection (tcp(7)).
    If the peer has closed its socket, its kernel forgets the connection
    C{tcp_fin_timeout} after its FIN, and answers with RST from then on.

    A peer that does not answer at all is given up as late as with C{flushTimeout}.
    """
    if not isTCP(skt):
        return
    assert isinstance(skt, socket.socket)
    with contextlib.suppress(OSError):
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            option = getattr(socket, name, None)  # some systems lack some of them
            if option is not None:
                skt.setsockopt(socket.IPPROTO_TCP, option, value)


def reset(skt: object) -> None:
    """
    Send RST now, and leave no TIME_WAIT; unsent and unread data is lost.

    SO_LINGER with a time of zero makes only the last close() send RST: while another
    process holds a duplicate of the descriptor, nothing is sent.  On Linux, connect()
    with AF_UNSPEC dissolves the connection at once, even if others hold it
    (connect(2); C{tcp_disconnect}, net/ipv4/tcp.c).  On other systems only the close
    that follows sends RST.
    """
    if not isTCP(skt):
        return
    assert isinstance(skt, socket.socket)
    try:
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        if _libc is not None:
            unspec = struct.pack("=H14x", socket.AF_UNSPEC)
            if _libc.connect(skt.fileno(), unspec, len(unspec)) == -1:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError:
        # The peer has already disconnected, so that it need not be told.
        pass


__all__ = [
    "SendQueue",
    "isTCP",
    "keepAlive",
    "reset",
    "sendQueue",
    "unacknowledged",
    "unread",
]
