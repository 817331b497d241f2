"""
What a drain does to one connection: first it tells the connection of its begin, and
later it ends the connection in the way of its protocol.
"""

from __future__ import annotations

from typing import Any, Optional

from .._waiters import Waiters

#: A drain waits at most this many turns of the reactor until what has arrived is read.
_LOOKS = 3
#: For each connection, the Deferreds that wait for the begin of a drain.  They are
#: kept here because most connections have none, and an attribute takes memory.
_waiting: dict[Any, Waiters[None]] = {}
#: Takes the place of these for each connection whose drain has begun.
_BEGUN: Waiters[None] = Waiters()
_BEGUN.fire(None)


def begin(connection: Any, seconds: Optional[float]) -> None:
    """
    The server begins to drain.
    """
    if connection.node.ended or _waiting.get(connection) is _BEGUN:
        return
    if connection.node.sending:
        connection.askConversation("drainBegins", seconds)
    waiting = _waiting.get(connection)
    if connection.report is None:
        _waiting[connection] = _BEGUN
    # If the application ends a response now, the response already says that the
    # connection closes.
    if waiting is not None:
        waiting.fire(None)


def end(connection: Any, looks: int = _LOOKS) -> None:
    """
    End the connection in the way of its protocol, after what has arrived was read.
    """
    begin(connection, None)
    if not connection.node.sending:
        return
    if looks and connection.beneath.unread():
        connection.clock.callLater(0, end, connection, looks - 1)
    else:
        connection.askConversation("drain")


def waiters(connection: Any) -> Waiters[None]:
    """
    The Deferreds that wait for the begin of a drain.
    """
    found = _waiting.get(connection)
    if found is None:
        found = Waiters()
        if connection.report is None:  # after the end, no drain will begin
            _waiting[connection] = found
    return found


def forget(connection: Any) -> None:
    """
    The connection has ended.
    """
    _waiting.pop(connection, None)


__all__ = ["begin", "end", "forget", "waiters"]
