"""
TLS whose two directions each end on their own.

L{twisted.protocols.tls.TLSMemoryBIOProtocol} answers the peer's close_notify
at once and closes, even if the application has more to write.  After its own
close_notify it waits for the peer's without a limit.  A C{loseWriteConnection} goes
to the transport beneath it, so that FIN is sent without a close_notify, and the
bytes that are not encrypted yet are lost.  Here the two close_notify alerts are two
events (RFC 8446, 6.1): "this does not have any effect on the read side of the
sender's connection".

How control goes.  C{TLSMemoryBIOProtocol} gives OpenSSL what has arrived, asks
OpenSSL for what is to be sent, and takes OpenSSL's answers as events.  So the
methods that it calls on its OpenSSL connection are replaced on that one connection,
and each event comes here before Twisted acts on it::

    Twisted's transport
        | dataReceived                               ^ write
        v                                            |
    TLSMemoryBIOProtocol ------------------------------------- application
        | do_handshake   recv   shutdown   bio_shutdown
        v                                            (each is replaced)
    TLS, here:  done or failed | close_notify | ours is due | lost beneath
        |                                            |
        v                                            v
    OpenSSL                                  what stands above

Twisted closes the transport beneath if TLS has failed, and a wrapper beneath may do
so when its own time limit is over; C{closeAsked} decides what that means.

This module needs pyOpenSSL, which the core does not need.  It is imported only if
Twisted's TLS is imported.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Optional

from OpenSSL.SSL import SENT_SHUTDOWN, Error, WantReadError, ZeroReturnError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ..replaced import replace, unencryptedBytes
from ..report import Outcome
from .layer import Layer

_RECORDS = 1 << 15
#: The outcomes beneath that mean C{TLS_FAILED} if TLS has failed.
_ENDS = frozenset([Outcome.CLEAN, Outcome.LINGER_EXPIRED, Outcome.LOST])


class TLS(Layer):
    """
    A layer of TLS above the layers beneath.

    @ivar handshakeDone: has the handshake come to its end?
    @ivar failed: has TLS given the connection up?
    @ivar truncated: has the peer's FIN come without its close_notify, while the
        application was reading?
    @ivar closeNotifySent: is our close_notify behind what was written?
    @ivar closeNotifySize: how many bytes our close_notify takes; they are the last
        ones that are sent.
    @ivar closeNotifyReceived: has the peer's close_notify come?
    """

    handshakeDone = False
    failed = False
    truncated = False
    closeNotifySent = False
    closeNotifySize = 0
    closeNotifyReceived = False
    _timer: Optional[IDelayedCall] = None
    _closingLater: Optional[IDelayedCall] = None
    _deaf = False  # nothing is delivered any more
    _closing = False  # our direction is to end
    _shut = False  # the layer beneath has been told to end our direction
    _peerGone = False  # the peer's FIN has come beneath
    _lost = False  # the connection beneath is lost

    def __init__(self, tls: Any, lower: Any) -> None:
        """
        @param tls: the C{TLSMemoryBIOProtocol}.
        @param lower: the L{Beneath} under this layer.
        """
        super().__init__(lower)
        self._tls = tls
        self._transport = tls.transport
        connection = tls.getHandle()
        self._doHandshake = connection.do_handshake
        self._recv = connection.recv
        self._shutdownTLS = connection.shutdown
        self._bioShutdown = connection.bio_shutdown
        self._connection = connection
        self._replaced = [
            replace(
                connection,
                do_handshake=self._handshakes,
                recv=self._receives,
                shutdown=self._closeNotifyIsDue,
                bio_shutdown=self._lostBeneath,
            ),
            replace(tls, loseConnection=self._askedAbove),
        ]
        if not lower.standsOn(self._transport):
            self._replaced.append(
                replace(self._transport, loseConnection=self.closeAsked)
            )

    def _askedAbove(self) -> None:
        self._above.closeAsked()

    def standsOn(self, transport: Any) -> bool:
        return transport is self._tls

    # What the layer beneath calls.

    def peerFin(self) -> None:
        """
        The peer's FIN has come: a handshake under way will not finish.
        """
        self._finArrived()
        self._above.peerFin()

    def _finArrived(self) -> None:
        self._peerGone = True
        if self.handshakeDone:
            self.truncated = not (self.closeNotifyReceived or self._above.discards)
        elif self._closing:
            self.failed |= self._unencrypted > 0
            self._shutBeneath()
        else:
            # The peer may be a health check that only connects and closes.  But it
            # may also have wanted an answer, and has got none.
            self.failed = True

    def closeAsked(self) -> None:
        if self._lost:
            return
        # TimeoutProtocol calls this when its timer has fired.  Its write would then
        # raise, because a write resets that timer.
        cancel = getattr(self._transport, "cancelTimeout", None)
        if cancel is not None:
            cancel()
        if self.failed:
            self._above.tlsFailed()
        else:
            self._above.closeAsked()

    def losing(self, reason: Failure) -> Failure:
        if not reason.check(ConnectionDone, ConnectionLost):
            # The application has raised, and is given no more data.
            self._deaf = True
        return super().losing(reason)

    # What the layer above calls.

    def halfClose(self, reading: bool, now: bool = False) -> None:
        """
        Send close_notify behind all that was written, and then end our direction
        beneath.  Before the handshake is done, close_notify cannot be sent.  What
        was written waits for the handshake; if nothing was written, nothing can be
        truncated, and no close_notify is needed.

        @param reading: the application goes on reading, so finish the handshake.
        """
        self._closing = True
        waiting = not self._peerGone and (reading or self._unencrypted > 0)
        if self.failed or not (self.handshakeDone or waiting):
            self._shutBeneath()
        elif self.handshakeDone or self._unencrypted:
            type(self._tls).loseConnection(self._tls)

    def _shutBeneath(self) -> None:
        if not self._shut:
            self._shut = True
            self._lower.halfClose(not self._above.discards)

    def close(self, bothDone: bool = False) -> None:
        # Both directions of TLS have ended, but those of TCP may not have.
        self._closeLater(self._lower.close)

    drop = close

    def letGo(self) -> None:
        self._closeLater(self._lower.letGo)

    def _closeLater(self, close: Callable[[], object]) -> None:
        # Twisted's TLS fails if its connection is lost while it reads.
        self._deaf = not self.truncated
        if self._closingLater is None:
            self._closingLater = self.clock.callLater(0, self._close, close)

    def _close(self, close: Callable[[], object]) -> None:
        self._closingLater = None
        close()

    def reset(self) -> None:
        self._silence()
        super().reset()

    def _silence(self) -> None:
        """
        Deliver nothing more, and send nothing more.
        """
        self._stopTimer()
        self._deaf = self._shut = True

    def discard(self, paused: bool) -> None:
        if self._closing and not self._shut:
            self.halfClose(False)  # the handshake is not needed any more
        super().discard(paused)

    def skip(self, small: bool) -> None:
        pass  # TLS has to see each byte

    @property
    def _unencrypted(self) -> int:
        return unencryptedBytes(self._tls)

    def unsent(self) -> int:
        return super().unsent() + self._unencrypted

    def written(self, finSent: bool) -> Optional[int]:
        written = super().written(finSent)
        return None if written is None else written - self.closeNotifySize

    def hangsUp(self, owed: Optional[int]) -> bool:
        # A peer that has closed its socket answers our close_notify with RST.
        return owed == 0 or super().hangsUp(owed)

    def abandon(self) -> None:
        self._deaf = not self.truncated
        super().abandon()

    def owed(self, count: int) -> int:
        # Our close_notify is not the application's.  A peer that has already closed
        # its socket answers it with RST.
        return super().owed(max(0, count - self.closeNotifySize))

    def judge(self, outcome: Outcome) -> Outcome:
        outcome = super().judge(outcome)
        if self.failed and outcome in _ENDS:
            return Outcome.TLS_FAILED
        if self.truncated and outcome in (Outcome.CLEAN, Outcome.RESET_BY_PEER):
            return Outcome.TRUNCATED
        return outcome

    def closeNotify(self) -> tuple[Optional[bool], Optional[bool]]:
        sent = self.closeNotifySent and self.unsent() == 0
        return sent, self.closeNotifyReceived

    def detach(self) -> None:
        self._stopTimer()
        later, self._closingLater = self._closingLater, None
        if later is not None:
            later.cancel()
        for replaced in reversed(self._replaced):
            replaced.restore()
        super().detach()
        # If a program keeps a failure, its traceback keeps this object, which must
        # not keep the connection.
        del self._tls, self._transport, self._connection
        del self._doHandshake, self._recv, self._shutdownTLS, self._bioShutdown
        self._replaced = []

    # The bound on the handshake.

    def watchHandshake(self) -> None:
        """
        Bound the handshake, from now on.
        """
        limit = self.policy.handshakeTimeout
        if self._timer is None and limit is not None and not self._deaf:
            # The limit is waited for in two halves, because the reactor's clock is
            # the wall clock, and a step of it uses up no more than one half.
            self._timer = self.clock.callLater(limit / 2, self._isHalf, limit / 2)

    def _isHalf(self, left: float) -> None:
        self._timer = self.clock.callLater(left, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._above.handshakeExpired()

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # What TLSMemoryBIOProtocol calls in the place of OpenSSL.

    def _handshakes(self) -> None:
        try:
            self._doHandshake()
        except WantReadError:
            self.watchHandshake()
            raise
        except Error:
            self._fail()
            raise
        self.handshakeDone = True
        self._stopTimer()
        if self._closing and not self._tls.disconnecting:
            # TLSMemoryBIOProtocol.loseConnection would abort, because it takes the
            # handshake for unfinished.
            self._closeNotifyIsDue()

    def _fail(self) -> None:
        self._stopTimer()
        self.failed = True
        self._ignoreMore()

    def _ignoreMore(self) -> None:
        # OpenSSL would keep what arrives for ever.
        self._replaced.append(replace(self._connection, bio_write=self._ignored))

    def _ignored(self, data: bytes) -> int:
        self._above.discarded(len(data))
        return len(data)

    def _receives(self, size: int) -> bytes:
        if not self._deaf:
            try:
                return self._recv(size)
            except ZeroReturnError:
                if not self.closeNotifyReceived:
                    self.closeNotifyReceived = True
                    # "Any data received after a closure alert has been
                    # received MUST be ignored", RFC 8446, 6.1.
                    self._ignoreMore()
                    self._above.peerFin()
            except WantReadError:
                raise
            except Error:
                if not self._peerGone:  # else FIN has come without close_notify
                    self._fail()
                raise
        # Twisted takes this for "nothing to read for now".
        raise WantReadError

    def _lostBeneath(self) -> None:
        """
        The connection beneath is lost.
        """
        if not self.tellsFin:
            self._finArrived()  # the layer beneath does not tell of FIN
        self._lost = self._peerGone = True
        self._bioShutdown()

    def _closeNotifyIsDue(self) -> bool:
        """
        All that was written is encrypted: our close_notify is due.

        @return: C{False}: Twisted is not to close beneath.
        """
        if self._closing and not self._shut:
            with contextlib.suppress(Error):
                self._shutdownTLS()
            state = self._connection.get_shutdown()
            self.closeNotifySent = bool(state & SENT_SHUTDOWN)
            with contextlib.suppress(WantReadError):
                while True:
                    alert = self._connection.bio_read(_RECORDS)
                    self.closeNotifySize += len(alert)
                    self._transport.write(alert)
            self._shutBeneath()
        return False


__all__ = ["TLS"]
