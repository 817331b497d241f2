"""
The life of a connection: one state machine, without I/O.

It is a table from (state, input) to (next state, outputs), and a pair that
the table lacks changes nothing and asks for nothing.  The shell around it
(L{twisted_term.connection.transport}) turns events into inputs and carries out outputs.

Why a table and not Automat: a connection's whole machine is then one
reference, and an input one dict lookup.  C{benchmarks/machine.py} builds both
and prints the ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum


class State(Enum):
    """
    What the application, an operator and a report see.
    """

    OPEN = "open"
    FLUSHING = "flushing"
    HALF_CLOSED = "half-closed"
    LINGERING = "lingering"
    CLOSED = "closed"
    ABORTED = "aborted"

    # Identity is all that an enum's member needs; Enum's own hash is Python
    # code, and states are dictionary keys here.
    __hash__ = object.__hash__


class Node(Enum):
    """
    The machine's own states: those of L{State}, split by what was asked for
    and by whether the peer's FIN has been seen.
    """

    OPEN = State.OPEN, False, ""
    OPEN_PEER_DONE = State.OPEN, True, "the peer has half-closed, we still write"
    FLUSHING_WRITE = State.FLUSHING, False, "towards a half-close"
    FLUSHING_WRITE_PEER_DONE = State.FLUSHING, True, "towards a half-close"
    FLUSHING_CLOSE = State.FLUSHING, False, "towards a lingering close"
    FLUSHING_CLOSE_PEER_DONE = State.FLUSHING, True, "towards a lingering close"
    HALF_CLOSED = State.HALF_CLOSED, False, ""
    LINGERING = State.LINGERING, False, ""
    LAST_ACK = State.LINGERING, True, "both FINs are out, bytes unacknowledged"
    CLOSED = State.CLOSED, True, ""
    ABORTED = State.ABORTED, True, ""

    __hash__ = object.__hash__

    def __init__(self, state: State, peerDone: bool, note: str) -> None:
        self.state = state
        self.note = note
        #: Nothing more will arrive.
        self.peerDone = peerDone
        #: An end was asked for, and our FIN is not out yet.
        self.flushing = state is State.FLUSHING
        #: Nothing more will happen.
        self.ended = state in (State.CLOSED, State.ABORTED)


class Input(Enum):
    """
    What can happen to a connection.
    """

    LOSE_WRITE = "loseWriteConnection()"
    LOSE = "loseConnection()"
    ABORT = "abortConnection()"
    DEADLINE = "terminate()'s deadline"
    HANDSHAKE_EXPIRED = "handshakeTimeout"
    WORK_DONE = "no producer and no hold left"
    FIN_SENT = "our FIN is out"
    PEER_FIN = "the peer's FIN"
    PEER_FIN_HALF = "the peer's FIN, to an IHalfCloseableProtocol"
    ACKNOWLEDGED = "all is acknowledged"
    FLUSH_EXPIRED = "flushTimeout, workTimeout or halfCloseIdle"
    LINGER_EXPIRED = "a linger limit"
    LOST = "connection lost below"

    __hash__ = object.__hash__


class Output(Enum):
    """
    What the shell does.
    """

    FLUSH = "watch the flush, and say when no work is in flight"
    SEND_FIN = "FIN behind the buffered bytes"
    DISCARD = "stop delivering, go on reading"
    WATCH_HALF_CLOSED = "bound the half-closed state"
    LINGER = "bound the lingering state"
    AWAIT_ACK = "watch for the acknowledgement of all bytes"
    TELL_WRITE_LOST = "writeConnectionLost"
    TELL_READ_LOST = "readConnectionLost"
    CLOSE = "close the socket"
    RESET = "discard, RST"

    __hash__ = object.__hash__


Step = tuple[Node, tuple[Output, ...]]


def _table() -> dict[tuple[Node, Input], Step]:
    N, I, O = Node, Input, Output  # noqa: E741
    table: dict[tuple[Node, Input], Step] = {
        (N.OPEN, I.LOSE_WRITE): (N.FLUSHING_WRITE, (O.FLUSH,)),
        (N.OPEN, I.LOSE): (N.FLUSHING_CLOSE, (O.DISCARD, O.FLUSH)),
        (N.OPEN, I.PEER_FIN): (N.FLUSHING_CLOSE_PEER_DONE, (O.FLUSH,)),
        (N.OPEN, I.PEER_FIN_HALF): (N.OPEN_PEER_DONE, (O.TELL_READ_LOST,)),
        (N.OPEN_PEER_DONE, I.LOSE_WRITE): (N.FLUSHING_WRITE_PEER_DONE, (O.FLUSH,)),
        (N.OPEN_PEER_DONE, I.LOSE): (N.FLUSHING_CLOSE_PEER_DONE, (O.FLUSH,)),
        (N.FLUSHING_WRITE, I.LOSE): (N.FLUSHING_CLOSE, (O.DISCARD,)),
        (N.FLUSHING_WRITE, I.PEER_FIN): (N.FLUSHING_WRITE_PEER_DONE, ()),
        (N.FLUSHING_WRITE, I.PEER_FIN_HALF): (
            N.FLUSHING_WRITE_PEER_DONE,
            (O.TELL_READ_LOST,),
        ),
        (N.FLUSHING_WRITE, I.FIN_SENT): (
            N.HALF_CLOSED,
            (O.WATCH_HALF_CLOSED, O.TELL_WRITE_LOST),
        ),
        (N.FLUSHING_WRITE_PEER_DONE, I.LOSE): (N.FLUSHING_CLOSE_PEER_DONE, ()),
        (N.FLUSHING_WRITE_PEER_DONE, I.FIN_SENT): (
            N.LAST_ACK,
            (O.TELL_WRITE_LOST, O.AWAIT_ACK),
        ),
        (N.FLUSHING_CLOSE, I.PEER_FIN): (N.FLUSHING_CLOSE_PEER_DONE, ()),
        (N.FLUSHING_CLOSE, I.PEER_FIN_HALF): (N.FLUSHING_CLOSE_PEER_DONE, ()),
        (N.FLUSHING_CLOSE, I.FIN_SENT): (N.LINGERING, (O.LINGER,)),
        (N.FLUSHING_CLOSE_PEER_DONE, I.FIN_SENT): (N.LAST_ACK, (O.AWAIT_ACK,)),
        (N.HALF_CLOSED, I.LOSE): (N.LINGERING, (O.DISCARD, O.LINGER)),
        (N.HALF_CLOSED, I.PEER_FIN): (N.LAST_ACK, (O.AWAIT_ACK,)),
        (N.HALF_CLOSED, I.PEER_FIN_HALF): (
            N.LAST_ACK,
            (O.TELL_READ_LOST, O.AWAIT_ACK),
        ),
        (N.LINGERING, I.PEER_FIN): (N.LAST_ACK, (O.AWAIT_ACK,)),
        (N.LINGERING, I.PEER_FIN_HALF): (N.LAST_ACK, (O.AWAIT_ACK,)),
        (N.LINGERING, I.LINGER_EXPIRED): (N.CLOSED, (O.CLOSE,)),
        (N.LAST_ACK, I.ACKNOWLEDGED): (N.CLOSED, (O.CLOSE,)),
    }
    for node in Node:
        if node.ended:
            continue
        table[node, I.LOST] = (N.CLOSED, ())
        for asked in (I.ABORT, I.DEADLINE, I.HANDSHAKE_EXPIRED):
            table[node, asked] = (N.ABORTED, (O.RESET,))
        if node.state is not State.OPEN:
            table[node, I.FLUSH_EXPIRED] = (N.ABORTED, (O.RESET,))
        if node.flushing:
            table[node, I.WORK_DONE] = (node, (O.SEND_FIN,))
    return table


_TABLE = _table()


def step(node: Node, event: Input) -> Step:
    """
    What C{event} makes of a connection that is at C{node}.
    """
    return _TABLE.get((node, event)) or (node, ())


def transitions() -> Iterator[tuple[Node, Input, Node, tuple[Output, ...]]]:
    """
    Every entry of the table.
    """
    for (node, event), (after, outputs) in _TABLE.items():
        yield node, event, after, outputs


def diagram() -> str:
    """
    The README's diagram: every change of L{State}, and what causes it.
    """
    causes: dict[tuple[State, State], list[str]] = {}
    for node, event, after, _ in transitions():
        if node.state is not after.state:
            found = causes.setdefault((node.state, after.state), [])
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
