"""
Closing a listening socket without resetting those who have just connected.

close() resets every connection that the kernel has established and nobody
has accepted (C{inet_csk_listen_stop}, net/ipv4/inet_connection_sock.c).  So
they are accepted first; and while that is done a filter on the socket drops
SYNs, so that no new one gets in between the last accept and the close.  Who
sends a SYN meanwhile sends it again a second later, and is refused.

What remains possible by the kernel's rules: a handshake whose last ACK is
still on its way when the socket is closed is reset, as is one that gets in
between the last accept and the close where no filter could be set.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import sys
from typing import Any, Callable, Optional

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import directlyProvides, providedBy

from .._waiters import Waiters
from ..connection.beneath.kernel import isTCP

#: At most so many rounds of accepting, of which each takes what there is.
_ROUNDS = 1000
_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
# Classic BPF on the TCP header (C{tcp_filter}, net/ipv4/tcp_ipv4.c): drop what
# has SYN and no ACK, let the rest pass, so that handshakes are completed.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def acceptQueued(port: Any) -> None:
    """
    Accept what the kernel has established for C{port}, a listening port that
    is about to be closed.
    """
    skt = getattr(port, "socket", None)
    if not isinstance(skt, socket.socket) or not IReadDescriptor.providedBy(port):
        return
    # One that was handed to us (systemd, adoptStreamPort) has no port number of
    # its own: L{twisted.internet.tcp.Port}'s C{port} is None.  Somebody else may
    # go on listening with it, and a filter would stay.
    if isTCP(skt) and getattr(port, "port", None) is not None:
        _refuseNew(skt)
    waiting = select.poll()
    waiting.register(skt, select.POLLIN)
    for _ in range(_ROUNDS):
        if not waiting.poll(0):
            break
        port.doRead()


class CarefulPort:
    """
    A listening port that accepts what the kernel has established before it
    stops, and that may be stopped by several owners.  It provides what the
    wrapped port provides, and passes on all else.
    """

    def __init__(self, port: Any, stopped: Callable[[], object]) -> None:
        """
        @param stopped: called when the port is closed.
        """
        self._port = port
        self._tell = stopped
        self._stopped: Optional[Waiters[Any]] = None
        directlyProvides(self, providedBy(port))

    def __getattr__(self, name: str) -> Any:
        if name == "_port":  # not yet there: do not look for it in itself
            raise AttributeError(name)
        return getattr(self._port, name)

    def startListening(self) -> None:
        """
        Listen again.
        """
        self._stopped = None
        self._port.startListening()

    def stopListening(self) -> Deferred[Any]:
        """
        Stop, without resetting those who have just connected.

        @return: a Deferred that fires when the port is closed; a new one for
            each call.
        """
        if self._stopped is None:
            self._stopped = Waiters()
            acceptQueued(self._port)
            maybeDeferred(self._port.stopListening).addBoth(self._isStopped)
        return self._stopped.wait()

    loseConnection = stopListening

    @property
    def stopped(self) -> bool:
        """
        Is the port closed?
        """
        return self._stopped is not None and self._stopped.fired

    def _isStopped(self, result: Any) -> None:
        assert self._stopped is not None
        self._stopped.fire(result)
        self._tell()


def _refuseNew(skt: socket.socket) -> None:
    if not sys.platform.startswith("linux"):
        return
    code = b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    # Where a filter is locked, or not allowed, the gap stays.
    with contextlib.suppress(OSError):
        skt.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


__all__ = ["CarefulPort", "acceptQueued"]
