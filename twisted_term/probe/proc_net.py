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
_STATES = (
    "none",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)
_TIME_WAIT = _STATES.index("TIME_WAIT")
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
    @ivar unsent: bytes that are not acknowledged.
    @ivar unread: bytes that its process has not read.
    """

    state: int
    inode: int
    unsent: int
    unread: int

    def __str__(self) -> str:
        words = [_STATES[self.state]]
        words += [f"{self.unsent} unsent"] if self.unsent else []
        words += [f"{self.unread} unread"] if self.unread else []
        words += [] if self.inode else ["no process has it"]
        return ", ".join(words)


class Sides:
    """
    The two sides of a connected socket.

    @ivar visible: the server's side is on this machine.
    """

    def __init__(self, skt: socket.socket) -> None:
        tcp = skt.family in (socket.AF_INET, socket.AF_INET6)
        self._client = _names(skt.family, skt.getsockname()) if tcp else set()
        self._server = _names(skt.family, skt.getpeername()) if tcp else set()
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

    def describe(self) -> str:
        """
        The server's side in words; nothing where it cannot be seen.
        """
        if not self.visible:
            return ""
        return str(self.server() or "gone")

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
    for table in _TABLES if near else ():
        try:
            with open(table) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1] in near and fields[2] in far:
                        sent, read = fields[4].split(":")
                        unsent, unread = int(sent, 16), int(read, 16)
                        return Side(int(fields[3], 16), int(fields[9]), unsent, unread)
        except FileNotFoundError:  # no Linux, or no IPv6
            continue
    return None


__all__ = ["Side", "Sides", "TimeWait"]
