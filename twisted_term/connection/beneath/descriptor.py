"""
A descriptor beneath: TCP and UNIX sockets, and whatever else is an
C{IHalfCloseableDescriptor}.
"""

from __future__ import annotations

import socket
from typing import Any, Optional

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..replaced import finIsOut, leaveOpen, put, restore, unsentBytes
from . import kernel
from .discard import discarding
from .lasting import forgets, lasting
from .lowest import Lowest

_log = Logger()
_DONE = Failure(CONNECTION_DONE)
_SHUT_WR = socket.SHUT_WR


def _nothing() -> None:
    pass


class Descriptor(Lowest):
    """
    The lowest transport, which tells of the peer's FIN.

    The object itself replaces the transport's C{connectionLost}, because a bound
    method would take as much memory as this object.

    @ivar _plain: the gate is the transport's protocol, so that the transport tells
        it of the two FINs.
    @ivar _replaced: the names of the attributes that are replaced on the transport.
    """

    __slots__ = ("_plain", "_replaced")

    tellsFin = True
    _replaced: tuple[str, ...]

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._above: Any = None

    def attach(self, above: Any, plain: bool = False) -> None:
        transport = self._transport
        if self._above is not None:  # from now on there is TLS in between
            restore(transport, self._replaced)
        self._above = above
        self._plain = plain
        put(transport, "connectionLost", self)
        self._replaced = ("connectionLost",)
        if not plain:
            put(transport, "readConnectionLost", self._readLost)
            put(transport, "loseConnection", self._closeAsked)
            self._replaced += ("readConnectionLost", "loseConnection")
        if forgets(self.clock):
            self._read(transport.doRead)

    def standsOn(self, transport: Any) -> bool:
        return transport is self._transport

    # What Twisted calls in the place of its own methods.

    def _readLost(self, reason: Optional[Failure] = None) -> None:
        try:
            self._above.peerFin()
        except BaseException:
            _log.failure("the peer's FIN")
            self._transport.connectionLost(Failure())

    def _shutdown(self) -> None:
        try:  # noqa: SIM105 - contextlib.suppress is three calls more
            self._transport.socket.shutdown(_SHUT_WR)
        except OSError:
            pass  # the reactor will find out what is wrong
        try:
            self._above.finSent()
        except BaseException:
            _log.failure("our FIN")
            self._transport.connectionLost(Failure())

    def _closeAsked(self) -> None:
        self._above.closeAsked()

    def __call__(self, reason: Failure) -> None:
        # This is called in the place of the transport's connectionLost.
        above = self._above
        if above is None:  # the call was scheduled before the end
            self._transport.connectionLost(reason)
            return
        reason = above.losing(reason)
        self.detach()
        try:
            self._transport.connectionLost(reason)
        finally:
            # A protocol in between may raise, and not tell the gate.
            above.finished(reason)

    # What the layer above calls.

    def halfClose(self, reading: bool, now: bool = False) -> None:
        try:
            if not self._plain:
                put(self._transport, "_closeWriteConnection", self._shutdown)
                self._replaced += ("_closeWriteConnection",)
            self._transport.loseWriteConnection()
            if now and self._plain and self._socket is not None:
                self._writeNow()
        except (OSError, ValueError):
            self._gone()
        except Exception as error:  # do what the reactor does when its call raises
            _log.failure("our FIN")
            self._later(error)

    def _writeNow(self) -> None:
        """
        Send FIN in this turn, if the kernel takes what is buffered.
        """
        transport = self._transport
        # The reactor finds out about an error, because it still watches the socket.
        transport.doWrite()
        if finIsOut(transport):
            # Nothing may be written behind FIN.  The reactors of epoll and poll write
            # zero bytes when a socket was readable and writable at once, and the
            # kernel fails with EPIPE at a write behind FIN, even of zero bytes.
            put(transport, "doWrite", _nothing)

    def close(self, bothDone: bool = False) -> None:
        # Twisted's loseConnection would flush first, and nothing is left to flush.
        above = self._above
        if bothDone:
            leaveOpen(self._transport)
        self.detach()
        try:
            self._transport.connectionLost(_DONE)
        finally:
            above.finished(_DONE)

    def drop(self) -> None:
        # The application may have called this in the midst of Twisted's write, or
        # between a read and a write of the reactor.  Those would go on.
        put(self._transport, "startWriting", _nothing)
        put(self._transport, "doWrite", _nothing)
        self.close()

    def letGo(self) -> None:
        self.close(bothDone=True)

    def reset(self) -> None:
        kernel.reset(self._socket)
        abort = getattr(self._transport, "abortConnection", None)
        try:
            if abort is not None:
                abort()
                return
        except (OSError, ValueError):
            _log.failure("{transport} has no socket", transport=self._transport)
        self._later(ConnectionAborted())

    def _gone(self) -> None:
        """
        Other code has closed the socket, or taken it away.
        """
        self._later(ConnectionLost())

    def _later(self, error: Exception) -> None:
        self._above.clock.callLater(0, self._transport.connectionLost, Failure(error))

    def discard(self, paused: bool) -> None:
        # A peer that is still sending must neither deadlock our flush nor find
        # a closed socket, so reading goes on, paused or not.
        if paused or not self._plain:
            try:
                self._transport.resumeProducing()
            except (OSError, ValueError):
                self._gone()

    def skip(self, small: bool) -> None:
        if self._plain:
            doRead = discarding(self._transport, self._above.discarded, small)
            if doRead is not None:
                self._read(doRead)

    def _read(self, doRead: Any) -> None:
        if forgets(self.clock):
            doRead = lasting(self._transport, doRead)
        put(self._transport, "doRead", doRead)
        self._replaced += ("doRead",)

    def watchPeer(self) -> None:
        kernel.keepAlive(self._socket)

    def unread(self) -> bool:
        return kernel.unread(self._socket)

    @property
    def _socket(self) -> Any:
        return getattr(self._transport, "socket", None)

    def queue(self, finSent: bool) -> Optional[kernel.SendQueue]:
        return kernel.sendQueue(self._socket, finSent)

    def unacknowledged(self, finSent: bool) -> Optional[int]:
        skt = self._socket
        if skt is not None and not kernel.isTCP(skt):
            return None  # a UNIX socket counts what its peer has not read
        return kernel.unacknowledged(skt, finSent)

    def unsent(self) -> int:
        return unsentBytes(self._transport)

    def written(self, finSent: bool) -> Optional[int]:
        queue = self.queue(finSent)
        if queue is None:
            return None
        return queue.acknowledged + queue.unacknowledged + self.unsent()

    def hangsUp(self, owed: Optional[int]) -> bool:
        # UNIX sockets hang up when the peer closes (unix_poll,
        # net/unix/af_unix.c).
        return owed is None and self.unsent() == 0

    def stopped(self) -> bool:
        reactor = getattr(self._transport, "reactor", None)
        return self._socket is not None and not getattr(reactor, "running", True)

    def abandon(self) -> None:
        self._transport.connectionLost(Failure(ConnectionLost()))

    def detach(self) -> None:
        if self._above is not None:
            restore(self._transport, self._replaced)
            self._above = None


__all__ = ["Descriptor"]
