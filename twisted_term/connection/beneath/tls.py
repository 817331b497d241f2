"""
TLS whose two directions end each on its own.

L{twisted.protocols.tls.TLSMemoryBIOProtocol} answers the peer's close_notify
at once and closes, whatever the application has still to write; after its own
it waits for the peer's without a bound; and a C{loseWriteConnection} passes it
by, so that the FIN comes without a close_notify, and the bytes that it has
not encrypted yet are lost.  A L{TLSLayer} stands between it and its OpenSSL
connection, and makes the two close_notify alerts two events (RFC 8446, 6.1):
"this does not have any effect on the read side of the sender's connection".

Only loaded where there is TLS, which the core does not need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, Optional, Protocol

from OpenSSL.SSL import SENT_SHUTDOWN, Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from ...policy import TerminationPolicy
from ..machine import Input
from ..replaced import replaceConnection, unencryptedBytes
from ..report import Outcome

_RECORDS = 1 << 15
#: What an end beneath looks like when TLS has failed.
_ENDS = frozenset([Outcome.CLEAN, Outcome.LINGER_EXPIRED, Outcome.LOST])


class Owner(Protocol):
    """
    What a L{TLSLayer} needs of the transport that it belongs to.
    """

    policy: TerminationPolicy
    disconnecting: bool
    _clock: IReactorTime

    def loseConnection(self) -> None: ...
    def _input(self, event: Input) -> None: ...
    def _peerDone(self) -> None: ...
    def _isDescriptor(self) -> bool: ...
    def _tlsFailed(self) -> None: ...
    def _arrived(self, count: int, discarded: bool) -> None: ...


class TLSLayer:
    """
    What a C{TLSMemoryBIOProtocol} takes for its OpenSSL connection.

    @ivar closeBeneath: close the transport beneath, without more of TLS.
    @ivar handshakeDone: has the handshake come to its end?
    @ivar failed: has TLS given the connection up?
    @ivar truncated: has the peer's FIN come without its close_notify, while the
        application was reading?
    @ivar closeNotifySent: is our close_notify behind what was written?
    @ivar closeNotifySize: the bytes that it takes, the last ones of all.
    @ivar closeNotifyReceived: has the peer's come?
    """

    handshakeDone = False
    failed = False
    truncated = False
    closeNotifySent = False
    closeNotifySize = 0
    closeNotifyReceived = False
    _timer: Optional[IDelayedCall] = None
    _aborted = False
    _closing = False
    _isShut = False
    _peerGone = False
    _lost = False

    def __init__(
        self,
        tls: Any,  # TLSMemoryBIOProtocol, whose methods are replaced
        owner: Owner,
        lower: Optional[TLSLayer],
        halfClose: Callable[[], None],
    ) -> None:
        """
        @param lower: the TLS beneath, if there is one.
        @param halfClose: half-closes what lies beneath all TLS.
        """
        self._tls = tls
        self._owner = owner
        self._connection = connection = tls.getHandle()
        # Whatever is called once for each record goes straight through.
        self.send = connection.send
        self.bio_read = connection.bio_read
        self.bio_write = connection.bio_write
        self._beneath = tls.transport
        self._lower = lower
        if lower is None:
            self.closeBeneath = self._beneath.loseConnection
            self._halfCloseBeneath = halfClose
        else:
            self.closeBeneath = lower.closeBeneath
            self._halfCloseBeneath = lower.halfClose
        replaceConnection(tls, self)
        # Twisted ends the transport beneath when TLS has failed; and somebody
        # who holds either of the two in hand may end it.
        self._beneath.loseConnection = self._endBeneath
        tls.loseConnection = owner.loseConnection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def unencrypted(self) -> int:
        """
        Bytes that were written, and are not encrypted yet.
        """
        return unencryptedBytes(self._tls)

    def halfClose(self, wait: bool = False) -> None:
        """
        close_notify behind all that was written, and then what stands for it
        beneath.  Before the handshake is done none can be sent: what was
        written waits for it, and where nothing was, nothing can be truncated.

        @param wait: the application goes on reading: finish the handshake.
        """
        self._closing = True
        handshaking = not self._peerGone and (wait or self.unencrypted > 0)
        if self.failed or not (self.handshakeDone or handshaking):
            self._shut()
        elif self.handshakeDone or self.unencrypted:
            self._closeTLS()

    def _closeTLS(self) -> None:
        type(self._tls).loseConnection(self._tls)

    def peerFin(self) -> None:
        """
        The peer's FIN has come: no handshake will finish.
        """
        self._peerGone = True
        if self._lower is not None:
            self._lower.peerFin()
        if self.handshakeDone:
            reading = not self._owner.disconnecting
            self.truncated = reading and not self.closeNotifyReceived
            return
        # A probe, perhaps; or there is something that it was to receive.
        self.failed |= not self._closing or self.unencrypted > 0
        if self._closing:
            self._shut()

    def judge(self, outcome: Outcome) -> Outcome:
        """
        What TLS makes of the end of the connection beneath.
        """
        if self._lower is not None:
            outcome = self._lower.judge(outcome)
        if self.failed and outcome in _ENDS:
            return Outcome.TLS_FAILED
        if self.truncated and outcome in (Outcome.CLEAN, Outcome.RESET_BY_PEER):
            return Outcome.TRUNCATED
        return outcome

    def _shut(self) -> None:
        if not self._isShut:
            self._isShut = True
            self._halfCloseBeneath()

    def watchHandshake(self) -> None:
        """
        Bound the handshake, from now on.
        """
        limit = self._owner.policy.handshakeTimeout
        if self._timer is None and limit is not None and not self._aborted:
            self._timer = self._owner._clock.callLater(limit, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._owner._input(Input.HANDSHAKE_EXPIRED)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def abort(self) -> None:
        """
        Deliver nothing more, and send nothing more.
        """
        self._stopTimer()
        self._aborted = self._isShut = True
        if self._lower is not None:
            self._lower.abort()

    def detach(self) -> None:
        """
        The connection is lost: no cycle is left, and no timer.
        """
        self._stopTimer()
        vars(self._beneath).pop("loseConnection", None)
        vars(self._tls).pop("loseConnection", None)
        vars(self).pop("bio_write", None)
        if self._lower is not None:
            self._lower.detach()
        # A failure that somebody keeps keeps this one with its traceback.
        del self._owner, self._tls, self._beneath, self._lower
        del self.closeBeneath, self._halfCloseBeneath

    def _endBeneath(self) -> None:
        if self._lost:
            return
        # A wrapper whose time has run out would stumble over what it writes.
        cancel = getattr(self._beneath, "cancelTimeout", None)
        if cancel is not None:
            cancel()
        if self.failed:
            self._owner._tlsFailed()
        else:
            self._owner.loseConnection()

    def _ignore(self, data: bytes) -> int:
        # OpenSSL would keep it for ever.
        self._owner._arrived(len(data), True)
        return len(data)

    def _fail(self) -> None:
        self._stopTimer()
        self.failed = True
        self.bio_write = self._ignore

    # What TLSMemoryBIOProtocol calls.

    def do_handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except WantReadError:
            self.watchHandshake()
            raise
        except Error:
            self._fail()
            raise
        self.handshakeDone = True
        self._stopTimer()
        if self._closing and not self._tls.disconnecting:
            self.shutdown()  # loseConnection would abort what it takes for undone

    def recv(self, size: int) -> bytes:
        if not self._aborted:
            try:
                return self._connection.recv(size)
            except ZeroReturnError:
                if not self.closeNotifyReceived:
                    self.closeNotifyReceived = True
                    # "Any data received after a closure alert has been
                    # received MUST be ignored", RFC 8446, 6.1.
                    self.bio_write = self._ignore
                    self._owner._peerDone()
            except WantReadError:
                raise
            except Error:
                if not self._peerGone:  # else it is the end, without close_notify
                    self._fail()
                raise
        # As far as Twisted is concerned, there is no more to read for now.
        raise WantReadError

    def bio_shutdown(self) -> None:
        """
        The connection beneath is lost.
        """
        if not self._owner._isDescriptor():
            self.peerFin()  # which nobody else has told
        self._lost = self._peerGone = True
        self._connection.bio_shutdown()

    def shutdown(self) -> bool:
        """
        All that was written is encrypted.

        @return: C{False}: it is not to close beneath.
        """
        if self._closing and not self._isShut:
            with contextlib.suppress(Error):
                self._connection.shutdown()
            self.closeNotifySent = bool(self._connection.get_shutdown() & SENT_SHUTDOWN)
            with contextlib.suppress(WantReadError):
                while True:
                    alert = self.bio_read(_RECORDS)
                    self.closeNotifySize += len(alert)
                    self._beneath.write(alert)
            self._shut()
        return False


def _layers(wrapped: Any) -> Iterator[TLSMemoryBIOProtocol]:
    while isinstance(wrapped, ProtocolWrapper):
        if isinstance(wrapped, TLSMemoryBIOProtocol):
            yield wrapped
        wrapped = wrapped.transport


def layersOf(
    wrapped: Any, owner: Owner, halfClose: Callable[[], None]
) -> Optional[TLSLayer]:
    """
    Take hold of each TLS among the wrappers from C{wrapped} down.

    @param halfClose: half-closes what lies beneath them all.
    @return: the uppermost; C{None} where there is no TLS.
    """
    layer = None
    for tls in reversed(list(_layers(wrapped))):
        layer = TLSLayer(tls, owner, layer, halfClose)
    return layer


__all__ = ["Owner", "TLSLayer", "layersOf"]
