"""
A transport for tests that look at what a protocol has written.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet import testing
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class StringTransport(testing.StringTransport):
    """
    Twisted's C{StringTransport}, for protocols that use this package.  Timers run on
    a clock of its own, so that work in flight leaves the reactor clean.  At the end,
    C{connectionLost} and C{terminated} of the protocol are called.

    C{disconnecting} of this transport becomes true when the connection is closed,
    after all work is done.  C{disconnecting} of C{protocol.transport} becomes true
    when C{loseConnection} is called.

    @ivar protocol: the protocol that the connection is made with.
    @ivar clock: the clock.  C{clock.advance(0)} makes one turn, in which the release of
        a hold takes effect, and the protocol is told of the end.
    """

    protocol: Any = None

    def __init__(self, protocol: Any = None, clock: Optional[Clock] = None) -> None:
        """
        @param protocol: its C{makeConnection} is called at once; C{None} if the test
            sets C{protocol} and calls C{makeConnection} itself.
        @param clock: C{None} for a new one.
        """
        super().__init__()
        self.reactor = self.clock = clock or Clock()
        if protocol is not None:
            self.protocol = protocol
            protocol.makeConnection(self)

    def loseConnection(self) -> None:
        """
        Close, in the next turn.
        """
        self._end(ConnectionDone())

    def abortConnection(self) -> None:
        """
        Reset, in the next turn.
        """
        self.aborting = True
        self._end(ConnectionAborted())

    def _end(self, error: Exception) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.clock.callLater(0, self._lose, Failure(error))

    def _lose(self, reason: Failure) -> None:
        self.connected = False
        self.disconnected = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)


__all__ = ["StringTransport"]
