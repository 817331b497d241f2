"""
Closing a listening socket without resetting clients that have just connected.

close() resets every connection that the kernel has established and the process has
not accepted (C{inet_csk_listen_stop}, net/ipv4/inet_connection_sock.c).  So they are
accepted first.  Meanwhile a filter on the socket drops SYNs, so that no connection
comes in between the last accept and the close.  A client whose SYN was dropped sends
it again a second later, and is refused.

The kernel may still reset two kinds of connections: one whose handshake's last ACK is
on its way when the socket is closed, and, where no filter could be set, one that
comes in between the last accept and the close.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import select
import socket
import struct
import sys
from typing import Any, Callable, Optional

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReadDescriptor

from .._waiters import Waiters
from ..connection.beneath.kernel import isTCP
from ..connection.wrapping import TerminatingFactory
from ..standin import StandIn

#: At most this many connections are accepted where the kernel does not say how many
#: wait.  It is the default of net.core.somaxconn, which bounds each queue (listen(2)).
_MOST = 4096
# struct tcp_info, include/uapi/linux/tcp.h: of a listening socket, the u32 at 24,
# tcpi_unacked, is the length of its queue (tcp_get_info, net/ipv4/tcp.c).
_LISTENING = 10  # TCP_LISTEN, include/net/tcp_states.h
_QUEUED = struct.Struct("=B23xI")
_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
# Classic BPF on the TCP header (C{tcp_filter}, net/ipv4/tcp_ipv4.c): drop segments
# with SYN and without ACK, and let the others pass, so that handshakes are completed.
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
    if skt.fileno() < 0:  # other code has closed it
        return
    # If the socket was handed to this process (systemd, adoptStreamPort), the C{port}
    # of L{twisted.internet.tcp.Port} is None.  Another process may go on listening
    # with such a socket, and the filter would stay there.
    own = isTCP(skt) and getattr(port, "port", None) is not None
    # With the filter the queue becomes empty in the end, and handshakes that were
    # under way are completed meanwhile.
    most = math.inf if own and _refuseNew(skt) else _queued(skt)
    waiting = select.poll()
    waiting.register(skt, select.POLLIN)
    accepted = 0
    while accepted < most and waiting.poll(0):
        # doRead() of Twisted accepts this many connections, and then sets the number
        # anew.
        port.numberAccepts = 1  # type: ignore[attr-defined]
        port.doRead()
        accepted += 1


def _queued(skt: socket.socket) -> int:
    """
    How many connections wait in the queue of a listening socket; where the kernel
    does not say it, how many can wait.
    """
    with contextlib.suppress(OSError, AttributeError):
        info = skt.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED.size)
        state, queued = _QUEUED.unpack(info)
        if state == _LISTENING:
            return queued
    return _MOST


class CarefulPort(StandIn):
    """
    A listening port that accepts what the kernel has established before it
    stops, and that may be stopped by several owners.  It stands in for Twisted's.
    """

    __slots__ = ("_changed", "_stopped")

    def __init__(self, port: Any, changed: Callable[[CarefulPort], object]) -> None:
        """
        @param changed: called with this when the port is closed, and when it
            listens again.
        """
        super().__init__(port)
        self._changed = changed
        self._stopped: Optional[Waiters[Any]] = None

    def __repr__(self) -> str:
        return repr(self._subject)

    @property
    def factory(self) -> Any:
        """
        The application's factory; may be replaced, as Twisted's can.
        """
        owner, name = _place(self._subject)
        return getattr(owner, name)

    @factory.setter
    def factory(self, factory: Any) -> None:
        owner, name = _place(self._subject)
        setattr(owner, name, factory)

    def startListening(self) -> None:
        """
        Listen again.

        @raise twisted.internet.error.CannotListenError: if the address is in use, for
            example.
        """
        self._subject.startListening()
        self._stopped = None
        self._changed(self)

    def stopListening(self) -> Deferred[Any]:
        """
        Stop, without resetting clients that have just connected.

        @return: a Deferred that fires when the port is closed; a new one for
            each call.
        """
        if self._stopped is None:
            stopped: Waiters[Any] = Waiters()
            self._stopped = stopped
            acceptQueued(self._subject)
            stopping = maybeDeferred(self._subject.stopListening)
            stopping.addBoth(self._isStopped, stopped)
        return self._stopped.wait()

    loseConnection = stopListening

    @property
    def stopping(self) -> bool:
        """
        Has it been told to stop?
        """
        return self._stopped is not None

    @property
    def stopped(self) -> bool:
        """
        Is the port closed?
        """
        return self._stopped is not None and self._stopped.fired

    def _isStopped(self, result: Any, stopped: Waiters[Any]) -> None:
        stopped.fire(result)
        self._changed(self)


def _place(port: Any) -> tuple[Any, str]:
    """
    Where the application's factory is kept: the object, and the attribute's name.
    """
    owner, name = port, "factory"
    while issubclass(type(getattr(owner, name)), TerminatingFactory):
        owner, name = getattr(owner, name), "wrappedFactory"
    return owner, name


def _refuseNew(skt: socket.socket) -> bool:
    """
    Drop SYNs that come from now on.

    @return: C{False} where that is not possible.
    """
    if not sys.platform.startswith("linux"):
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    try:
        skt.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:  # locked, or not allowed: the gap stays
        return False
    return True


__all__ = ["CarefulPort", "acceptQueued"]
