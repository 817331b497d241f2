"""
The shell around the machine: it turns events into inputs, and holds the state that
the outputs (L{twisted_term.connection.outputs}) need.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from .._addresses import peerText
from .._waiters import Waiters
from ..applications import conversationOf, nobodyKnows, stands
from ..interfaces import ITerminationListener
from ..policy import TerminationPolicy
from . import draining, verdict
from .beneath import ground, overTLS
from .beneath.kernel import SendQueue
from .ending import Ending
from .gate import Gate, isGate
from .hook import hookOf
from .machine import Input, Node
from .outputs import ASKED, QUIET, UNASKED, stopProducer
from .placing import Intercepted, moveIn, takePlace
from .report import Initiator, Outcome, Termination, logEnd

_log = Logger()
_DONE = Failure(CONNECTION_DONE)
#: A drain waits this many turns of the reactor, so that what has arrived is read.
_LOOKS = 3


class Connection:
    """
    One connection.  It connects the transport that the application has, the gate
    before the application, and the layers beneath.

    @ivar transport: the transport that the application has.
    @ivar beneath: the layers beneath, a L{twisted_term.connection.beneath.Beneath}.
    @ivar gate: the gate before the application; C{None} after the end.
    @ivar holds: how many holds there are.
    @ivar node: the node at which the machine is.
    @ivar since: when the connection began, on its clock.
    @ivar producer: the registered producer, or C{None}.
    @ivar readPaused: has the application paused reading?
    @ivar ending: the state of the end; C{None} before the end has begun.
    @ivar calls: the functions that are called with the report.
    """

    __slots__ = (
        "_intercepted",
        "_waiting",
        "beneath",
        "calls",
        "clock",
        "ending",
        "gate",
        "holds",
        "node",
        "policy",
        "producer",
        "readPaused",
        "since",
        "transport",
    )

    def __init__(
        self, transport: Any, wrapped: Any, policy: TerminationPolicy, clock: Any
    ) -> None:
        """
        @param wrapped: the transport that C{transport} stands in for.
        @param clock: C{None} for the wrapped transport's reactor, or else the
            global one.
        """
        self.transport = transport
        self.beneath = below = ground(wrapped)
        clock = clock or below.clock
        if clock is None:
            from twisted.internet import reactor

            clock = reactor
        self.policy = policy
        self.clock: IReactorTime = clock
        self.since = clock.seconds()
        self.node = Node.OPEN
        self.producer: Any = None
        self.readPaused = False
        self.ending: Optional[Ending] = None
        self.holds = 0
        self._waiting: Optional[Waiters[Termination]] = None
        self._intercepted: Optional[Intercepted] = None
        self.gate: Any = None
        self.calls: tuple[Callable[[Termination], object], ...] = ()

    def open(self, wrapped: Any, gate: Gate, placed: bool) -> None:
        """
        Stand between the transport and the application.

        @param placed: the transport, or the wrapper around it, has the gate for its
            protocol already.
        """
        self.gate = gate
        if not placed and not (self.beneath.tellsFin and takePlace(gate, wrapped)):
            self._intercepted = Intercepted(gate)
        gate.opened(self)
        if issubclass(type(wrapped), ProtocolWrapper):
            self.beneath = overTLS(self.beneath, wrapped)
            self.beneath.attach(self)
        else:
            direct = getattr(wrapped, "protocol", None) is gate
            self.beneath.attach(self, plain=direct)

    def startTLS(self, start: Callable[[], None], wrapped: Any) -> None:
        """
        Let C{start} add TLS to the layers beneath.  From then on the two ends of
        the connection are those of TLS.
        """
        start()
        below = self.beneath
        below = self.beneath = overTLS(below, getattr(wrapped, "protocol", None))
        below.attach(self)
        below.watchHandshake()

    @property
    def protocol(self) -> Any:
        """
        The application's protocol; C{None} after the end.
        """
        return None if self.gate is None else self.gate.application

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        gate = self.gate
        if gate is not None:
            # A transport whose protocol is replaced calls only the new one.
            if self.beneath.tellsFin and moveIn(gate, self.transport.wrapped):
                self._passThrough()
            # A tunnel sets the protocol that an inner factory has built, and that
            # may be a gate.
            gate.application = protocol.application if isGate(protocol) else protocol
            if self.producer is not None and stands(self.producer):
                # The previous protocol has registered this producer, and would
                # unregister it only at its own end.
                self.transport.unregisterProducer()

    def _passThrough(self) -> None:
        """
        From now on, only the gate calls the application.
        """
        intercepted, self._intercepted = self._intercepted, None
        if intercepted is not None:
            intercepted.restore()

    # The machine.

    def input(self, event: Input, quiet: bool = False) -> None:
        """
        Give the machine an input, and perform its outputs.

        @param quiet: the answers to the questions that the machine would ask are
            known, see L{machine.QUIET}.
        """
        before, ending = self.node, self.ending
        if ending is None:
            if UNASKED[before][event][0] is before:
                return
            ending = self.ending = Ending(self, event)
            quiet = self._begins(ending)
            if self.node is not before:  # by who was asked
                return
        steps = QUIET if quiet else UNASKED if ending.hook is None else ASKED
        after, noted, seals, outputs = steps[before][event]
        if after is not before:
            if after.ended:
                if ending.known is None:
                    ending.known = verdict.askKernel(self)  # before the socket is gone
                if ending.checking is not None:
                    self._stopChecking()
            self.node = after
            if noted:
                ending.enter(before, after, event)
            if seals:
                self.transport.seal()
        for output in outputs:
            # An output may call the application, and the application may call
            # this connection.  If that call has moved the machine, the other
            # outputs of this step are out of date.
            if self.node is not after:
                break
            output(self)
        if after.asking and not before.asking:
            # The application has been asked, and now the input takes effect.
            self.input(event)

    def _begins(self, ending: Ending) -> bool:
        """
        An end begins.

        @return: C{True} if the application has no hook, and no work is in flight.
        """
        gate = self.gate
        if nobodyKnows(gate.application, gate.builder()):
            return self.holds == 0 and self.producer is None
        ending.hook = hookOf(gate)
        return ending.hook is None and not self.works()

    def asks(self, event: Input) -> None:
        """
        The application has asked for an end.  If it asks while work is in flight,
        that work is looked for at once, and not in the next turn of the reactor.
        """
        self.input(event)
        if self.node.working:
            self.checkWork()

    def expectEnd(self, seconds: float) -> None:
        """
        Reset if the end that was asked for does not come within so many seconds.
        """
        if not self.node.ended:
            assert self.ending is not None
            self.ending.expectEnd(seconds)

    # What the layers beneath call.

    def peerFin(self) -> None:
        node = self.node
        if node is Node.LINGERING:
            assert self.ending is not None
            quiet = self.ending.hook is None and verdict.settled(self)
            self.input(Input.PEER_FIN, quiet)
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self.input(Input.PEER_FIN_HALF)
        elif node.sending and self._peerHasGone():
            self.input(Input.PEER_GONE)
        else:
            self.input(Input.PEER_FIN)

    def _peerHasGone(self) -> bool:
        means = self.policy.peerFin
        return means == "gone" or (means == "ask" and self.askConversation("peerFin"))

    def finSent(self) -> None:
        self.input(Input.FIN_SENT)

    def closeAsked(self) -> None:
        self.asks(Input.LOSE)

    def tlsFailed(self) -> None:
        # With a lingering close the peer receives the TLS alert, which says
        # what is wrong.
        self.input(Input.TLS_FAILED)

    def handshakeExpired(self) -> None:
        self.input(Input.HANDSHAKE_EXPIRED)

    @property
    def discards(self) -> bool:
        """
        Are bytes that arrive dropped?
        """
        return self.node.closing

    def arrived(self, count: int) -> None:
        if self.ending is not None:
            self.ending.arrived()

    def discarded(self, count: int) -> None:
        ending = self.ending
        if ending is None:
            return
        if not ending.bytesDiscarded:
            # Most peers send nothing more.  This one does, so it is worth while to
            # read without a copy.
            self.beneath.skip(self.policy.lingerBytes is not None)
        ending.bytesDiscarded += count
        ending.arrived()
        limit = self.policy.lingerBytes
        if (
            limit is not None
            and ending.bytesDiscarded > limit
            and self.node is Node.LINGERING
        ):
            self.input(Input.LINGER_EXPIRED)

    # Work in flight.

    def hold(self) -> bool:
        """
        @return: C{False} if nothing can be held any more.
        """
        if not self.node.sending:
            return False
        self.holds += 1
        return True

    def released(self) -> None:
        """
        One hold less.
        """
        self.holds -= 1
        self.workMayBeDone()

    def workMayBeDone(self) -> None:
        """
        Look for work in flight after this call.  When one piece of work is done,
        the application may begin the next one in the same call: the next of
        several files, or a write by a callback.
        """
        if self.node.working:
            assert self.ending is not None
            if self.ending.checking is None:
                self.ending.checking = self.clock.callLater(0, self._check)

    def _check(self) -> None:
        assert self.ending is not None
        self.ending.checking = None
        self.checkWork()

    def checkWork(self) -> None:
        """
        Look for work in flight now.
        """
        if self.node.working and not self.works():
            self._stopChecking()
            self.input(Input.WORK_DONE)

    def works(self) -> bool:
        """
        Is work in flight?
        """
        return self.holds > 0 or self.askConversation("inFlight")

    def askConversation(self, what: str, *arguments: object) -> bool:
        """
        Ask the conversation of the application's protocol.
        """
        ending = self.ending
        known = None if ending is None else ending.conversation
        try:
            if known is None:
                known = conversationOf(self.protocol, self.producer)
            return bool(getattr(known, what)(self.transport, *arguments))
        except Exception:
            _log.failure("{what} of {known}", what=what, known=repr(known))
            return False

    def probe(self) -> None:
        """
        Find out whether a peer that has sent FIN has gone.
        """
        if self.policy.peerFin == "ask":
            self.askConversation("probe")

    def _stopChecking(self) -> None:
        assert self.ending is not None
        call, self.ending.checking = self.ending.checking, None
        if call is not None:
            call.cancel()

    def lingers(self) -> bool:
        """
        Is the peer's FIN awaited after all bytes are acknowledged?
        """
        linger = self.policy.linger
        if linger != "on":
            return linger == "always"
        ending = self.ending
        assert ending is not None
        return (
            ending.bytesDiscarded > 0
            or self.readPaused
            or self.beneath.unread()
            or self.askConversation("expectsMore")
        )

    # What the kernel knows.

    def queue(self) -> Optional[SendQueue]:
        """
        What the kernel knows of what was sent.
        """
        return self.beneath.queue(self.node.finSent)

    def unsent(self) -> int:
        """
        Bytes that were written and are still in this process.
        """
        return self.beneath.unsent()

    def written(self, node: Node) -> Optional[int]:
        """
        How many bytes were written in all, as far as known.

        @param node: the node of the machine at that time; it says whether the
            kernel's count includes our FIN.
        """
        return self.beneath.written(node.finSent)

    # The end.

    def vanishNow(self) -> None:
        """
        Do what L{vanished} does, as a delayed call of the reactor's.
        """
        assert self.ending is not None
        self.ending.checking = None
        self.vanished()

    def vanished(self) -> None:
        """
        The connection has gone, but no event has said so.
        """
        if self.node.leaving:  # the connection has ended in order
            self.input(Input.CLOSE_EXPIRED)
        else:
            self.beneath.abandon()

    def losing(self, reason: Failure) -> Failure:
        if not self.node.ended:
            reason = self._lost(reason)
        if self.producer is not None:
            stopProducer(self)
        return reason

    def _lost(self, reason: Failure) -> Failure:
        if reason.check(ConnectionLost):
            # TCP_INFO reads the state before it waits for the socket's lock
            # (tcp_get_info, net/ipv4/tcp.c), so that the first one may miss a
            # reset which the kernel is still handling; the second one sees it.
            self.queue()
        known = verdict.askKernel(self)
        outcome = verdict.outcomeOf(self, reason, known)
        if outcome is Outcome.CLEAN and reason.check(ConnectionLost):
            reason = _DONE
        ending = self.ending
        if ending is None:
            ending = self.ending = Ending(self, Input.LOST)
            if outcome is Outcome.LOST:
                # An exception in this process, or the reactor's stop, is the cause,
                # and not the peer.
                ending.initiator = Initiator.LOCAL
        ending.known, ending.outcome = known, outcome
        if not reason.check(ConnectionDone, ConnectionLost, ConnectionAborted):
            ending.reason = reason
        self.input(Input.LOST)
        return reason

    def finished(self, reason: Failure) -> None:
        """
        The connection has ended.  A second call does nothing.
        """
        if self.ending is not None and self.ending.report is not None:
            return
        if not self.node.ended:
            reason = self._lost(reason)
        ending, below, gate = self.ending, self.beneath, self.gate
        assert ending is not None and ending.outcome is not None
        reason = ending.reason or reason
        outcome = below.judge(ending.outcome)
        report = ending.conclude(reason, outcome, below.closeNotify())
        below.detach()
        application, transport = gate.application, self.transport
        if self._intercepted is not None:
            self._passThrough()
        self.producer = None
        gate.closed()
        try:
            try:
                application.connectionLost(reason)
            finally:
                if ITerminationListener.providedBy(application):
                    application.terminated(report)
        finally:
            logEnd(peerText(transport), report)
            for call in self.calls:
                try:
                    call(report)
                except Exception:
                    _log.failure("{call} has failed", call=call)
            waiting, self._waiting = self._waiting, None
            draining.forget(self)
            # No cycle of references is left, so that the memory is freed without
            # the garbage collector.
            self.transport = self.gate = None
            self.calls = ()
            if waiting is not None:
                waiting.fire(report)

    @property
    def report(self) -> Optional[Termination]:
        """
        The report; C{None} before the end.
        """
        return None if self.ending is None else self.ending.report

    def waiting(self) -> Waiters[Termination]:
        """
        The Deferreds that wait for the report.
        """
        if self._waiting is None:
            self._waiting = Waiters()
        return self._waiting


__all__ = ["Connection"]
