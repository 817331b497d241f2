"""
The life of a connection: one state machine, without I/O.

A TCP connection is two streams of bytes, and each ends on its own (RFC 9293,
3.6): ours with our FIN, the peer's with the peer's FIN.  So the machine combines
two small ones:

  - B{Ours}, what we send.  It is C{OPEN}; then an end was asked for, and the
    application may say how (C{ASKING}); then work is in flight that still has
    something to send (C{WORKING}); then FIN waits behind the bytes that are
    buffered (C{QUEUED}); then FIN is out (C{SENT}); then only the application is
    awaited, which may have something to do before the close (C{DONE}).
  - B{The peer's}, what we receive.  It is delivered until the peer's FIN
    (C{peerDone}), or until the application has asked for the close
    (C{closing}): what arrives after that is discarded.

L{Node} names each combination that is possible, and L{State} groups the nodes for
the application, the operator and the report.  The outputs depend on what has
changed:

  - somebody asks for the first end: ask the application how.  When it has
    answered, the same input comes again and takes effect;
  - our stream is to end: watch the flush, and see whether work is in flight;
  - the peer's stream has ended, and ours goes on: see whether the peer goes away;
  - no work is left: FIN;
  - the application has closed: go on reading, deliver nothing;
  - our FIN is out, and the peer's is not: bound the half-closed state, or the
    lingering one;
  - both are out: wait until the peer has acknowledged all bytes;
  - nothing is awaited any more: ask the application, and close.

A disorderly end (a reset, a loss, a limit) ends both streams at once.  The table
also has the inputs that change nothing and have no outputs.

The shell around it (L{twisted_term.connection.shell}) turns events into
inputs and carries out outputs.

Why a table and not Automat: with a table, a connection's machine takes one
reference, and an input takes one dict lookup.  C{benchmarks/machine.py} builds both
and prints the ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum


class State(Enum):
    """
    The states that the application, an operator and a report see.
    """

    OPEN = "open"
    FLUSHING = "flushing"
    HALF_CLOSED = "half-closed"
    LINGERING = "lingering"
    CLOSED = "closed"
    ABORTED = "aborted"

    # The members of an enum can be hashed by identity.  Enum's own hash is Python
    # code, which is slow, and states are dictionary keys here.
    __hash__ = object.__hash__


class Ours(Enum):
    """
    How far our stream is: what we send.
    """

    OPEN = "open"
    ASKING = "its end is asked for, and so is the application, how"
    WORKING = "its end is asked for, work is in flight"
    QUEUED = "FIN is queued"
    SENT = "FIN is out"
    DONE = "FIN is out, and the application is asked before the close"

    __hash__ = object.__hash__


class Node(Enum):
    """
    The machine's own states: what we send, whether the peer's FIN has been
    seen, and whether the application has closed.
    """

    OPEN = State.OPEN, Ours.OPEN, False, False
    OPEN_PEER_DONE = State.OPEN, Ours.OPEN, True, False
    ASKING = State.FLUSHING, Ours.ASKING, False, False
    ASKING_PEER_DONE = State.FLUSHING, Ours.ASKING, True, False
    WORKING = State.FLUSHING, Ours.WORKING, False, False
    WORKING_PEER_DONE = State.FLUSHING, Ours.WORKING, True, False
    WORKING_CLOSING = State.FLUSHING, Ours.WORKING, False, True
    WORKING_BOTH = State.FLUSHING, Ours.WORKING, True, True
    QUEUED = State.FLUSHING, Ours.QUEUED, False, False
    QUEUED_PEER_DONE = State.FLUSHING, Ours.QUEUED, True, False
    QUEUED_CLOSING = State.FLUSHING, Ours.QUEUED, False, True
    QUEUED_BOTH = State.FLUSHING, Ours.QUEUED, True, True
    HALF_CLOSED = State.HALF_CLOSED, Ours.SENT, False, False
    LINGERING = State.LINGERING, Ours.SENT, False, True
    LAST_ACK = State.LINGERING, Ours.SENT, True, True
    LEAVING = State.LINGERING, Ours.DONE, False, True
    LEAVING_BOTH = State.LINGERING, Ours.DONE, True, True
    CLOSED = State.CLOSED, None, True, True
    ABORTED = State.ABORTED, None, True, True

    __hash__ = object.__hash__

    def __init__(
        self, state: State, ours: Ours | None, peerDone: bool, closing: bool
    ) -> None:
        self.state = state
        self.ours = ours
        #: The peer's FIN has been seen, so that nothing more will arrive.
        self.peerDone = peerDone
        #: The application has asked for the close, or both FINs are out.
        self.closing = closing
        #: The application is asked how the end is to be.
        self.asking = ours is Ours.ASKING
        #: An end was asked for, and work is in flight.
        self.working = ours is Ours.WORKING
        #: An end was asked for, and our FIN is not out yet.
        self.flushing = state is State.FLUSHING
        #: What is written is sent.
        self.sending = ours in (Ours.OPEN, Ours.ASKING, Ours.WORKING)
        #: Our FIN is out.
        self.finSent = ours in (Ours.SENT, Ours.DONE)
        #: The application is asked before the close.
        self.leaving = ours is Ours.DONE
        #: Nothing more will happen.
        self.ended = ours is None


class Input(Enum):
    """
    What can happen to a connection.
    """

    LOSE_WRITE = "loseWriteConnection()"
    LOSE = "loseConnection()"
    CLOSE = "closeConnection()"
    ABORT = "abortConnection()"
    DEADLINE = "terminate()'s deadline"
    HANDSHAKE_EXPIRED = "handshakeTimeout"
    TLS_FAILED = "TLS has failed"
    WORK_DONE = "no producer and no hold left"
    FIN_SENT = "our FIN is out"
    PEER_FIN = "the peer's FIN"
    PEER_FIN_HALF = "the peer's FIN, to an IHalfCloseableProtocol"
    PEER_GONE = "the peer's FIN, where it means that the peer has gone"
    ACKNOWLEDGED = "all is acknowledged"
    FLUSH_EXPIRED = "flushTimeout, workTimeout or halfCloseIdle"
    LINGER_EXPIRED = "a linger limit"
    MAY_CLOSE = "beforeClose() is done"
    CLOSE_EXPIRED = "closeTimeout"
    TAKEN = "beforeClose() has taken the socket"
    LOST = "connection lost below"

    __hash__ = object.__hash__


class Output(Enum):
    """
    What the shell does.
    """

    ASK_HOW = "ask the application how this end is to be"
    STOP_WORK = "stop the producer, wait for no hold any more"
    FLUSH = "watch the flush, and say when no work is in flight"
    SEND_FIN = "FIN behind the buffered bytes"
    DISCARD = "stop delivering, go on reading"
    WATCH_PEER = "see whether a peer that is done goes away"
    WATCH_HALF_CLOSED = "bound the half-closed state"
    LINGER = "bound the lingering state"
    AWAIT_ACK = "watch for the acknowledgement of all bytes"
    TELL_WRITE_LOST = "writeConnectionLost"
    TELL_READ_LOST = "readConnectionLost"
    ASK_CLOSE = "ask the application before the close"
    CLOSE = "close the socket"
    LET_GO = "close our descriptor of the socket, which somebody else has"
    DROP = "close the socket, whatever is buffered"
    RESET = "discard, RST"

    __hash__ = object.__hash__


Step = tuple[Node, tuple[Output, ...]]

_NODES = {(node.ours, node.peerDone, node.closing): node for node in Node if node.ours}
# With both FINs out nothing is left to say, whether the application has closed or not.
_NODES[Ours.SENT, True, False] = Node.LAST_ACK

#: Each of these asks for the end of our stream.
_BEGINS = (
    Input.LOSE_WRITE,
    Input.LOSE,
    Input.TLS_FAILED,
    Input.PEER_FIN,
    Input.PEER_GONE,
)
#: How our stream moves on.
_OURS = {
    **{(Ours.ASKING, event): Ours.WORKING for event in _BEGINS},
    (Ours.WORKING, Input.WORK_DONE): Ours.QUEUED,
    (Ours.WORKING, Input.FIN_SENT): Ours.SENT,
    (Ours.QUEUED, Input.FIN_SENT): Ours.SENT,
}
_PEER_DONE = (Input.PEER_FIN, Input.PEER_FIN_HALF, Input.PEER_GONE)
#: After these the peer may still be reading.
_READING = (Input.PEER_FIN, Input.PEER_FIN_HALF)
_CLOSING = (Input.LOSE, Input.TLS_FAILED)
#: After these the peer cannot receive any more what work in flight would send.
_NO_MORE_WORK = (Input.PEER_GONE, Input.TLS_FAILED)
#: These end both streams at once.
_ENDS: dict[Input, Step] = {
    Input.LOST: (Node.CLOSED, ()),
    Input.CLOSE: (Node.CLOSED, (Output.DROP,)),
    Input.ABORT: (Node.ABORTED, (Output.RESET,)),
    Input.DEADLINE: (Node.ABORTED, (Output.RESET,)),
    Input.HANDSHAKE_EXPIRED: (Node.ABORTED, (Output.RESET,)),
}
#: The peer is not awaited any more: the node and the input, and the next node.
_DONE = {
    (Node.LINGERING, Input.LINGER_EXPIRED): Node.LEAVING,
    (Node.LAST_ACK, Input.ACKNOWLEDGED): Node.LEAVING_BOTH,
}
_LEAVES: dict[Input, Step] = {
    Input.MAY_CLOSE: (Node.CLOSED, (Output.CLOSE,)),
    Input.CLOSE_EXPIRED: (Node.CLOSED, (Output.CLOSE,)),
    Input.TAKEN: (Node.CLOSED, (Output.LET_GO,)),
}


def _orderly(node: Node, event: Input) -> Step:
    """
    Move each of the two streams by its own rule, and find the outputs.
    """
    assert node.ours is not None
    if event in _PEER_DONE and node.peerDone:
        return node, ()
    if node.ours is Ours.OPEN and event in _BEGINS:
        return _NODES[Ours.ASKING, node.peerDone, node.closing], (Output.ASK_HOW,)
    ours = _OURS.get((node.ours, event), node.ours)
    peerDone = node.peerDone or event in _PEER_DONE
    closing = node.closing or event in _CLOSING
    after = _NODES[ours, peerDone, closing]
    outputs = []
    if event in _NO_MORE_WORK and after.working:
        outputs.append(Output.STOP_WORK)
    if after.closing and not node.closing and not after.peerDone:
        outputs.append(Output.DISCARD)
    if event is Input.PEER_FIN_HALF and not node.closing:
        outputs.append(Output.TELL_READ_LOST)
    if after.working and (not node.working or event in _NO_MORE_WORK):
        outputs.append(Output.FLUSH)
    if event in _READING and after.sending:
        outputs.append(Output.WATCH_PEER)
    if ours is Ours.QUEUED and node.ours is Ours.WORKING:
        outputs.append(Output.SEND_FIN)
    if ours is Ours.SENT and after is not node:
        fin = event is Input.FIN_SENT
        if fin and not node.closing and not after.peerDone:
            outputs.append(Output.WATCH_HALF_CLOSED)
        if fin and not node.closing:
            outputs.append(Output.TELL_WRITE_LOST)
        if after is Node.LINGERING:
            outputs.append(Output.LINGER)
        if after is Node.LAST_ACK:
            outputs.append(Output.AWAIT_ACK)
    return after, tuple(outputs)


def _step(node: Node, event: Input) -> Step:
    """
    The step that C{event} causes in a connection at C{node}.
    """
    if node.ended:
        return node, ()
    if event in _ENDS:
        return _ENDS[event]
    if event is Input.FLUSH_EXPIRED and node.state is not State.OPEN:
        return Node.ABORTED, (Output.RESET,)
    if (node, event) in _DONE:
        return _DONE[node, event], (Output.ASK_CLOSE,)
    if node.leaving and event in _LEAVES:
        return _LEAVES[event]
    return _orderly(node, event)


#: The machine: where each input takes each node, and what is to be done.
STEPS: dict[tuple[Node, Input], Step] = {
    (node, event): _step(node, event) for node in Node for event in Input
}


def _answered(node: Node, event: Input, answers: dict[Output, Input]) -> Step:
    """
    The step, combined with the steps that follow from outputs with a known answer.
    """
    after, outputs = STEPS[node, event]
    for index, output in enumerate(outputs):
        # The application is asked how, and then the same input takes effect.
        answer = event if output is Output.ASK_HOW else answers.get(output)
        if answer is not None:
            moved, more = _answered(after, answer, answers)
            # The other outputs of a step are out of date when the machine has moved.
            return moved, outputs[:index] + more
    return after, outputs


_UNASKED = {Output.ASK_CLOSE: Input.MAY_CLOSE}
_QUIET = {
    **_UNASKED,
    Output.FLUSH: Input.WORK_DONE,
    Output.AWAIT_ACK: Input.ACKNOWLEDGED,
}
#: The same machine for an application without a hook, as most are: the step of each
#: question and the step of its answer are one step.
UNASKED: dict[tuple[Node, Input], Step] = {
    key: _answered(*key, _UNASKED) for key in STEPS
}
#: The same machine for when it is also known that no work is in flight, or that all
#: bytes are acknowledged, as at the end of most connections.
QUIET: dict[tuple[Node, Input], Step] = {key: _answered(*key, _QUIET) for key in STEPS}


def transitions() -> Iterator[tuple[Node, Input, Node, tuple[Output, ...]]]:
    """
    Every entry of the table that makes a difference.
    """
    for (node, event), (after, outputs) in STEPS.items():
        if (after, outputs) != (node, ()):
            yield node, event, after, outputs


def diagram() -> str:
    """
    The README's diagram: every change of L{State}, and what causes it.  The question
    to the application before the close is no change of L{State}.
    """
    causes: dict[tuple[State, State], list[str]] = {}
    for node, event, after, _ in transitions():
        state = State.CLOSED if after.leaving else after.state
        if node.state is not state and not (node.leaving and after.leaving):
            found = causes.setdefault((node.state, state), [])
            if event.value not in found:
                found.append(event.value)
    lines = []
    for state in State:
        for other in State:
            for index, cause in enumerate(causes.get((state, other), ())):
                start = f"{state.name:<12}" if index == 0 else " " * 12
                end = f"--> {other.name:<11}" if index == 0 else "   " + " " * 12
                lines.append(f"{start}{end}  {cause}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
