"""
How a connection ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from time import time
from typing import Optional

from twisted.internet.error import ConnectionAborted
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from .machine import State


class Outcome(Enum):
    """
    How a connection ended, in one word.
    """

    CLEAN = "clean"  #: both FINs seen, all bytes acknowledged (as far as known)
    LINGER_EXPIRED = "linger expired"  #: FIN sent, the peer never sent its own
    FLUSH_EXPIRED = "flush expired"  #: reset: no progress within the policy
    DEADLINE_EXPIRED = "deadline expired"  #: reset at C{terminate}'s deadline
    ABORTED = "aborted"  #: reset by C{abortConnection}
    RESET_BY_PEER = "reset by peer"  #: RST, or the kernel gave up on the peer
    TRUNCATED = "truncated"  #: TLS: FIN without close_notify while we were reading
    TLS_FAILED = "TLS failed"  #: no handshake, no verification, or no TLS at all
    CLOSED = "closed"  #: by C{closeConnection}, without waiting for anything
    TAKEN = "taken"  #: ended in order, and the application has taken the socket
    LOST = "lost"  #: closed from outside: the reactor stopped, or an exception

    __hash__ = object.__hash__  # Enum's own is Python code


class Initiator(Enum):
    """
    Who asked for the end first.
    """

    LOCAL = "local"
    PEER = "peer"


_STAGES = {State.FLUSHING: "flush", State.LINGERING: "linger"}
_PEER_FIN = "FIN from the peer"
_RESET = frozenset(
    [
        Outcome.FLUSH_EXPIRED,
        Outcome.DEADLINE_EXPIRED,
        Outcome.ABORTED,
        Outcome.RESET_BY_PEER,
    ]
)


@dataclass(frozen=True)
class Termination:
    """
    The report on one ended connection.

    @ivar outcome: how it ended.
    @ivar initiator: who asked for the end first.
    @ivar delivered: has the peer's TCP acknowledged all bytes written?
        C{None} where the kernel cannot say.  An acknowledgement says that the
        peer's kernel has the bytes, not that the peer's program read them.
    @ivar bytesUnacknowledged: bytes written and not acknowledged, including those
        that never left this process; C{None} where unknown.
    @ivar bytesDiscarded: bytes that arrived after C{loseConnection}, or after the
        end of TLS.
    @ivar writesDropped: calls of C{write} and C{writeSequence} that came after
        the end was asked for with no work in flight.
    @ivar seconds: seconds spent in each state.
    @ivar reason: the reason that C{connectionLost} was given.
    @ivar closeNotifySent: has our close_notify left this process, behind all
        that was written?  C{None} without TLS.
    @ivar closeNotifyReceived: has the peer's close_notify come?  If not, an attacker
        who forged a FIN may have cut off what was received (RFC 8446, 6.1): it is
        complete only if the protocol above TLS says so.
    @ivar peerFin: seconds from the begin of the connection until the peer's FIN
        was read; C{None} if it was not, or where the transport cannot tell.
    @ivar bytesAfterPeerFin: bytes written after the peer's FIN; over TLS, encrypted
        bytes.  0 says that a peer that half-closed and waited has got nothing more:
        perhaps an answer comes from a Deferred that the application does not track.
        C{None} where this is not known.
    """

    outcome: Outcome
    initiator: Initiator
    delivered: Optional[bool]
    bytesUnacknowledged: Optional[int]
    bytesDiscarded: int
    writesDropped: int
    seconds: Mapping[State, float]
    reason: Failure
    closeNotifySent: Optional[bool] = None
    closeNotifyReceived: Optional[bool] = None
    peerFin: Optional[float] = None
    bytesAfterPeerFin: Optional[int] = None

    @property
    def timeline(self) -> list[tuple[float, str]]:
        """
        What happened when, in order: seconds from the begin of the connection,
        and C{"flush"} (an end was asked for), C{"FIN"} (ours is out),
        C{"linger"} (waiting for the peer), C{"FIN from the peer"}, and
        C{"closed"} or C{"reset"}.
        """
        now = 0.0
        found: list[tuple[float, str]] = []
        before = State.OPEN
        for state, spent in self.seconds.items():  # in the order of entering
            if before is State.FLUSHING:
                found.append((now, "FIN"))
            if state in _STAGES:
                found.append((now, _STAGES[state]))
            before = state
            now += spent
        if self.peerFin is not None and self.initiator is Initiator.PEER:
            found.insert(0, (self.peerFin, _PEER_FIN))
        elif self.peerFin is not None:
            found.append((self.peerFin, _PEER_FIN))
            found.sort(key=lambda stage: stage[0])
        reset = self.outcome in _RESET or self.reason.check(ConnectionAborted)
        return [*found, (now, "reset" if reset else "closed")]

    @property
    def summary(self) -> str:
        """
        Everything but the times, in words.
        """
        delivered = {
            True: "delivered",
            False: "NOT delivered",
            None: "delivery unknown",
        }
        end = f"{self.outcome.value}, by {self.initiator.value}"
        if self.outcome is Outcome.LOST:
            end += f", {type(self.reason.value).__name__}"
        parts = [
            end,
            delivered[self.delivered],
        ]
        for count, what in (
            (self.bytesUnacknowledged, "bytes unacknowledged"),
            (self.bytesDiscarded, "bytes discarded"),
            (self.writesDropped, "writes dropped"),
        ):
            if count:
                parts.append(f"{count} {what}")
        for seen, what in (
            (self.closeNotifySent, "no close_notify sent"),
            (self.closeNotifyReceived, "no close_notify received"),
        ):
            if seen is False:
                parts.append(what)
        return "; ".join(parts)

    def __str__(self) -> str:
        spent = ", ".join(
            f"{state.value} {seconds:.3f} s" for state, seconds in self.seconds.items()
        )
        return f"{self.summary} ({spent})"


def logEnd(peer: object, report: Termination) -> None:
    """
    Log how a connection ended.

    This does not call C{Logger.info}, because that sorts the names of all levels at
    each call, which takes longer than the rest of this function, and every connection
    is logged once.
    """
    _log.observer(
        {
            "log_logger": _log,
            "log_level": _INFO,
            "log_namespace": _NAMESPACE,
            "log_source": None,
            "log_format": "{peer}: {report}",
            "log_time": time(),
            "peer": peer,
            "report": report,
            "outcome": _NAMES[report.outcome],
        }
    )


_NAMESPACE = "twisted_term.transport"
_log = Logger(namespace=_NAMESPACE)
_INFO = LogLevel.info
_NAMES = {outcome: outcome.name for outcome in Outcome}

__all__ = ["Initiator", "Outcome", "State", "Termination", "logEnd"]
