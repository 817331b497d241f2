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

from ..replaced import leaveOpen, put, restore, unsentBytes
from . import kernel
from .discard import discarding
from .lowest import Lowest

_log = Logger()
_DONE = Failure(CONNECTION_DONE)
_SHUT_WR = socket.SHUT_WR


# What is replaced, and when.
_ALWAYS = ("connectionLost", "readConnectionLost")
_NOT_PLAIN = ("loseConnection",)
_FIN = ("_closeWriteConnection",)
_DISCARDS = ("doRead",)


def _nothing() -> None:
    pass


class Descriptor(Lowest):
    """
    The lowest transport, which tells of the peer's FIN.
    """

    __slots__ = ("_discards", "_fin", "_plain")

    tellsFin = True

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._discards = False
        self._fin = False

    def attach(self, above: Any, plain: bool = False) -> None:
        if self._above is not None:  # there is TLS in between, from now on
            self._restore()
        self._above = above
        self._plain = plain
        transport = self._transport
        put(transport, "connectionLost", self._losing)
        put(transport, "readConnectionLost", self._readLost)
        if not plain:
            put(transport, "loseConnection", self._closeAsked)

    def standsOn(self, transport: Any) -> bool:
        return transport is self._transport

    # What Twisted calls, instead of its own.

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
            pass  # the reactor will tell what is wrong
        try:
            self._above.finSent()
        except BaseException:
            _log.failure("our FIN")
            self._transport.connectionLost(Failure())

    def _closeAsked(self) -> None:
        self._above.closeAsked()

    def _losing(self, reason: Failure) -> None:
        above = self._above
        if above is None:  # a call that was on its way; all is over
            self._transport.connectionLost(reason)
            return
        reason = above.losing(reason)
        self._restore()
        try:
            self._transport.connectionLost(reason)
        finally:
            # Whoever is told on the way may raise, and tell nobody.
            above.finished(reason)

    # What is asked for from above.

    def halfClose(self, reading: bool, now: bool = False) -> None:
        try:
            self._fin = True
            put(self._transport, "_closeWriteConnection", self._shutdown)
            self._transport.loseWriteConnection()
            if now and self._plain and self._socket is not None:
                # FIN in this turn, if the kernel takes what is buffered.  The
                # reactor finds out what has gone wrong, for it still asks.
                self._transport.doWrite()
        except (OSError, ValueError):
            self._gone()
        except Exception as error:  # as the reactor does, where that is the caller
            _log.failure("our FIN")
            self._later(error)

    def close(self) -> None:
        # Both directions have ended: there is nothing left to flush, which is
        # all that Twisted's loseConnection does.
        above = self._above
        self._restore()
        try:
            self._transport.connectionLost(_DONE)
        finally:
            above.finished(_DONE)

    def drop(self) -> None:
        # Whoever asks may be called in the midst of Twisted's write, or between a
        # read and a write of the reactor's, which would go on.
        put(self._transport, "startWriting", _nothing)
        put(self._transport, "doWrite", _nothing)
        self.close()

    def letGo(self) -> None:
        leaveOpen(self._transport)
        self.close()

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
        Somebody has closed the socket, or taken it away.
        """
        self._later(ConnectionLost())

    def _later(self, error: Exception) -> None:
        self._above.clock.callLater(0, self._transport.connectionLost, Failure(error))

    def discard(self, small: bool, paused: bool) -> None:
        transport = self._transport
        # A peer that is still sending must neither deadlock our flush nor find
        # a closed socket, so reading goes on, paused or not.
        if paused or not self._plain:
            try:
                transport.resumeProducing()
            except (OSError, ValueError):
                self._gone()
        if self._plain and not self._discards:
            doRead = discarding(transport, self._above.discarded, small)
            if doRead is not None:
                self._discards = True
                put(transport, "doRead", doRead)

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

    def _restore(self) -> None:
        """
        Give the transport back what it had.  To look into its __dict__, or to
        keep a list, would cost each connection some hundred bytes.
        """
        restore(self._transport, _ALWAYS)
        if not self._plain:
            restore(self._transport, _NOT_PLAIN)
        if self._fin:
            restore(self._transport, _FIN)
        if self._discards:
            restore(self._transport, _DISCARDS)
        self._fin = self._discards = False

    def detach(self) -> None:
        self._restore()
        self._above = None


__all__ = ["Descriptor"]
