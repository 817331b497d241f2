"""
What each output of the machine does to a connection.

The functions here call the layers beneath, the gate and the ending, and give the
machine its next input where that is known at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.logger import Logger

from ..applications import SILENT
from . import machine
from .machine import Input, Node, Output, Step
from .receiving import Discarding, Noting
from .report import Outcome
from .verdict import askKernel, settled

_log = Logger()


def askHow(connection: Any) -> None:
    ending = connection.ending
    assert ending is not None and ending.hook is not None
    policy = ending.hook.policy(connection.transport, ending.initiator)
    connection.policy = policy or connection.policy


def askClose(connection: Any) -> None:
    ending = connection.ending
    assert ending is not None and ending.hook is not None
    # The kernel is asked now, because an application that takes the socket may
    # also close it.
    ending.known = askKernel(connection)
    ending.hook.beforeClose(connection.transport, partial(mayClose, connection))
    if connection.node.leaving:
        ending.begin()


def mayClose(connection: Any, taken: bool) -> None:
    connection.input(Input.TAKEN if taken else Input.MAY_CLOSE)


def stopWork(connection: Any) -> None:
    assert connection.ending is not None
    connection.holds = 0
    connection.ending.conversation = SILENT
    stopProducer(connection)


def stopProducer(connection: Any) -> None:
    producer, connection.producer = connection.producer, None
    if producer is not None:
        # Otherwise Twisted would call the producer, and would not finish the close if
        # the producer raises.
        connection.transport.wrapped.unregisterProducer()
        try:
            producer.stopProducing()
        except Exception:
            _log.failure("{producer} has failed to stop", producer=producer)


def flush(connection: Any) -> None:
    assert connection.ending is not None
    if connection.works():
        connection.ending.begin()
    else:
        connection.input(Input.WORK_DONE)


def sendFin(connection: Any) -> None:
    assert connection.ending is not None
    if connection.producer is not None:
        # The producer is idle.  Twisted would go on asking it for more.
        connection.producer = None
        connection.transport.wrapped.unregisterProducer()
    node = connection.node
    if not connection.beneath.tellsFin:
        connection.ending.rest()  # an opaque transport's own close is not bounded here
    # The FIN is not sent in this turn if that would call the application back in the
    # midst of its own call.
    quiet = node.closing and not node.peerDone
    connection.beneath.halfClose(reading=not node.closing, now=quiet)
    if connection.node is node and connection.beneath.tellsFin:
        connection.ending.begin()


def discard(connection: Any) -> None:
    connection.gate.receives(Discarding(connection))
    connection.beneath.discard(connection.readPaused)


def watchPeer(connection: Any) -> None:
    assert connection.ending is not None
    connection.beneath.watchPeer()
    connection.ending.begin()


def watchHalfClosed(connection: Any) -> None:
    assert connection.ending is not None
    connection.gate.receives(Noting(connection.gate))
    connection.ending.begin()


def linger(connection: Any) -> None:
    assert connection.ending is not None
    lingers = connection.lingers()
    if lingers or connection.beneath.unacknowledged(True):
        connection.ending.begin(soon=not lingers)
    else:
        connection.input(Input.LINGER_EXPIRED)


def awaitAck(connection: Any) -> None:
    assert connection.ending is not None
    if settled(connection):
        connection.input(Input.ACKNOWLEDGED)
        return
    queue = connection.queue()
    if queue is not None and queue.gone:
        # The peer will acknowledge nothing more, and the reactor does not say so.
        connection.ending.checking = connection.clock.callLater(0, connection.vanishNow)
    else:
        connection.ending.begin(soon=True)


def tellWriteLost(connection: Any) -> None:
    application = IHalfCloseableProtocol(connection.protocol, None)
    if application is not None:
        application.writeConnectionLost()


def tellReadLost(connection: Any) -> None:
    application = IHalfCloseableProtocol(connection.protocol, None)
    if application is not None:
        application.readConnectionLost()


def close(connection: Any) -> None:
    connection.beneath.close(connection.ending.outcome is Outcome.CLEAN)


def letGo(connection: Any) -> None:
    connection.beneath.letGo()


def drop(connection: Any) -> None:
    connection.gate.receives(Discarding(connection))
    connection.beneath.drop()


def reset(connection: Any) -> None:
    connection.gate.receives(Discarding(connection))
    connection.beneath.reset()


_PERFORM: dict[Output, Callable[[Any], None]] = {
    Output.ASK_HOW: askHow,
    Output.STOP_WORK: stopWork,
    Output.FLUSH: flush,
    Output.SEND_FIN: sendFin,
    Output.DISCARD: discard,
    Output.WATCH_PEER: watchPeer,
    Output.WATCH_HALF_CLOSED: watchHalfClosed,
    Output.LINGER: linger,
    Output.AWAIT_ACK: awaitAck,
    Output.TELL_WRITE_LOST: tellWriteLost,
    Output.TELL_READ_LOST: tellReadLost,
    Output.ASK_CLOSE: askClose,
    Output.CLOSE: close,
    Output.LET_GO: letGo,
    Output.DROP: drop,
    Output.RESET: reset,
}


#: The next node; whether the report notes the step; whether writes are dropped from
#: this step on; the functions that perform the outputs.
Performed = tuple[Node, bool, bool, tuple[Callable[[Any], None], ...]]


def _performing(
    table: dict[tuple[Node, Input], Step],
) -> dict[Node, dict[Input, Performed]]:
    """
    Turn a table of the machine's into one with the functions of this module.
    """
    steps: dict[Node, dict[Input, Performed]] = {node: {} for node in Node}
    for (node, event), (after, outputs) in table.items():
        steps[node][event] = (
            after,
            after.state is not node.state or after.peerDone is not node.peerDone,
            node.sending and not after.sending,
            tuple(_PERFORM[output] for output in outputs),
        )
    return steps


ASKED, UNASKED, QUIET = map(
    _performing, (machine.STEPS, machine.UNASKED, machine.QUIET)
)

__all__ = ["ASKED", "QUIET", "UNASKED", "stopProducer"]
