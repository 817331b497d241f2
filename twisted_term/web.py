"""
twisted.web: connections that are drained request by request, and the
readiness that a load balancer asks for.

The only module that looks at private attributes of twisted.web, and why:

  - C{_streamCleanupCallbacks} of C{H2Connection}: nothing public says when the
    last frame of a stream has been written.
"""

from __future__ import annotations

import struct
from typing import Any, Callable

from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from .interfaces import IDrainable, IDrainListener

# GOAWAY (RFC 9113, 6.8): nine bytes of frame header, the last stream and an
# error code, NO_ERROR.
_GOAWAY = struct.Struct(">BHBBIII")
#: "No new streams, and those on their way will still be served."
_ANY_STREAM = 2**31 - 1
#: For so long (seconds) we wait for a moment with no stream.  Clients built on
#: the h2 library, such as httpx, cannot finish a stream after a GOAWAY.
_PATIENCE = 10.0


def drainRequests(transport: Any) -> bool:
    """
    Drain one connection of a C{Site}, or of any other factory of twisted.web's
    channels.

    HTTP/1: an idle keep-alive connection ends at once.  One with a request in
    flight ends when that is answered; its response, and that of a request
    which is arriving, has C{Connection: close} if it has not begun (RFC 9112,
    9.6).  HTTP/2: GOAWAY (RFC 9113, 6.8) as soon as no stream is open, or
    after ten seconds at the latest, with the streams that are open still
    served, and the end when they are.

    @param transport: the L{twisted_term.interfaces.ITerminableTransport}.
    @return: C{False} if it is no connection of twisted.web's.
    """
    channel = transport.producer  # they register themselves
    if isinstance(channel, HTTPChannel):
        _drainHTTP1(channel)
    elif hasattr(channel, "endRequest") and hasattr(channel, "streams"):
        _drainHTTP2(channel)
    else:
        return False
    return True


def _drainHTTP1(channel: Any) -> None:
    if not channel.requests:
        channel.loseConnection()
        return

    def last(request: Any, version: bytes) -> bool:
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    # Asked when a request's headers are there: for one that is arriving.
    channel.checkPersistence = last
    request = channel.requests[0]
    channel.persistent = False
    if not request.startedWriting:
        last(request, b"")


def _drainHTTP2(channel: Any) -> None:
    transport = channel.transport
    told: Any = None

    def finished(stream: Any = None) -> Any:
        if channel.streams:
            # Any of those that are left, the ones opened meanwhile included.
            left = next(iter(channel._streamCleanupCallbacks.values()))
            left.addCallback(finished)
        else:
            if told is not None and told.active():
                told.cancel()
            _goAway(transport, channel.conn.highest_inbound_stream_id)
            transport.loseConnection()
        return stream

    if channel.streams:
        told = channel.callLater(_PATIENCE, _goAway, transport, _ANY_STREAM)
    finished()


def _goAway(transport: Any, last: int) -> None:
    # h2's own close_connection() would let no stream finish.
    transport.write(_GOAWAY.pack(0, 8, 7, 0, 0, last, 0))


@implementer(IDrainable, IDrainListener)
class DrainingSite(Site):
    """
    A C{Site} that says whether it is drained, by a
    L{twisted_term.DrainingService} or behind C{term:}, so that a resource can
    tell.  Any C{Site} is drained in the same way.

    @ivar draining: has a drain begun?  C{readinessDelay} is part of it.
    """

    draining = False

    def servingBegins(self) -> None:
        """
        See L{IDrainListener.servingBegins}.
        """
        self.draining = False

    def drainBegins(self) -> None:
        """
        See L{IDrainListener.drainBegins}.
        """
        self.draining = True

    def drain(self, transport: Any) -> None:
        """
        See L{IDrainable.drain} and L{drainRequests}.
        """
        if not drainRequests(transport):
            transport.loseConnection()


class ReadinessResource(Resource):
    """
    Answers 200 while C{ready()} is true, and 503 from then on: C{ready} may
    be C{lambda: not service.draining}.
    """

    isLeaf = True

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._ready = ready

    def render_GET(self, request: Any) -> bytes:
        """
        Say whether new connections are welcome.
        """
        ready = self._ready()
        request.setResponseCode(200 if ready else 503)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return b"ready\n" if ready else b"draining\n"


__all__ = ["DrainingSite", "ReadinessResource", "drainRequests"]
