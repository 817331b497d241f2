"""
A client that does what it is told, politely or not, and remembers what it saw.

Every wait has an end: C{patience} seconds without a byte in either direction,
and L{LONGEST} seconds in all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import Any, NamedTuple, Optional

from ._sides import Sides, TimeWait

#: No exchange takes longer, in seconds.
LONGEST = 300.0
#: No answer is longer, in bytes.
MOST = 1 << 28
#: A send that blocks so long, in seconds, will not go on until we read.
_STUCK = 0.2
#: How long, in seconds, to go on uploading behind the server's FIN.
_BEHIND = 0.3
#: How long, in seconds, a RST may take to answer a byte.
_ROUND_TRIP = 1.0
_PAUSE = 0.02
_READ = 1 << 18
_MORE = getattr(socket, "MSG_MORE", 0)
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Address(NamedTuple):
    """
    What C{socket.getaddrinfo} has found.
    """

    family: int
    address: Any


def resolve(host: str, port: int, patience: float) -> Address:
    """
    The first address of this name that can be connected to.

    @raise OSError: if there is none.
    """
    failure: Optional[OSError] = None
    for family, _, _, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            Client(Address(family, address), patience).close()
        except OSError as error:
            failure = error
        else:
            return Address(family, address)
    raise failure or OSError(f"{host}: no address")


class Client:
    """
    One connection, from connect to close.

    How an end is told, on Linux (C{tcp_reset} and C{tcp_recvmsg_locked},
    net/ipv4): what had arrived before a RST can still be read.  The first call
    behind a RST fails, with EPIPE if a FIN came before it and else with
    ECONNRESET; every later C{recv} says end of file.  So that is a FIN only if
    no call, sending ones included, has met ECONNRESET.

    @ivar data: all that has arrived.
    @ivar fin: the server's FIN came.
    @ivar reset: the server's RST came, behind its FIN or without one.
    @ivar closedFirst: C{"server"} or C{"client"}; C{None} if neither
        did before L{close}.
    @ivar seconds: from before connect until the end, or until patience was over.
    @ivar held: seconds from the server's FIN until no process of its had the
        connection; C{None} where that was not asked, or did not come.
    @ivar timeWait: set by L{close}.

    @raise OSError: if it cannot connect.
    """

    def __init__(
        self, address: Address, patience: float, buffer: Optional[int] = None
    ) -> None:
        """
        @param buffer: SO_RCVBUF in bytes; the kernel doubles it, see socket(7).
        """
        self.data = bytearray()
        self.fin = self.reset = False
        self.closedFirst: Optional[str] = None
        self.held: Optional[float] = None
        self.timeWait = TimeWait.UNKNOWN
        self._patience = patience
        self._unsent = memoryview(b"")
        self._filler = memoryview(b"")
        self._fill = 0
        self._halfClosing = False
        self._started = time.monotonic()
        self.seconds = 0.0
        self._socket = socket.socket(address.family)
        try:
            if buffer is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self._socket.settimeout(patience)
            self._socket.connect(address.address)
            self._socket.setblocking(False)
            self._sides = Sides(self._socket)
        except BaseException:
            self._socket.close()
            raise

    @property
    def over(self) -> bool:
        """
        There is no more to come.
        """
        return self.fin or self.reset

    def send(self, data: bytes, filler: bytes = b"", count: int = 0) -> None:
        """
        Queue bytes; they leave while we read.

        @param filler: what to repeat behind them, C{count} bytes in all.
        """
        self._unsent = memoryview(data)
        self._filler = memoryview(filler)
        self._fill = count

    def push(self) -> None:
        """
        Send all that is queued and read nothing, until that blocks.
        """
        deadline = time.monotonic() + LONGEST
        while self._pending() and time.monotonic() < deadline:
            if not self._wait(select.POLLOUT, _STUCK):
                break
            self._write()

    def receive(self, limit: int = MOST, size: int = _READ, pause: float = 0.0) -> None:
        """
        Read, and send what is queued, until the end, or C{limit} bytes are
        here, or patience is over.

        @param size: read at most so many bytes at once,
        @param pause: and sleep so many seconds after each.
        """
        longest = time.monotonic() + LONGEST
        while not self.over and len(self.data) < limit:
            pending = self._pending()
            if self._halfClosing and not pending:
                self._shutdown()
            left = min(self._patience, longest - time.monotonic())
            events = self._wait(
                select.POLLIN | (select.POLLOUT if pending else 0), left
            )
            if not events:
                break
            if events & select.POLLOUT:
                self._write()
            if events & ~select.POLLOUT and not self.over:
                self._read(size)
                time.sleep(pause)
        self.seconds = time.monotonic() - self._started

    def halfClose(self) -> None:
        """
        Send FIN as soon as all that is queued has been sent.
        """
        self._halfClosing = True

    def overrun(self) -> None:
        """
        Go on uploading behind the server's FIN for a moment.  A server that
        lingers takes it; from one that has closed comes a RST, which would
        have destroyed what a slower client had not read.
        """
        deadline = time.monotonic() + _BEHIND
        while self._pending() and not self.reset and time.monotonic() < deadline:
            if self._wait(select.POLLOUT, _PAUSE):
                self._write()
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset = True

    def hold(self) -> None:
        """
        Read all, do not close, and wait until the server lets go.  Here that
        is seen in the kernel's table: no process has its side open.  From
        afar, a byte that is sent when patience is over draws a RST.
        """
        if not self.fin:
            return
        since = time.monotonic()
        while time.monotonic() < since + self._patience:
            if self._sides.visible:
                side = self._sides.server()
                if side is None or not side.inode:
                    self.held = time.monotonic() - since
                    return
            time.sleep(_PAUSE)
        if not self._sides.visible:
            self.send(b"?")
            self._write()
            self._wait(select.POLLERR, _ROUND_TRIP)
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.held = self._patience

    def close(self, reset: bool = False) -> None:
        """
        Close, and see where TIME_WAIT stays.

        @param reset: with a RST.
        """
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._socket.close()
        self.timeWait = self._sides.timeWait()

    def _pending(self) -> bool:
        if not self._unsent and self._fill:
            self._unsent = self._filler[: self._fill]
            self._fill -= len(self._unsent)
        return bool(self._unsent)

    def _wait(self, events: int, seconds: float) -> int:
        poll = select.poll()
        poll.register(self._socket, events)
        found = poll.poll(max(seconds, 0.0) * 1000)
        return found[0][1] if found else 0

    def _write(self) -> None:
        try:
            # With MSG_MORE, see send(2), the last bytes leave with the FIN.
            more = _MORE if self._halfClosing else 0
            sent = self._socket.send(self._unsent, more)
        except BlockingIOError:
            return
        except (ConnectionResetError, BrokenPipeError) as error:
            self._unsent, self._fill = memoryview(b""), 0
            self._halfClosing = False
            # EPIPE: the FIN came before, and is still to be read.
            self._drained(isinstance(error, ConnectionResetError))
        else:
            self._unsent = self._unsent[sent:]

    def _drained(self, lost: bool) -> None:
        """
        A RST has met our upload: what is here already can still be read.
        """
        with contextlib.suppress(OSError):
            while data := self._socket.recv(_READ):
                self.data += data
        self.reset = True
        self.fin = not lost
        self.closedFirst = self.closedFirst or "server"

    def _read(self, size: int) -> None:
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.reset = True
        else:
            self.data += data
            self.fin = not data
        if self.over:
            self.closedFirst = self.closedFirst or "server"

    def _shutdown(self) -> None:
        self._halfClosing = False
        # The server may have reset it already, which the next read tells.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self.closedFirst = self.closedFirst or "client"


__all__ = ["LONGEST", "MOST", "Address", "Client", "resolve"]
