"""
A client that may be told to be impolite, and that remembers what it has seen.

Every wait has an end: C{patience} seconds without a byte in either direction,
and C{longest} seconds in all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from typing import Any, Callable, NamedTuple, Optional

from .channel import TLS, Channel, PlainChannel, TLSChannel
from .proc_net import Sides, TimeWait
from .timeline import Timeline

#: No exchange takes longer, in seconds.
LONGEST = 300.0
#: No answer is longer, in bytes.
MOST = 1 << 28
#: A send that blocks for this many seconds will not go on until we read.
_STUCK = 0.2
#: How long, in seconds, to go on uploading behind the server's FIN.
_BEHIND = 0.3
#: How long, in seconds, a RST may take to answer a byte.
_ROUND_TRIP = 1.0
#: How long, in seconds, a FIN may take behind close_notify.
_FIN_BEHIND = 0.1
_PAUSE = 0.02
_READ = 1 << 18
#: The first bytes that were sent are kept, up to this many, to be shown.
_KEPT = 1 << 10
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Limits(NamedTuple):
    """
    @ivar patience: seconds without a byte in either direction.
    @ivar longest: seconds in all.
    """

    patience: float
    longest: float = LONGEST


class Address(NamedTuple):
    """
    Where to connect.

    @ivar address: what C{socket.getaddrinfo} has found, or the path of a UNIX
        socket.
    """

    family: int
    address: Any
    tls: Optional[TLS] = None


def resolve(host: str, port: int, patience: float) -> Address:
    """
    The first address of this name that can be connected to.

    @raise OSError: if there is none.
    """
    failure: Optional[OSError] = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # of the codec of international names
        raise OSError(f"{host!r}: must be the name of a host") from None
    for family, _, _, _, address in found:
        try:
            with socket.socket(family) as skt:
                skt.settimeout(patience)
                skt.connect(address)
        except OSError as error:
            failure = error
        else:
            return Address(family, address)
    raise failure or OSError(f"{host}: no address")


class Client:
    """
    One connection, from connect to close.

    How Linux tells of an end (C{tcp_reset} and C{tcp_recvmsg_locked}, net/ipv4): what
    had arrived before a RST can still be read.  The first call after a RST fails, with
    EPIPE if a FIN came before the RST and else with ECONNRESET; every later C{recv}
    says end of file.  So an end of file means FIN only if no call, including those that
    send, has failed with ECONNRESET.

    @ivar data: all that has arrived, without TLS.
    @ivar sent: the first bytes of what was sent.
    @ivar listener: is given each piece of C{data} when it arrives.
    @ivar answers: over TLS, the client answers a close_notify with its own and FIN,
        when all that is queued has been sent.  TLS 1.2 demands the answer (RFC 5246,
        section 7.2.1), and also that the client drops what is queued; and some servers
        wait for the answer.
    @ivar fin: the server's FIN came.
    @ivar reset: the server's RST came, behind its FIN or without one, or over
        TLS a fatal alert.
    @ivar endless: bytes still came when the longest time, or the largest
        answer, was reached.
    @ivar closedFirst: C{"server"} or C{"client"}; C{None} if neither
        did before L{close}.
    @ivar seconds: from before connect until the end, or until patience was over.
    @ivar held: seconds from the server's FIN until no process of the server had the
        connection open; C{None} if that was not asked, or did not happen.
    @ivar timeWait: set by L{close}.
    @ivar protocol: what ALPN has chosen; C{None} if it has not.
    @ivar version: of TLS, as C{ssl} calls it; C{None} without.

    @raise OSError: if it cannot connect.
    """

    def __init__(
        self,
        address: Address,
        limits: Limits,
        buffer: Optional[int] = None,
        watched: bool = False,
    ) -> None:
        """
        @param buffer: SO_RCVBUF in bytes; the kernel doubles it, see socket(7).
        @param watched: the time line shows the state of the server's side.
        """
        self.data = bytearray()
        self.listener: Optional[Callable[[bytes], None]] = None
        self.answers = True
        self.fin = self.reset = self.endless = False
        self.closedFirst: Optional[str] = None
        self.held: Optional[float] = None
        self.timeWait = TimeWait.UNKNOWN
        self.protocol: Optional[str] = None
        self.version: Optional[str] = None
        self.timeline = Timeline()
        self.sent = bytearray()
        self._limits = limits
        self._unsent = memoryview(b"")
        self._source: Callable[[], bytes] = bytes
        self._halfClosing = False
        self._notify = True
        self._ended = False
        self._started = self._heard = time.monotonic()
        self.seconds = 0.0
        self._socket = socket.socket(address.family)
        try:
            if buffer is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self._socket.settimeout(limits.patience)
            self._socket.connect(address.address)
            self._sides = Sides(self._socket)
            if watched:
                self.timeline.watch = self._sides.describe
            self.timeline.add("connected")
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self._channel: Channel = PlainChannel(self._socket)
        self._tls = address.tls

    def open(self) -> None:
        """
        Begin TLS, if there is to be TLS.

        @raise OSError: if the handshake fails; the client is closed then.
        """
        if self._tls is None:
            return
        self._socket.settimeout(self._limits.patience)
        try:
            channel = TLSChannel(self._socket, self._tls)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._channel = channel
        self.protocol, self.version = channel.protocol, channel.version
        self.timeline.add("TLS handshake done")

    @property
    def over(self) -> bool:
        """
        Has the connection ended for the client?
        """
        return self.fin or self.reset

    @property
    def closeNotify(self) -> Optional[bool]:
        """
        Has the server sent one?  C{None} without TLS.
        """
        return self._channel.closeNotify

    def send(self, data: bytes, filler: bytes = b"", count: int = 0) -> None:
        """
        Queue bytes; they leave while we read.

        @param filler: what to repeat behind them, C{count} bytes in all.
        """
        self._unsent = memoryview(bytes(self._unsent) + data)
        if count:
            left = count

            def fill() -> bytes:
                nonlocal left
                piece = filler[:left]
                left -= len(piece)
                return piece

            self._source = fill

    def sendFrom(self, source: Callable[[], bytes]) -> None:
        """
        Ask C{source} for bytes whenever all others are sent.

        @param source: returns no bytes while it has none.
        """
        self._source = source

    def push(self) -> None:
        """
        Send all that is queued and read nothing, until that blocks, or
        patience is over.
        """
        deadline = time.monotonic() + self._limits.patience
        while self._pending() and time.monotonic() < deadline:
            if not self._wait(select.POLLOUT, _STUCK):
                self.timeline.add("sending blocks")
                break
            self._write()

    def receive(
        self,
        limit: int = MOST,
        size: int = _READ,
        pause: float = 0.0,
        until: Callable[[], bool] = bool,
        patience: Optional[float] = None,
    ) -> None:
        """
        Read, and send what is queued, until the end, or until C{limit} bytes have
        arrived, C{until} returns true, or patience is over.

        @param size: read at most so many bytes at once,
        @param pause: and sleep so many seconds after each.
        @param patience: seconds, in place of those of the limits.
        """
        quiet = self._limits.patience if patience is None else patience
        longest = self._started + self._limits.longest
        while not self.over and len(self.data) < limit and not until():
            pending = self._pending()
            if self._halfClosing and not pending:
                self._shutdown()
            left = longest - time.monotonic()
            events = self._wait(
                select.POLLIN | (select.POLLOUT if pending else 0), min(quiet, left)
            )
            if not events:
                self.endless = left < quiet and self._heard > longest - quiet
                break
            if events & select.POLLOUT:
                self._write()
            if events & ~select.POLLOUT and not self.over:
                self._read(size)
                time.sleep(pause)
        self.endless = self.endless or len(self.data) >= MOST
        self.seconds = time.monotonic() - self._started

    def halfClose(self, notify: bool = True) -> None:
        """
        Send FIN as soon as all that is queued has been sent.

        @param notify: over TLS, close_notify before it.
        """
        self._halfClosing = True
        self._notify = notify

    def overrun(self) -> None:
        """
        Go on uploading for a moment after the server's FIN.  A server that lingers
        accepts that.  A server that has closed answers with a RST, which would have
        destroyed what a slower client had not read.
        """
        deadline = time.monotonic() + _BEHIND
        while self._pending() and not self.reset and time.monotonic() < deadline:
            if self._wait(select.POLLOUT, _PAUSE):
                self._write()
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._wasReset()

    def hold(self) -> None:
        """
        Read all, do not close, and wait until the server lets go.  If the server is on
        this machine, the kernel's table shows when no process has its side open.  If
        it is on another machine, a byte is sent when patience is over, and a server
        that has let go answers with a RST.
        """
        if not self.fin:
            return
        since = time.monotonic()
        while time.monotonic() < since + self._limits.patience:
            # For a UNIX socket, POLLHUP says that; for TCP, POLLHUP means a RST.
            gone = self._wait(0, _PAUSE) & (select.POLLHUP | select.POLLERR)
            if not gone and self._sides.visible:
                side = self._sides.server()
                gone = side is None or not side.inode
            if gone:
                self.held = time.monotonic() - since
                self.timeline.add("the server has let go")
                return
        if not self._sides.visible:
            self.send(b"?")
            self._write()
            self._wait(select.POLLERR, _ROUND_TRIP)
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.held = self._limits.patience

    def close(self, reset: bool = False) -> None:
        """
        Close, and find out on which side TIME_WAIT stays.

        @param reset: close with a RST.
        """
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._socket.close()
        self.timeWait = self._sides.timeWait()
        self.timeline.add("the client resets" if reset else "the client closes")

    def _pending(self) -> bool:
        if self._ended:
            return False
        if not self._unsent:
            self._unsent = memoryview(self._source())
        return bool(self._unsent) or self._channel.unsent

    def _wait(self, events: int, seconds: float) -> int:
        poll = select.poll()
        poll.register(self._socket, events)
        found = poll.poll(max(seconds, 0.0) * 1000)
        return found[0][1] if found else 0

    def _write(self) -> None:
        try:
            sent = self._channel.write(self._unsent, self._halfClosing)
        except BlockingIOError:
            return
        except (ConnectionResetError, BrokenPipeError) as error:
            self._unsent, self._source = memoryview(b""), bytes
            self._halfClosing = False
            # With EPIPE, a FIN came before the RST, and can still be read.
            self._drained(isinstance(error, ConnectionResetError))
        else:
            self.timeline.add("sent", sent)
            if len(self.sent) < _KEPT:
                self.sent += self._unsent[:sent]
            self._unsent = self._unsent[sent:]

    def _drained(self, lost: bool) -> None:
        """
        A RST has answered our upload.  Read what has arrived before it.
        """
        with contextlib.suppress(OSError):
            while self._wait(select.POLLIN, 0.0):
                try:
                    data = self._channel.read(_READ)
                except BlockingIOError:  # part of a record of TLS
                    continue
                if not data:
                    break
                self._take(data)
        self._wasReset()
        self.fin = not lost
        self.closedFirst = self.closedFirst or "server"

    def _read(self, size: int) -> None:
        notified = self.closeNotify
        try:
            data = self._channel.read(size)
        except BlockingIOError:
            data = None
        except ConnectionResetError:
            data = None
            self._wasReset()
        except ssl.SSLError as error:
            # A fatal alert: the server gives the connection up (RFC 8446, 6.2).
            data = None
            self.timeline.add(f"TLS failed: {error.reason}")
            self._wasReset()
        if data:
            self._take(data)
        if self.closeNotify and not notified:
            self.timeline.add("close_notify came")
            self.closedFirst = self.closedFirst or "server"
            # A server that has sent FIN, too, may be gone: it waits for nothing.
            if self.answers and not self._wait(select.POLLIN, _FIN_BEHIND):
                if self.version == "TLSv1.2":
                    self._unsent, self._source = memoryview(b""), bytes
                self.halfClose()
        if data == b"":
            self.fin = True
            self.timeline.add("FIN came")
        if self.over:
            self.closedFirst = self.closedFirst or "server"

    def _take(self, data: bytes) -> None:
        self.data += data
        self._heard = time.monotonic()
        self.timeline.add("received", len(data))
        if self.listener is not None:
            self.listener(data)

    def _wasReset(self) -> None:
        if not self.reset:
            self.reset = True
            self.timeline.add("reset by the server")

    def _shutdown(self) -> None:
        self._halfClosing = False
        self._ended = True
        # The server may have reset the connection already; the next read says so.
        with contextlib.suppress(OSError):
            self._channel.endWriting(self._notify)
            self.closedFirst = self.closedFirst or "client"
            tls = (
                "close_notify and "
                if self._notify and self.closeNotify is not None
                else ""
            )
            self.timeline.add(f"sent {tls}FIN")


__all__ = ["LONGEST", "MOST", "Address", "Client", "Limits", "resolve"]
