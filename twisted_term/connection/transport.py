"""
The transport that an application writes to: the shell around the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Callable, Optional
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from ..interfaces import ITerminableTransport, ITerminationListener
from ..policy import TerminationPolicy
from .beneath import kernel
from .beneath.discard import deliver, discard
from .ending import Watch
from .gate import Gate, Receiver, bottom, intercept, tellHalfClose
from .machine import Input, Node, Output, State, step
from .replaced import unsentBytes
from .report import Initiator, Outcome, Termination
from .work import Hold, isIdle

_OUTCOMES = {
    Input.ABORT: Outcome.ABORTED,
    Input.DEADLINE: Outcome.DEADLINE_EXPIRED,
    Input.HANDSHAKE_EXPIRED: Outcome.TLS_FAILED,
    Input.FLUSH_EXPIRED: Outcome.FLUSH_EXPIRED,
    Input.LINGER_EXPIRED: Outcome.LINGER_EXPIRED,
}
_BY_PEER = frozenset([Input.PEER_FIN, Input.PEER_FIN_HALF, Input.LOST])

_log = Logger()
_DEFAULT_POLICY = TerminationPolicy()
_DONE = Failure(CONNECTION_DONE)

# directlyProvides is slow; transports of one class provide the same.
_provided: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@implementer(ITerminableTransport)
class TerminatingTransport:
    """
    An L{ITerminableTransport} around a Twisted transport.  It provides what
    the wrapped transport provides, and passes on what it does not change.

    @ivar policy: the limits; may be replaced until the end is asked for.
    @ivar disconnecting: has C{loseConnection} been called?
    """

    disconnecting = False
    _node = Node.OPEN
    _producer: Any = None
    _holds = 0
    _sealed = False
    _readPaused = False
    _tls: Any = None
    _outcome: Optional[Outcome] = None
    _initiator: Optional[Initiator] = None
    _atEnd: Optional[tuple[int, bool]] = None
    _inPeerFin = False
    _finSent = False
    _peerFinAt: Optional[float] = None
    _watch: Optional[Watch] = None
    _deadline: Optional[IDelayedCall] = None
    _checking: Optional[IDelayedCall] = None
    _bytesDiscarded = 0
    _writesDropped = 0
    _seconds: Optional[dict[State, float]] = None
    _waiting: Optional[list[Deferred[Termination]]] = None
    _report: Optional[Termination] = None

    def __init__(
        self,
        wrapped: Any,
        protocol: Any,
        policy: Optional[TerminationPolicy] = None,
        clock: Optional[IReactorTime] = None,
        gate: Optional[Gate] = None,
    ) -> None:
        """
        @param wrapped: the transport; from now on its C{protocol} is ours.
        @param protocol: the application's protocol.
        @param policy: the limits; C{None} for the defaults.
        @param clock: for the timers; C{None} for the wrapped transport's
            reactor, or else the global one.
        @param gate: what C{wrapped} has for a protocol already, if it is one.
        """
        clock = clock or getattr(wrapped, "reactor", None)
        if clock is None:
            from twisted.internet import reactor

            clock = reactor
        assert clock is not None
        self.wrapped = wrapped
        self.policy = policy or _DEFAULT_POLICY
        self._clock = clock
        self._since = clock.seconds()
        self._below = below = bottom(wrapped)
        if gate is None:
            gate = Gate(protocol)
            name = "wrappedProtocol" if below is not wrapped else "protocol"
            setattr(wrapped, name, gate)
            if not self._isDescriptor():
                intercept(protocol, gate)
        gate.transport = self
        self._gate = gate
        self._protocol = protocol
        # Nothing has to be done for a write while the connection is open.
        self.__dict__["write"] = wrapped.write
        self.__dict__["writeSequence"] = wrapped.writeSequence
        self._provide()
        # Twisted closes the socket before it tells the protocol; what the
        # kernel knows of it must be asked before that.
        self._lostBelow = below.connectionLost if self._isDescriptor() else None
        if self._lostBelow is not None:
            below.connectionLost = self._losing
        if below is not wrapped:
            tellHalfClose(wrapped, gate)
            self._takeTLS(wrapped)
        elif IHandshakeListener.providedBy(gate):
            tellHalfClose(wrapped, gate)

    def _takeTLS(self, wrapper: Any) -> None:
        # Who has one has loaded it; nobody else has to.
        if "twisted.protocols.tls" in sys.modules:
            from .beneath.tls import layersOf

            self._tls = layersOf(wrapper, self, self._halfCloseBelow)

    def _provide(self) -> None:
        provided = providedBy(self.wrapped)
        declaration = _provided.get(provided)
        if declaration is None:
            directlyProvides(self, provided, ITerminableTransport)
            _provided[provided] = self.__dict__["__provides__"]
        else:
            self.__provides__ = declaration

    def _isDescriptor(self) -> bool:
        return IHalfCloseableDescriptor.providedBy(self._below)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # not yet there: do not look for it in itself
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __repr__(self) -> str:
        return f"<TerminatingTransport {self.state.value} of {self.wrapped!r}>"

    # What the application asks for.

    @property
    def state(self) -> State:
        return self._node.state

    @property
    def protocol(self) -> Any:
        """
        The application's protocol; may be replaced, as Twisted's can.
        """
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        if self._gate.receiver is self._gate.application:
            self._gate.receiver = protocol
        self._protocol = self._gate.application = protocol

    @property
    def producer(self) -> Any:
        """
        The registered producer, or C{None}.
        """
        return self._producer

    @property
    def bufferSize(self) -> int:
        """
        The wrapped transport's, as Twisted's applications set it.
        """
        return self.wrapped.bufferSize

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self.wrapped.bufferSize = size

    def getPeer(self) -> Any:
        """
        The wrapped transport's; C{None} where it has none, as a process.
        """
        try:
            return self.wrapped.getPeer()
        except (AttributeError, NotImplementedError):
            return None

    def loseWriteConnection(self) -> None:
        """
        See L{ITerminableTransport.loseWriteConnection}.
        """
        self._input(Input.LOSE_WRITE)
        self._checkWork()  # who asks again expects no successor

    def loseConnection(self) -> None:
        """
        See L{ITerminableTransport.loseConnection}.
        """
        self._input(Input.LOSE)
        self._checkWork()

    def abortConnection(self) -> None:
        """
        See L{ITerminableTransport.abortConnection}.
        """
        self._input(Input.ABORT)

    def startTLS(self, *args: Any, **kwargs: Any) -> None:
        """
        See L{twisted.internet.interfaces.ITLSTransport.startTLS}.  From now on
        the two ends of the connection are those of TLS.
        """
        deliver(self._below)
        self.wrapped.startTLS(*args, **kwargs)
        self._provide()
        tls = getattr(self._below, "protocol", None)
        tellHalfClose(tls, self._gate)
        self._takeTLS(tls)
        if self._tls is not None:
            self._tls.watchHandshake()

    def terminate(self, timeout: Optional[float] = None) -> Deferred[Termination]:
        """
        See L{ITerminableTransport.terminate}.
        """
        if timeout is not None:
            if not timeout >= 0:
                raise ValueError(f"timeout={timeout!r}: must be 0 seconds or more")
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        done = self.whenTerminated()
        self.loseConnection()
        if timeout is not None and self._report is None and not self._node.ended:
            self._deadline = self._clock.callLater(timeout, self._deadlineReached)
        return done

    def _deadlineReached(self) -> None:
        self._deadline = None
        self._input(Input.DEADLINE)

    def whenTerminated(self) -> Deferred[Termination]:
        """
        See L{ITerminableTransport.whenTerminated}.
        """
        if self._report is not None:
            return succeed(self._report)
        done: Deferred[Termination] = Deferred()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(done)
        return done

    # Work in flight.

    def hold(self) -> Hold:
        """
        See L{ITerminableTransport.hold}.
        """
        if not self._accepting():
            return Hold(None)
        self._holds += 1
        return Hold(self)

    def track(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """
        See L{ITerminableTransport.track}.
        """
        hold = self.hold()

        def done(result: Any) -> Any:
            hold.release()
            return result

        return deferred.addBoth(done)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Register a producer, which is in flight until it unregisters.  It is
        told to stop at once where nothing can be sent any more.

        @raise RuntimeError: if one is registered.
        """
        if not self._accepting():
            producer.stopProducing()
            return
        first = self._producer is None
        if first:
            self._producer = producer
        try:
            self.wrapped.registerProducer(producer, streaming)
        except BaseException:
            if first:
                self._producer = None
            raise

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        self._producer = None
        self.wrapped.unregisterProducer()
        self._workMayBeDone()

    def stopConsuming(self) -> None:
        """
        The producer is done, and the connection with it.
        """
        self.unregisterProducer()
        self.loseConnection()

    def _accepting(self) -> bool:
        return not self._sealed and not self._node.ended

    def _released(self) -> None:
        self._holds -= 1
        self._workMayBeDone()

    def _workMayBeDone(self) -> None:
        # Whoever is done may have a successor, which comes in the same call:
        # the next of several files, or a write by a callback.
        if self._node.flushing and not self._sealed and self._checking is None:
            self._checking = self._clock.callLater(0, self._checkWork)

    def _working(self) -> bool:
        return self._holds > 0 or (
            self._producer is not None
            and not isIdle(self._producer, self._node.peerDone)
        )

    def _checkWork(self) -> None:
        self._stopChecking()
        if self._node.flushing and not self._sealed and not self._working():
            self._sealed = True
            self._unbindWrites()
            self._input(Input.WORK_DONE)

    def _stopChecking(self) -> None:
        call, self._checking = self._checking, None
        if call is not None and call.active():
            call.cancel()

    def _unbindWrites(self) -> None:
        self.__dict__.pop("write", None)
        self.__dict__.pop("writeSequence", None)

    def write(self, data: bytes) -> None:
        """
        Write; shadowed by the wrapped transport's own C{write} until the end
        was asked for and no work is in flight.  After that, data is dropped,
        counted, and logged once.

        @raise TypeError: if C{data} is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if data:
            self._dropped()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        As C{write}, for several pieces.

        @raise TypeError: if a piece is not bytes.
        """
        chunks = list(iovec)
        for data in chunks:
            if not isinstance(data, bytes):
                raise TypeError("Data must be bytes")
        if any(chunks):
            self._dropped()

    def _dropped(self) -> None:
        if self._report is not None:
            return
        self._writesDropped += 1
        if self._writesDropped == 1:
            _log.warn(
                "a write after the end of {transport} was asked for is dropped;"
                " further ones are counted only",
                transport=self,
            )

    # Reading.

    def pauseProducing(self) -> None:
        """
        Stop delivering data, unless it is being discarded.
        """
        self._readPaused = True
        receiving = self._gate.receiver is self._gate.application
        if receiving or self._node is Node.HALF_CLOSED:
            self.wrapped.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Deliver data again.
        """
        self._readPaused = False
        if not self._node.peerDone:
            self.wrapped.resumeProducing()
        if self._watch is not None:
            self._watch.arrived()  # silence counts anew
        # For an idle producer, this is the sign that it has become so.
        self._workMayBeDone()

    def stopProducing(self) -> None:
        """
        See L{twisted.internet.interfaces.IProducer.stopProducing}.
        """
        self.loseConnection()

    def _arrived(self, count: int, discarded: bool) -> None:
        if discarded:
            self._bytesDiscarded += count
        if self._watch is not None:
            self._watch.arrived()
        limit = self.policy.lingerBytes
        if (
            self._node is Node.LINGERING
            and limit is not None
            and self._bytesDiscarded > limit
        ):
            self._input(Input.LINGER_EXPIRED)

    # The machine.

    def _peerFin(self) -> None:
        if self._tls is not None:
            self._tls.peerFin()
        self._inPeerFin = True
        try:
            self._peerDone()
        finally:
            self._inPeerFin = False

    def _peerDone(self) -> None:
        half = IHalfCloseableProtocol.providedBy(self._protocol)
        self._input(Input.PEER_FIN_HALF if half else Input.PEER_FIN)

    def _input(self, event: Input) -> None:
        before = self._node
        after, outputs = step(before, event)
        if after is not before:
            self._enter(before, after, event)
        for output in outputs:
            # An output may call the application, which may call us: where
            # that has moved the machine on, the rest is out of date.
            if self._node is not after:
                break
            _PERFORM[output](self)

    def _enter(self, before: Node, after: Node, event: Input) -> None:
        self._node = after
        if after.peerDone and not before.peerDone and not after.ended:
            spent = sum(self._seconds.values()) if self._seconds else 0.0
            self._peerFinAt = spent + self._clock.seconds() - self._since
        state = before.state
        if state is not after.state:
            now = self._clock.seconds()
            seconds = self._seconds
            if seconds is None:
                self._seconds = seconds = {}
            seconds[state] = seconds.get(state, 0.0) + now - self._since
            self._since = now
        if self._initiator is None:
            # An exception of ours, or the reactor's end, is not the peer's doing.
            byPeer = event in _BY_PEER and self._outcome is not Outcome.LOST
            self._initiator = Initiator.PEER if byPeer else Initiator.LOCAL
        if after.ended:
            self._stopChecking()
            self._stopWatch()
            self._outcome = _OUTCOMES.get(event, self._outcome)
        if event is Input.LOSE:
            self.disconnecting = True

    def _flush(self) -> None:
        self._startWatch()
        self._checkWork()

    def _tlsFailed(self) -> None:
        """
        Nothing can be sent any more, but for the alert that says why; a
        lingering close sees to it that the peer has that.
        """
        if self._initiator is None:
            self._initiator = Initiator.PEER
        self._sealed = True
        self._unbindWrites()
        self._stopProducer()
        self._input(Input.LOSE)
        self._input(Input.WORK_DONE)

    def _stopProducer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # Twisted would tell it, and not come to an end if that raises.
            self.wrapped.unregisterProducer()
            try:
                producer.stopProducing()
            except Exception:
                _log.failure("{producer} has failed to stop", producer=producer)

    def _startWatch(self) -> None:
        if self._watch is None:
            self._watch = Watch(self, self._clock)
        self._watch.begin()

    def _stopWatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def _vanished(self) -> None:
        """
        The kernel has given the connection up, and no event says so.
        """
        self._below.connectionLost(Failure(ConnectionLost()))

    def _sendFin(self) -> None:
        if self._producer is not None:
            # An idle one: Twisted would go on asking it for more.
            self._producer = None
            self.wrapped.unregisterProducer()
        if self._tls is not None:
            self._tls.halfClose(not self.disconnecting)  # and then what is below
        else:
            self._halfCloseBelow()

    def _halfCloseBelow(self) -> None:
        if self._isDescriptor():
            self._below.loseWriteConnection()
        else:
            # No FIN of its own here: the wrapped transport's own flush and
            # close is all there is, and has no bound here.
            self._stopWatch()
            self._closeBelow()

    def _closeBelow(self) -> None:
        if self._tls is not None:
            # Twisted's TLS does not bear to be lost while it reads.
            self._clock.callLater(0, self._tls.closeBeneath)
        else:
            self.wrapped.loseConnection()

    def _discard(self) -> None:
        self._gate.receiver = Receiver(self, None)
        if self._tls is not None and self._sealed:
            self._tls.halfClose()  # nobody waits for the handshake any more
        # A peer that is still sending must neither deadlock our flush nor
        # find a closed socket, so reading goes on, paused or not.
        if self._isDescriptor():
            self.wrapped.resumeProducing()
            if self._below is self.wrapped and self._tls is None:
                small = self.policy.lingerBytes is not None
                discard(self._below, lambda count: self._arrived(count, True), small)

    def _watchHalfClosed(self) -> None:
        self._gate.receiver = Receiver(self, lambda: self._gate.application)
        self._startWatch()

    def _awaitAck(self) -> None:
        queue = self._sendQueue()
        if queue is None or not queue.unacknowledged:
            if queue is not None:
                self._atEnd = self._unsent(), queue.gone
            self._input(Input.ACKNOWLEDGED)
        else:
            self._startWatch()

    def _tellWriteLost(self) -> None:
        application = IHalfCloseableProtocol(self._protocol, None)
        if application is not None:
            application.writeConnectionLost()

    def _tellReadLost(self) -> None:
        application = IHalfCloseableProtocol(self._protocol, None)
        if application is not None:
            application.readConnectionLost()

    def _close(self) -> None:
        self._remember()
        if self._isDescriptor() and (self._tls is None or self._inPeerFin):
            # Both directions have ended: there is nothing left to flush, which
            # is all that loseConnection does (and stdio's not even that).
            self._below.connectionLost(_DONE)
        else:
            self._closeBelow()

    def _reset(self) -> None:
        self._remember()
        skt = self._handle()
        self._gate.receiver = Receiver(self, None)
        if skt is not None:
            kernel.reset(skt)
        if self._tls is not None:
            self._tls.abort()
        abort = getattr(self._below, "abortConnection", None)
        if abort is not None:
            abort()
        else:
            self._closeBelow()

    # What the kernel knows, and the end.

    def _handle(self) -> object:
        return getattr(self.wrapped, "socket", None)

    def _sendQueue(self) -> Optional[kernel.SendQueue]:
        return kernel.sendQueue(self._handle(), self._finSent)

    def _unsent(self) -> int:
        encrypted = unsentBytes(self._below)
        return encrypted if self._tls is None else encrypted + self._tls.unencrypted

    def _remember(self) -> None:
        """
        Keep what the kernel says, once, before the socket is gone.
        """
        if self._atEnd is None:
            queue = self._sendQueue()
            unsent = self._unsent()
            if queue is not None:
                owed = queue.unacknowledged + unsent
                if self._tls is not None:
                    # Nothing that the application has written; and who has
                    # closed already answers it with a reset.
                    owed = max(0, owed - self._tls.closeNotifySize)
                self._atEnd = owed, queue.gone
            if self._tls is not None and unsent:
                self._tls.closeNotifySent = False

    def _losing(self, reason: Failure) -> None:
        if isinstance(reason.value, ConnectionLost):
            # TCP_INFO reads the state before it waits for the socket's lock
            # (tcp_get_info, net/ipv4/tcp.c), so that the first one may miss a
            # reset which the kernel is still handling; the second one sees it.
            self._sendQueue()
        self._remember()
        if self._node.peerDone and not self._node.ended and self._hangsUp():
            reason = _DONE
        self._lost(reason)
        self._stopProducer()
        if self._lostBelow is not None:
            lost, self._lostBelow = self._lostBelow, None
            del self._below.connectionLost
            deliver(self._below)
            lost(reason)

    def _hangsUp(self) -> bool:
        """
        May a loss be no more than the peer's close, with nothing owed to it?
        Who closes over TLS resets what comes later, our close_notify; and a
        UNIX socket hangs up at once (unix_poll, net/unix/af_unix.c).
        """
        if self._atEnd is None:
            return self._unsent() == 0
        return self._tls is not None and self._atEnd[0] == 0

    def _lost(self, reason: Failure) -> None:
        if self._node.ended:
            return
        if isinstance(reason.value, ConnectionDone) and (
            self._node.peerDone or not self._isDescriptor()
        ):
            self._outcome = Outcome.CLEAN
        elif isinstance(reason.value, ConnectionLost) and (
            self._atEnd is None or self._atEnd[1]
        ):
            self._outcome = Outcome.RESET_BY_PEER
        else:
            self._outcome = Outcome.LOST
        self._input(Input.LOST)

    def _finished(self, reason: Failure) -> None:
        self._lost(reason)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        count = None if self._atEnd is None else self._atEnd[0]
        tls, self._tls = self._tls, None
        outcome = self._outcome or Outcome.CLEAN
        self._report = report = Termination(
            outcome=outcome if tls is None else tls.judge(outcome),
            initiator=self._initiator or Initiator.PEER,
            delivered=None if count is None else count == 0,
            bytesUnacknowledged=count,
            bytesDiscarded=self._bytesDiscarded,
            writesDropped=self._writesDropped,
            seconds=self._seconds or {},
            reason=reason,
            closeNotifySent=tls and tls.closeNotifySent,
            closeNotifyReceived=tls and tls.closeNotifyReceived,
            peerFin=self._peerFinAt,
        )
        if tls is not None:
            tls.detach()
        application, told = self._protocol, self._gate.application
        waiting, self._waiting = self._waiting, None
        self._producer = None
        self._unbindWrites()
        try:
            try:
                told.connectionLost(reason)
            finally:
                if ITerminationListener.providedBy(application):
                    application.terminated(report)
        finally:
            _log.info(
                "{peer}: {report}",
                peer=self.getPeer(),
                report=report,
                outcome=report.outcome.name,
            )
            for done in waiting or ():
                done.callback(report)
            # No cycle is left, so that nothing waits for the collector.
            if told is not application:
                del application.dataReceived, application.connectionLost
            self._protocol = self._gate.receiver = self._gate.application = None
            self._gate.transport = None


_PERFORM: dict[Output, Callable[[TerminatingTransport], None]] = {
    Output.FLUSH: TerminatingTransport._flush,
    Output.SEND_FIN: TerminatingTransport._sendFin,
    Output.DISCARD: TerminatingTransport._discard,
    Output.WATCH_HALF_CLOSED: TerminatingTransport._watchHalfClosed,
    Output.LINGER: TerminatingTransport._startWatch,
    Output.AWAIT_ACK: TerminatingTransport._awaitAck,
    Output.TELL_WRITE_LOST: TerminatingTransport._tellWriteLost,
    Output.TELL_READ_LOST: TerminatingTransport._tellReadLost,
    Output.CLOSE: TerminatingTransport._close,
    Output.RESET: TerminatingTransport._reset,
}


__all__ = ["TerminatingTransport"]
