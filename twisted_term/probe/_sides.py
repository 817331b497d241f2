"""
What this machine's kernel knows of both sides of a connection: Linux lists
them in C{/proc/net/tcp} and C{/proc/net/tcp6}, see proc(5).
"""

from __future__ import annotations

import socket
import struct
import time
from enum import Enum
from typing import Any, NamedTuple, Optional

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
# include/net/tcp_states.h
_TIME_WAIT = 6
_MAPPED = b"\0" * 10 + b"\xff\xff"
#: How long, in seconds, the two kernel sockets may take to settle.
_SETTLE = 1.0
_PAUSE = 0.02


class TimeWait(Enum):
    """
    On which side TIME_WAIT stays (RFC 9293, section 3.6): the one that has
    sent the first FIN.  None stays behind a RST.
    """

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"
    NONE = "none"
    UNKNOWN = "unknown"


class Side(NamedTuple):
    """
    @ivar inode: 0 once no process has it open.
    """

    state: int
    inode: int


class Sides:
    """
    The two sides of a connected socket.

    @ivar visible: the server's side is on this machine.
    """

    def __init__(self, skt: socket.socket) -> None:
        self._client = _names(skt.family, skt.getsockname())
        self._server = _names(skt.family, skt.getpeername())
        self.visible = self.server() is not None

    def client(self) -> Optional[Side]:
        """
        Our side; C{None} if there is none.
        """
        return _find(self._client, self._server)

    def server(self) -> Optional[Side]:
        """
        The server's side; C{None} if there is none, or not on this machine.
        """
        return _find(self._server, self._client)

    def timeWait(self) -> TimeWait:
        """
        Where it stays, once both sides have settled, or after a second.
        """
        deadline = time.monotonic() + _SETTLE
        while True:
            sides = (self.client(), self.server())
            here, there = (side and side.state == _TIME_WAIT for side in sides)
            settled = all(side is None or side.state == _TIME_WAIT for side in sides)
            if settled or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
        if here:
            return TimeWait.BOTH if there else TimeWait.CLIENT
        if there:
            return TimeWait.SERVER
        return TimeWait.NONE if self.visible else TimeWait.UNKNOWN


def _names(family: int, address: Any) -> set[str]:
    """
    How the tables write an address: words in the machine's byte order.  A
    server that listens on IPv6 sees an IPv4 client under a mapped address.
    """
    packed = socket.inet_pton(family, address[0].partition("%")[0])
    forms = {packed}
    if len(packed) == 4:
        forms.add(_MAPPED + packed)
    elif packed.startswith(_MAPPED):
        forms.add(packed[len(_MAPPED) :])
    return {
        "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", form))
        + f":{address[1]:04X}"
        for form in forms
    }


def _find(near: set[str], far: set[str]) -> Optional[Side]:
    for table in _TABLES:
        try:
            with open(table) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1] in near and fields[2] in far:
                        return Side(int(fields[3], 16), int(fields[9]))
        except FileNotFoundError:  # no Linux, or no IPv6
            continue
    return None


__all__ = ["Side", "Sides", "TimeWait"]
