"""
HTTP/1.1: C{twisted.web}, and what stands on its channel: Klein, WSGI, Daphne.

Private attributes of C{HTTPChannel} that are read, because no public one says the
same: C{_handlingRequest} (is a request complete?), C{_requestProducer} (does an
answer have a producer?), and C{_transferDecoder} (was a request answered before its
end?).  And C{_channel} and C{_negotiatedProtocol} of C{_GenericHTTPChannelProtocol},
which is the protocol that a C{Site} builds.

Replaced on one channel: C{checkPersistence} from the begin of a drain on, and
C{writeHeaders} after the first byte of the response was sent as a probe.  Replaced on
one C{_GenericHTTPChannelProtocol}: C{dataReceived}, until the first data in a drain.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Optional

from twisted.python.components import registerAdapter

from .._adapting import adapted
from ..interfaces import IConversation
from .conversation import SILENT, Conversation, clockOf, standing, together

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
#: A connection must have been idle for so long (seconds) in a drain.
_IDLE = 0.1


class HTTP1(Conversation):
    """
    In flight is a request that is answered, or can still become complete.

    The peer's FIN may be a half-close.  Before the response has begun, an interim
    response (RFC 9110, 15.2) finds out whether the peer still reads.  It is 100,
    because every client accepts that one.  HTTP/1.0, which nginx speaks to the servers
    behind it, has no interim responses; there the first line of the response is sent
    early, one byte at a time.

    In a drain, each response says C{Connection: close} (RFC 9112, 9.6), and the
    connection ends when it is idle.  A stream of events that has begun is ended as
    if the client had gone; C{EventSource} connects again by itself (WHATWG HTML,
    9.2.3).
    """

    protocol: Any  # the HTTPChannel

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        channel = self.protocol
        if transport.disconnecting:
            # The application has called request.transport.loseConnection().  In
            # Twisted that waits for what was written, and for a producer.
            return channel._requestProducer is not None
        requests = channel.requests
        if not requests or not transport.peerDone:
            return bool(requests)
        # The peer's FIN may have come in the middle of a request.  It cannot be
        # answered then, unless its response has already begun.
        return bool(channel._handlingRequest or requests[0].startedWriting)

    def probe(self, transport: Any) -> bool:
        """
        See L{IConversation.probe}.
        """
        channel = self.protocol
        if not (channel.requests and channel._handlingRequest):
            return False
        request = channel.requests[0]
        if request.startedWriting:
            return False
        if request.clientproto == b"HTTP/1.1":
            channel.transport.write(_CONTINUE)
            return True
        return request.clientproto == b"HTTP/1.0" and _begins(channel)

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        channel = self.protocol
        incomplete = channel.requests and not channel._handlingRequest
        return bool(incomplete or channel._transferDecoder is not None)

    def drainBegins(self, transport: Any, seconds: Optional[float]) -> None:
        """
        See L{IConversation.drainBegins}.
        """
        channel = self.protocol

        def last(request: Any, version: bytes) -> bool:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False

        # If a request is still arriving, Twisted calls this when its headers are
        # complete.
        channel.checkPersistence = last
        if channel.requests and not channel.requests[0].startedWriting:
            channel.persistent = last(channel.requests[0], b"")

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """
        channel = self.protocol
        closing = channel.checkPersistence

        def arrived(request: Any, version: bytes) -> Any:
            self._mayUpgrade(transport, request)
            return closing(request, version)

        channel.checkPersistence = arrived
        if channel.requests:
            self._mayUpgrade(transport, channel.requests[0])
        else:
            # A client that has just had an answer may be sending its next request.
            # That one is answered too, with Connection: close.
            together(clockOf(transport), _IDLE, partial(self._endIdle, transport))
            return
        request = channel.requests[0]
        if _isEventStream(request):
            if getattr(request, "chunked", False):
                channel.transport.write(_LAST_CHUNK)
            channel.transport.loseConnection()
        elif channel.persistent:
            # The response has begun, and does not say that it is the last one, so
            # the client may send another request.
            again = request.notifyFinish()
            again.addCallbacks(lambda done: transport.drain(), lambda lost: None)

    def _mayUpgrade(self, transport: Any, request: Any) -> None:
        """
        If the request upgrades the connection to another protocol, drain that one.
        """
        if request.requestHeaders.hasHeader(b"upgrade"):
            look = partial(self._lookUpgraded, transport, request)
            together(clockOf(transport), _IDLE, look)

    def _lookUpgraded(self, transport: Any, request: Any) -> None:
        if transport.protocol is None:
            return  # the connection has ended
        if not isinstance(_ofChannel(self.protocol), HTTP1):
            transport.drain()
        elif request in self.protocol.requests:
            self._mayUpgrade(transport, request)

    def _endIdle(self, transport: Any) -> None:
        if transport.protocol is not None and not self.protocol.requests:
            self.protocol.loseConnection()


class _Begun:
    """
    Replaces C{writeHeaders} of a channel whose response has begun early, and leaves
    out the bytes that were sent already.
    """

    def __init__(self, writeHeaders: Any) -> None:
        self._writeHeaders = writeHeaders
        self.sent = 0

    def __call__(self, version: bytes, *rest: Any) -> None:
        self._writeHeaders(version[self.sent :], *rest)


def _begins(channel: Any) -> bool:
    """
    Begin the response, or go on with it, by one byte of its HTTP version.
    """
    begun = vars(channel).get("writeHeaders")
    if not isinstance(begun, _Begun):
        begun = channel.writeHeaders = _Begun(channel.writeHeaders)
    byte = b"HTTP/1.0"[begun.sent : begun.sent + 1]
    begun.sent += len(byte)
    channel.transport.write(byte)
    return bool(byte)


def _isEventStream(request: Any) -> bool:
    if not request.startedWriting:
        return False
    kind = request.responseHeaders.getRawHeaders(b"content-type", [b""])[0]
    return bool(kind.strip().lower().startswith(b"text/event-stream"))


def _ofChannel(channel: Any) -> Any:
    """
    The conversation of a channel, or of the protocol that it was upgraded to.
    """
    if channel.transport is None:  # Autobahn has taken the connection over
        return SILENT
    # twisted.web.websocket replaces this when it takes the connection over.
    receives = vars(channel).get("dataReceived")
    taker = getattr(receives, "__self__", channel)
    if taker is channel:
        return HTTP1(channel)
    return IConversation(taker, None) or Conversation(taker)


class Undecided(HTTP1):
    """
    A connection that may be HTTP/1.1 or HTTP/2: TLS has not negotiated that yet.
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol._channel)
        self._generic = protocol

    def drainBegins(self, transport: Any, seconds: Optional[float]) -> None:
        """
        Tell the present conversation, and the next one if HTTP/2 is negotiated.
        """
        generic = self._generic
        received = generic.dataReceived

        def first(data: bytes) -> None:
            del generic.dataReceived
            received(data)
            if generic._channel is not self.protocol:
                IConversation(generic._channel).drainBegins(transport, seconds)

        generic.dataReceived = first
        super().drainBegins(transport, seconds)


def _ofGeneric(protocol: Any) -> Any:
    # HTTP/1.1, or HTTP/2 once TLS has negotiated that.
    if protocol._negotiatedProtocol is None:
        return Undecided(protocol)
    return adapted(IConversation, protocol._channel)


def register(http: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.web.http}.
    """
    standing.append(http.HTTPChannel)
    registerAdapter(_ofChannel, http.HTTPChannel, IConversation)
    generic = http._GenericHTTPChannelProtocol
    registerAdapter(_ofGeneric, generic, IConversation)


__all__ = ["HTTP1", "register"]
