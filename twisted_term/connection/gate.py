"""
What stands between a wrapped transport and the application's protocol.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, Callable, Optional

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ILoggingContext,
    IProtocol,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from .machine import Input


class Receiver:
    """
    Takes incoming bytes in the application's stead, and counts them.
    """

    def __init__(self, transport: Any, deliver: Optional[Callable[[], Any]]) -> None:
        self._transport = transport
        self._deliver = deliver

    def dataReceived(self, data: bytes) -> None:
        self._transport._arrived(len(data), self._deliver is None)
        if self._deliver is not None:
            self._deliver().dataReceived(data)


@implementer(IProtocol, IHalfCloseableProtocol, ILoggingContext)
class Gate:
    """
    What the wrapped transport has for a protocol: it stands before the
    application.
    """

    factory = None
    # A property over a C function: reads go to whoever receives them now
    # without a Python frame, and see a replaced method of the application.
    dataReceived: Any = property(attrgetter("receiver.dataReceived"))

    transport: Any = None

    def __init__(self, application: Any) -> None:
        self.application = self.receiver = application
        if IHandshakeListener.providedBy(application):
            alsoProvides(self, IHandshakeListener)

    def makeConnection(self, transport: object) -> None:
        raise RuntimeError("a Gate is connected when it is made")

    def connectionMade(self) -> None:
        """
        Never called: the application's own C{makeConnection} is.
        """

    def logPrefix(self) -> str:
        application = self.application
        prefix = getattr(application, "logPrefix", None)
        return prefix() if prefix is not None else type(application).__name__

    def handshakeCompleted(self) -> None:
        listener = IHandshakeListener(self.transport.protocol, None)
        if listener is not None:
            listener.handshakeCompleted()

    def readConnectionLost(self) -> None:
        self.transport._peerFin()

    def writeConnectionLost(self) -> None:
        self.transport._finSent = True
        self.transport._input(Input.FIN_SENT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport._finished(reason)


class Own:
    """
    The methods of a protocol itself, behind L{intercept}.
    """

    def __init__(self, protocol: Any) -> None:
        self.dataReceived = protocol.dataReceived
        self.connectionLost = protocol.connectionLost


def intercept(protocol: Any, gate: Gate) -> None:
    """
    Let a gate stand before a protocol that is called by others than its
    transport, as a Conch channel, iosim, and a test with StringTransport do.
    """
    gate.application = gate.receiver = Own(protocol)
    protocol.dataReceived = lambda data: gate.receiver.dataReceived(data)
    protocol.connectionLost = gate.connectionLost


def bottom(transport: Any) -> Any:
    """
    What lies beneath the wrappers around a transport, TLS among them, or
    around a L{TerminatingTransport}.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def isTLS(wrapper: object) -> bool:
    """
    Is it Twisted's TLS?  Who has one has loaded it; nobody else has to.
    """
    module = sys.modules.get("twisted.protocols.tls")
    return module is not None and isinstance(wrapper, module.TLSMemoryBIOProtocol)


def innermostTLS(protocol: Any) -> Any:
    """
    The last TLS among the wrappers around a protocol, or C{None}.
    """
    found = None
    while isinstance(protocol, ProtocolWrapper):
        if isTLS(protocol):
            found = protocol
        protocol = protocol.wrappedProtocol
    return found


def tellHalfClose(wrapper: Any, gate: Gate) -> None:
    """
    Let a wrapper, which knows nothing of half-close, pass it on: the
    transport looks to the outermost one for it.  So do what Twisted's client
    endpoints put around a protocol: of the interfaces that it provides they
    pass on the last one only.
    """
    outermost = getattr(bottom(wrapper), "protocol", gate)
    if not IHalfCloseableProtocol.providedBy(outermost):
        alsoProvides(outermost, IHalfCloseableProtocol)
    while isinstance(wrapper, ProtocolWrapper):
        alsoProvides(wrapper, IHalfCloseableProtocol)
        wrapper.readConnectionLost = gate.readConnectionLost  # type: ignore
        wrapper.writeConnectionLost = gate.writeConnectionLost  # type: ignore
        wrapper = wrapper.transport


__all__ = [
    "Gate",
    "Receiver",
    "bottom",
    "innermostTLS",
    "intercept",
    "tellHalfClose",
]
