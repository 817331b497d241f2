"""
HTTP/2: C{twisted.web}.

Private attributes of C{H2Connection} that are read, and why:
C{_streamCleanupCallbacks}, because no public attribute says when the last frame of a
stream has been written.

Replaced on the class C{H2Connection}: C{connectionMade}.  It calls the original.  If
the connection uses this package, it also replaces the function that the h2 library
calls for a GOAWAY, in the private C{_frame_dispatch_table} of its connection: see
L{Parting}.
"""

from __future__ import annotations

import os
import struct
from functools import partial
from types import ModuleType
from typing import Any, Callable, Optional

from twisted.python.components import registerAdapter

from ..interfaces import IConversation, ITerminableTransport
from .conversation import Conversation, clockOf, standing, together

# GOAWAY (RFC 9113, 6.8): nine bytes of frame header, the last stream and an
# error code, NO_ERROR.
_GOAWAY = struct.Struct(">BHBBIII")
#: "No new streams, and those on their way will still be served."
_ANY_STREAM = 2**31 - 1
#: PING (RFC 9113, 6.7): frame header, and eight bytes.
_PING = struct.Struct(">BHBBI8s")
#: A drain without a limit waits this many seconds for a moment with no stream; with a
#: limit, it waits half of the limit.  curl, nghttp and h2load finish a stream after a
#: GOAWAY with any number in it; httpx 0.28 and Node 20 do not.
_PATIENCE = 10.0
#: A drain waits this many seconds for the first stream.
_FIRST = 0.2
#: A connection is kept for this many seconds after the first GOAWAY.
_ROUND_TRIP = 0.1


class HTTP2(Conversation):
    """
    In flight are streams.

    The peer's FIN may be a half-close, and PING tells.

    In a drain, GOAWAY says that no more streams are served, as soon as
    none is open, or after half of the time that the drain has; those that are
    open, or on their way, are served, and then the connection ends.
    """

    protocol: Any  # the H2Connection

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        # Twisted closes the connection when it is idle, or in error.
        return bool(self.protocol.streams) and not transport.disconnecting

    def probe(self, transport: Any) -> bool:
        """
        See L{IConversation.probe}.
        """
        transport.write(_PING.pack(0, 8, 6, 0, 0, os.urandom(8)))
        return True

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return bool(self.protocol.streams)

    def drainBegins(self, transport: Any, seconds: Optional[float]) -> None:
        """
        See L{IConversation.drainBegins}.
        """
        later = self.protocol.callLater
        told: list[None] = []

        def tell() -> None:
            cancel()
            if not told:
                told.append(None)
                _goAway(transport, _ANY_STREAM)

        def idle() -> None:
            # A client that has just connected is about to send a request.
            if self.protocol.conn.highest_inbound_stream_id:
                tell()
            else:
                calls.append(later(_FIRST, whenIdle, self.protocol, tell))

        def cancel(report: Any = None) -> None:
            for call in calls:
                if call.active():
                    call.cancel()

        calls = [later(_PATIENCE if seconds is None else seconds / 2, tell)]
        transport.whenTerminated().addCallback(cancel)
        whenIdle(self.protocol, idle)

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """

        connection = self.protocol

        def end() -> None:
            if transport.protocol is not None:  # else the connection has ended
                _goAway(transport, connection.conn.highest_inbound_stream_id)
                transport.loseConnection()

        # This is "at least one round-trip time" after the first GOAWAY (RFC 9113,
        # 6.8): requests that the client sent before it read that one are served.
        together(clockOf(transport), _ROUND_TRIP, partial(whenIdle, connection, end))


class Parting:
    """
    Lets open streams come to their end after a GOAWAY of the client (RFC 9113, 6.8).
    When the h2 library has received a GOAWAY, it takes the connection for closed, and
    can send nothing more; Twisted then drops all streams.  So a GOAWAY is kept from
    both, and the connection ends when the last stream has ended.
    """

    def __init__(self, connection: Any, kind: type) -> None:
        """
        @param connection: Twisted's C{H2Connection}.
        @param kind: the class of GOAWAY frames.
        """
        self._connection = connection
        table = connection.conn._frame_dispatch_table
        self._receive = table[kind]
        table[kind] = self.received

    def received(self, frame: Any) -> Any:
        """
        A GOAWAY has come.
        """
        if frame.error_code or not self._connection.conn.open_inbound_streams:
            return self._receive(frame)
        # Twisted has not handled yet what came together with the GOAWAY.
        self._connection.callLater(0, whenIdle, self._connection, self._end)
        return [], []

    def _end(self) -> None:
        self._connection.transport.loseConnection()


def whenIdle(connection: Any, what: Callable[[], object]) -> None:
    """
    Call C{what} when a C{H2Connection} has no open stream.
    """

    def finished(stream: Any = None) -> Any:
        if connection.streams:
            # This is one of the streams that are still open.
            left = next(iter(connection._streamCleanupCallbacks.values()))
            left.addCallback(finished)
        else:
            what()
        return stream

    finished()


def _goAway(transport: Any, last: int) -> None:
    # h2's own close_connection() would let no stream finish.
    transport.write(_GOAWAY.pack(0, 8, 7, 0, 0, last, 0))


def register(http2: ModuleType) -> None:
    """
    Know C{twisted.web._http2}.
    """
    standing.append(http2.H2Connection)
    registerAdapter(HTTP2, http2.H2Connection, IConversation)
    from hyperframe.frame import GoAwayFrame  # h2, which is loaded, needs it

    made = http2.H2Connection.connectionMade

    def connectionMade(connection: Any) -> None:
        if ITerminableTransport.providedBy(connection.transport):
            Parting(connection, GoAwayFrame)
        made(connection)

    http2.H2Connection.connectionMade = connectionMade


__all__ = ["HTTP2", "register"]
