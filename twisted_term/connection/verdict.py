"""
Finding out how a connection has ended, from what the kernel and Twisted say.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from .report import Outcome


def askKernel(connection: Any) -> Optional[tuple[int, bool]]:
    """
    @return: bytes of the application's that are unacknowledged or unsent, and
        whether the kernel has given up; C{None} where it cannot say.
    """
    queue = connection.queue()
    if queue is None:
        return None
    owed = connection.beneath.owed(queue.unacknowledged + connection.unsent())
    return owed, queue.gone


def settled(connection: Any) -> bool:
    """
    With both FINs out: has the peer acknowledged all, as far as known?
    """
    owed = connection.beneath.unacknowledged(True)
    if owed:
        return False
    # So the kernel need not be asked again at the close.
    connection.ending.known = None if owed is None else (0, False)
    return True


def outcomeOf(
    connection: Any, reason: Failure, known: Optional[tuple[int, bool]]
) -> Outcome:
    """
    The outcome of a connection that was lost, although this process has not closed it.

    @param reason: the reason that Twisted gives.
    @param known: what L{askKernel} returned before the socket was closed.
    """
    peerDone, below = connection.node.peerDone, connection.beneath
    if reason.check(ConnectionDone) and (peerDone or not below.tellsFin):
        return Outcome.CLEAN
    if reason.check(ConnectionLost):
        owed, gone = (None, not below.stopped()) if known is None else known
        if gone and peerDone and not connection.works() and below.hangsUp(owed):
            return Outcome.CLEAN
        if gone:
            return Outcome.RESET_BY_PEER
    return Outcome.LOST


__all__ = ["askKernel", "outcomeOf", "settled"]
