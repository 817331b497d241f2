"""
What a connection promises, in terms of what has happened, and not of the machine's
states.  Generated inputs drive the state machine, and these rules check each step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from twisted_term.connection.machine import STEPS, Input, Node, Output, State

_TIMERS = {Output.FLUSH, Output.WATCH_HALF_CLOSED, Output.LINGER, Output.AWAIT_ACK}
_PEER_FIN = (Input.PEER_FIN, Input.PEER_FIN_HALF, Input.PEER_GONE)
#: After these the peer cannot receive any more what work in flight would send.
_NO_MORE_WORK = (Input.PEER_GONE, Input.TLS_FAILED)
_CLOSING = (Input.LOSE, Input.TLS_FAILED)
_LEAVES = (Input.MAY_CLOSE, Input.CLOSE_EXPIRED, Input.TAKEN)


class Rules:
    """
    @ivar asking: the application is asked how the end is to be.
    @ivar asked: somebody has asked for an end: the application, or a peer
        whose FIN finds a protocol that cannot half-close.
    @ivar closing: the application has closed, and not only half-closed.
    @ivar finAsked: FIN may go out, for the work in flight is done.
    @ivar finSent: our FIN is out.
    @ivar peerFin: the peer's FIN has been seen.
    @ivar leaving: only the application is still awaited.
    @ivar cause: the input that has caused the end.
    """

    def __init__(self) -> None:
        self.asking = self.asked = self.closing = False
        self.finAsked = self.finSent = self.peerFin = self.leaving = False
        self.cause: Optional[Input] = None
        self.end: Optional[State] = None

    @property
    def state(self) -> State:
        """
        What the connection must be called.
        """
        if self.end is not None:
            return self.end
        if not self.asked:
            return State.FLUSHING if self.asking else State.OPEN
        if not self.finSent:
            return State.FLUSHING
        # RFC 9293, section 3.6: after our FIN, we may still receive.
        waits = self.closing or self.peerFin
        return State.LINGERING if waits else State.HALF_CLOSED

    @property
    def _waitsFor(self) -> object:
        return self.asked and self.state, self.peerFin and self.finSent

    def _ends(self, event: Input) -> Optional[State]:
        if event in (Input.ABORT, Input.DEADLINE, Input.HANDSHAKE_EXPIRED):
            return State.ABORTED
        if event is Input.FLUSH_EXPIRED and self.state is not State.OPEN:
            return State.ABORTED
        if event in (Input.LOST, Input.CLOSE) or (self.leaving and event in _LEAVES):
            return State.CLOSED
        return None

    def _isDone(self, event: Input) -> bool:
        """
        Is nothing awaited any more?
        """
        awaited = Input.ACKNOWLEDGED if self.peerFin else Input.LINGER_EXPIRED
        lingering = self.state is State.LINGERING and not self.leaving
        return lingering and event is awaited

    def _outputs(self, event: Input) -> set[Output]:
        """
        What must be done, timers apart, as it stands before C{event}.
        """
        end = self._ends(event)
        if end is not None:
            if event is Input.LOST:
                return set()
            if event is Input.CLOSE:
                return {Output.DROP}
            if event is Input.TAKEN:
                return {Output.LET_GO}
            return {Output.RESET if end is State.ABORTED else Output.CLOSE}
        if self._isDone(event):
            return {Output.ASK_CLOSE}
        if event is Input.WORK_DONE and self.asked and not self.finSent:
            return set() if self.finAsked else {Output.SEND_FIN}
        if event in _PEER_FIN and self.peerFin:  # TLS tells of two
            return set()
        working = not self.finAsked and not self.finSent
        found = set()
        if event in _NO_MORE_WORK and working:
            found.add(Output.STOP_WORK)
        if self.closing:  # the application is told of nothing more
            return found
        if event in _CLOSING and not self.peerFin:
            found.add(Output.DISCARD)
        if event is Input.FIN_SENT and self.asked and not self.finSent:
            found.add(Output.TELL_WRITE_LOST)
        if event is Input.PEER_FIN_HALF:
            found.add(Output.TELL_READ_LOST)
        return found

    def _begins(self, event: Input) -> bool:
        """
        Is it the first time that an end is asked for which may take its time?
        """
        if self.end is not None or event is Input.PEER_FIN_HALF:
            return False
        asks = event is Input.LOSE_WRITE or event in _CLOSING
        return asks or (event in _PEER_FIN and not self.peerFin)

    def _watches(self, event: Input) -> bool:
        """
        The peer has ended its stream, and may wait for the end of ours.
        """
        reads = event in (Input.PEER_FIN, Input.PEER_FIN_HALF)
        return reads and not (self.peerFin or self.finAsked or self.finSent)

    def _happened(self, event: Input) -> None:
        self.end = self._ends(event)
        if self.end is not None:
            self.cause = event
        elif self._isDone(event):
            self.leaving = True
        elif event is Input.LOSE_WRITE:
            self.asked = True
        elif event in _CLOSING:
            self.asked = self.closing = True
        elif event is Input.WORK_DONE:
            self.finAsked = self.finAsked or self.asked
        elif event is Input.FIN_SENT:
            self.finSent = self.asked
        elif event in _PEER_FIN and not self.peerFin:
            self.peerFin = True
            if event is not Input.PEER_FIN_HALF:
                self.asked = True

    def check(self, node: Node, event: Input, meanwhile: Iterable[Input] = ()) -> Node:
        """
        Take one step, and compare.

        @param meanwhile: what happens while the application is asked how the end
            is to be, if it is.
        @raise AssertionError: if the machine does otherwise.
        @return: the machine's next node.
        """
        if not (self.asking or self.asked) and self._begins(event):
            node = self._asks(node, event)
            for other in meanwhile:
                node = self.check(node, other)
        after, found = STEPS[node, event]
        outputs = set(found)
        told = (node, event, after, found)
        assert len(outputs) == len(found), told
        if self.end is not None:
            assert (after, found) == (node, ()), told
            return after
        expected = self._outputs(event)
        assert (Output.WATCH_PEER in outputs) == self._watches(event), told
        outputs.discard(Output.WATCH_PEER)
        before = self._waitsFor
        self._happened(event)
        assert after.state is self.state, told
        assert outputs - _TIMERS == expected, told
        if self.end is not None:
            assert not outputs & _TIMERS, told
            return after
        assert after.peerDone == self.peerFin, told
        # Every wait is bounded.
        changed = before != self._waitsFor and not self.leaving
        bounded = changed and self.state is not State.OPEN
        bounded = bounded or Output.STOP_WORK in outputs
        assert bool(outputs & _TIMERS) == bounded, told
        if self.asked:
            assert STEPS[after, Input.FLUSH_EXPIRED][0].ended, told
        return after

    def _asks(self, node: Node, event: Input) -> Node:
        """
        The application is asked how, before anything else happens.
        """
        after, found = STEPS[node, event]
        told = (node, event, after, found)
        self.asking = True
        assert found == (Output.ASK_HOW,), told
        assert after.asking and after.sending and not after.working, told
        assert after.state is self.state, told
        assert (after.peerDone, after.closing) == (self.peerFin, False), told
        return after


__all__ = ["Rules"]
