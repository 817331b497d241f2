"""
HTTP/2: C{twisted.web}.

Private attributes of C{H2Connection} that are read, and why:
C{_streamCleanupCallbacks}, because no public attribute says when the last frame of a
stream has been written.
"""

from __future__ import annotations

import os
import struct
from types import ModuleType
from typing import Any, Optional

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Conversation, standing

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


class HTTP2(Conversation):
    """
    In flight are streams.

    The peer's FIN may be a half-close, and PING finds out whether the peer still
    reads.

    In a drain, GOAWAY says that no more streams are served.  It is sent as soon as
    no stream is open, or after half of the time that the drain has.  Streams that are
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
                calls.append(later(_FIRST, self._whenIdle, tell))

        def cancel(report: Any = None) -> None:
            for call in calls:
                if call.active():
                    call.cancel()

        calls = [later(_PATIENCE if seconds is None else seconds / 2, tell)]
        transport.whenTerminated().addCallback(cancel)
        self._whenIdle(idle)

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """

        def end() -> None:
            _goAway(transport, self.protocol.conn.highest_inbound_stream_id)
            transport.loseConnection()

        self._whenIdle(end)

    def _whenIdle(self, what: Any) -> None:
        """
        Call C{what} when no stream is open.
        """
        connection = self.protocol

        def finished(stream: Any = None) -> Any:
            if connection.streams:
                # One of the streams that are still open.  Some of them may have been
                # opened meanwhile.
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
    Register the adapters for the protocols of C{twisted.web._http2}.
    """
    standing.append(http2.H2Connection)
    registerAdapter(HTTP2, http2.H2Connection, IConversation)


__all__ = ["HTTP2", "register"]
