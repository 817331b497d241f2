"""
The work in flight on a connection: holds, and producers that still have
something to give.
"""

from __future__ import annotations

from typing import Optional, Protocol

from twisted.internet.interfaces import ISystemHandle
from zope.interface import implementer

from ..interfaces import IHold


class Held(Protocol):
    """
    What a L{Hold} needs of the transport that it keeps alive.
    """

    def released(self) -> None: ...


@implementer(IHold)
class Hold:
    """
    One count of the work in flight on a connection.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Optional[Held]) -> None:
        self._transport = transport

    def release(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.released()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def isIdle(producer: object, peerDone: bool) -> bool:
    """
    Does it stay registered with nothing to give?  Waiting for it to unregister
    would keep the connection for ever.

    twisted.web's channels, for HTTP/1 and HTTP/2, register themselves for as
    long as they live, to be told of back-pressure; they are in flight only
    while they have requests, or streams.  They are known by their attributes,
    so that nobody who does without twisted.web has to load it.

    A proxy registers one transport with another and leaves it there
    (L{twisted.protocols.portforward}).  When that has ended nothing comes from
    it; and when the peer has sent its FIN, each of the two would wait for the
    other.

    @param peerDone: has the peer sent its FIN?
    """
    if ISystemHandle.providedBy(producer):
        return peerDone or bool(getattr(producer, "disconnected", False))
    if hasattr(producer, "requestDone"):  # twisted.web.http.HTTPChannel
        return not getattr(producer, "requests", True)
    if hasattr(producer, "endRequest"):  # twisted.web._http2.H2Connection
        return not getattr(producer, "streams", True)
    return False


__all__ = ["Held", "Hold", "isIdle"]
