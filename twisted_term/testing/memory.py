"""
A connection in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

#: How many bytes the receiver's side accepts before the protocol has read them, and
#: how many the sender's side keeps before it pauses a producer.
WINDOW = 1 << 16


@implementer(ITCPTransport, IHalfCloseableDescriptor, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a connection in memory.  It does what Twisted's TCP transport does,
    including its faults: after C{loseConnection} has closed an end, it answers with a
    reset to what still arrives, and a reset destroys what the peer has not read (RFC
    1122, 4.2.2.13).

    Bytes move only in calls of the clock that are due at once: under a
    L{twisted.internet.task.Clock}, C{clock.advance(0)} makes one turn.

    @ivar protocol: the protocol that data is delivered to.
    @ivar written: bytes that were written, and have not left this end.
    """

    disconnecting = False
    connected = True
    bufferSize = WINDOW
    producer: Any = None
    protocol: Any = None
    peer: MemoryTransport

    def __init__(self, clock: IReactorTime, port: int) -> None:
        self.reactor = clock
        self.written = bytearray()
        self._arrived = bytearray()
        self._port = port
        self._reading = True
        self._streaming = False
        self._producerPaused = False
        self._finAsked = self._finSent = False
        self._finArrived = self._finRead = False
        self._turning = False

    # ITCPTransport

    def write(self, data: bytes) -> None:
        """
        @raise TypeError: if C{data} is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if self.connected and not self._finSent:
            self.written += data
            self._wake()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseWriteConnection(self) -> None:
        """
        Send FIN behind what is written.
        """
        self._finAsked = True
        self._wake()

    def loseConnection(self) -> None:
        """
        Stop reading, and close when all is written and no producer is left.
        """
        self.disconnecting = True
        self._reading = False
        self._wake()

    def abortConnection(self) -> None:
        """
        Reset.  What is written, and what the peer has not read, is lost.
        """
        if self.connected:
            self.written.clear()
            self.disconnecting = True
            self._reading = False
            self.peer._reset()
            self.reactor.callLater(0, self._lose, Failure(ConnectionAborted()))

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self._port)

    def getPeer(self) -> IPv4Address:
        return self.peer.getHost()

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    # IConsumer and IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        @raise RuntimeError: if one is registered.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self.producer!r} is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self._streaming = producer, streaming
        self._producerPaused = not streaming
        self._wake()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._wake()

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = self.connected and not self.disconnecting
        self._wake()

    def stopProducing(self) -> None:
        self.loseConnection()

    # IHalfCloseableDescriptor

    def readConnectionLost(self, reason: Optional[Failure] = None) -> None:
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.readConnectionLost()
        else:
            self._lose(Failure(ConnectionDone()))

    def writeConnectionLost(self, reason: Optional[Failure] = None) -> None:
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """
        This end of the connection is lost.
        """
        if not self.connected:
            return
        self.connected = False
        if self._arrived:
            # This is a close with unread data (RFC 2525, 2.17).
            self.peer._reset()
        elif not self._finSent:
            self.peer._fin()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(reason)

    # What happens in a turn.

    def _wake(self) -> None:
        if not self._turning:
            self._turning = True
            self.reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._turning = False
        for happen in (self._send, self._receive, self._produce, self._end):
            if self.connected:
                happen()

    def _send(self) -> None:
        peer = self.peer
        room = WINDOW - len(peer._arrived)
        if self.written and room > 0:
            data = self.written[:room]
            del self.written[:room]
            if not peer.connected:  # the peer has closed (RFC 9293, 3.10.7.1)
                self._reset()
                return
            peer._arrived += data
            peer._wake()
            self._wake()

    def _receive(self) -> None:
        if self._reading and self._arrived:
            data = bytes(self._arrived)
            self._arrived.clear()
            self.peer._wake()
            self._wake()
            self.protocol.dataReceived(data)
        elif self._reading and self._finArrived and not self._finRead:
            self._finRead = True
            self.readConnectionLost()

    def _produce(self) -> None:
        if self.producer is None:
            return
        full = len(self.written) >= WINDOW
        if self._streaming and full and not self._producerPaused:
            self._producerPaused = True
            self.producer.pauseProducing()
        elif not self.written and self._producerPaused:
            self._producerPaused = not self._streaming
            self.producer.resumeProducing()
            self._wake()

    def _end(self) -> None:
        if self.written:
            return
        if self._finAsked and not self._finSent:
            self._finSent = True
            self.peer._fin()
            self.writeConnectionLost()
        elif self.disconnecting and self.producer is None:
            self._lose(Failure(ConnectionDone()))

    def _fin(self) -> None:
        self._finArrived = True
        self._wake()

    def _reset(self) -> None:
        self._arrived.clear()
        self.written.clear()
        self.reactor.callLater(0, self._lose, Failure(ConnectionLost()))

    def _lose(self, reason: Failure) -> None:
        if self.connected:
            self.connectionLost(reason)


def memoryPair(
    clock: IReactorTime, server: Any, client: Any
) -> tuple[MemoryTransport, MemoryTransport]:
    """
    Connect two protocols by a connection in memory.

    @return: the server's transport, and the client's.
    """
    ends = MemoryTransport(clock, 80), MemoryTransport(clock, 49152)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    for end, protocol in zip(ends, (server, client)):
        end.protocol = protocol
    for end, protocol in zip(ends, (server, client)):
        protocol.makeConnection(end)
    return ends


__all__ = ["WINDOW", "MemoryTransport", "memoryPair"]
