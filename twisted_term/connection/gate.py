"""
The gate: the object that the transport calls in the place of the application.
"""

from __future__ import annotations

import os
from operator import attrgetter
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from ..standin import StandIn
from .replaced import replace


class Told(Protocol):
    """
    What a L{Gate} calls on its connection.
    """

    def peerFin(self) -> None: ...
    def finSent(self) -> None: ...
    def finished(self, reason: Failure) -> None: ...
    def arrived(self, count: int) -> None: ...
    def discarded(self, count: int) -> None: ...


class Noting:
    """
    Passes on what is received, and tells the connection that it has arrived.

    @ivar to: the object that what is received is passed on to.
    """

    __slots__ = ("_gate", "to")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.to: Any = gate.receiver

    def dataReceived(self, data: bytes) -> None:
        self._gate.connection.arrived(len(data))
        self.to.dataReceived(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.to, name)


class Discarding:
    """
    Receives in the place of the application, and drops what it receives.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Told) -> None:
        self._connection = connection

    def dataReceived(self, data: bytes) -> None:
        self._connection.discarded(len(data))

    def fileDescriptorReceived(self, descriptor: int) -> None:
        # The receiver of a descriptor must close it (IFileDescriptorReceiver).
        os.close(descriptor)


class Gate(StandIn):
    """
    Stands in for the application, before a transport.

    Twisted's transports, and the wrappers around them, look for interfaces and
    attributes on a protocol.  On a gate they find those of the application, by the
    rule of L{StandIn}.  The gate tells the connection only of the begin and of the
    ends.  What is received goes to the present receiver.

    @ivar receiver: the application, a L{Noting}, or a L{Discarding}.
    @ivar connection: C{None} before the connection is made, and after its end.
    """

    __slots__ = ("connection", "receiver")
    _adds = (IHalfCloseableProtocol,)

    connection: Any
    receiver: Any

    def __init__(self, application: Any) -> None:
        _setSubject(self, application)
        _setReceiver(self, application)
        _setConnection(self, None)

    def _replaceApplication(self, application: Any) -> None:
        self.redirect(self._subject, application)
        _setSubject(self, application)

    #: The application's protocol; may be replaced, as Twisted's can.
    application: Any = property(attrgetter("_subject"), _replaceApplication)

    def builder(self) -> Any:
        """
        The outermost of the factories that were wrapped to have this gate built;
        C{None} if no factory was.
        """
        return None

    # The getter is a C function, so that a read goes to the present receiver
    # without a Python frame, and finds a method that was replaced on the
    # application.  Code that replaces the method here replaces the application's.
    dataReceived: Any = property(
        attrgetter("receiver.dataReceived"),
        lambda self, method: setattr(self._subject, "dataReceived", method),
    )

    def __conform__(self, interface: Any) -> Any:
        if interface is IHalfCloseableProtocol:
            return self  # as Twisted's transports ask for each FIN
        conform = getattr(self._subject, "__conform__", None)
        return None if conform is None else conform(interface)

    @property
    def fileDescriptorReceived(self) -> Any:
        return self.receiver.fileDescriptorReceived

    def readConnectionLost(self) -> None:
        self.connection.peerFin()

    def writeConnectionLost(self) -> None:
        self.connection.finSent()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.connection is not None:
            # Some libraries that host a protocol, such as Autobahn, give no reason.
            self.connection.finished(reason or connectionDone)
        elif self.receiver is not None:  # another gate is farther out
            self._subject.connectionLost(reason)

    def receives(self, receiver: Any) -> None:
        """
        From now on, C{receiver} is given what arrives.
        """
        _setReceiver(self, receiver)

    def redirect(self, before: Any, after: Any) -> None:
        """
        If C{before} is given what arrives, C{after} is given it from now on.
        """
        receiver = self.receiver
        if receiver is before:
            _setReceiver(self, after)
        elif isinstance(receiver, Noting) and receiver.to is before:
            receiver.to = after

    def opened(self, connection: Any) -> None:
        """
        The connection is made.
        """
        _setConnection(self, connection)

    def closed(self) -> None:
        """
        The connection has ended.  Leave no cycle of references behind.
        """
        _setConnection(self, None)
        _setReceiver(self, None)


_setSubject, _setReceiver, _setConnection = (
    getattr(Gate, name).__set__ for name in ("_subject", "receiver", "connection")
)


class Own:
    """
    The methods of an application itself, behind L{Intercepted}.
    """

    def __init__(self, application: Any) -> None:
        for name in _RECEIVED:
            method = getattr(application, name, None)
            if method is not None:
                setattr(self, name, method)


_RECEIVED = ("dataReceived", "fileDescriptorReceived")


class Shown(StandIn):
    """
    Stands in for a wrapper (most often TLS) with a gate inside, or with a protocol
    whose place the gate is to take, and shows the application there.
    """

    __slots__ = ("_connection",)

    def __init__(self, wrapper: Any, connection: Any) -> None:
        StandIn.__init__(self, wrapper)
        self._connection = connection

    @property
    def wrappedProtocol(self) -> Any:
        inside = self._subject.wrappedProtocol
        return inside.application if isGate(inside) else inside

    @wrappedProtocol.setter
    def wrappedProtocol(self, protocol: Any) -> None:
        inside = self._subject.wrappedProtocol
        if isGate(inside) and inside.connection is None:  # it has ended
            inside.application = protocol
        else:
            self._connection.protocol = protocol


def isGate(protocol: object) -> bool:
    """
    Is it a gate, and not an application that a gate stands in for?
    """
    return issubclass(type(protocol), Gate)


def shown(protocol: Any, connection: Any) -> Any:
    """
    What the application sees as the C{protocol} of its transport.
    """
    if protocol is None or isGate(protocol):
        return connection.protocol
    if issubclass(type(protocol), ProtocolWrapper):
        return Shown(protocol, connection)
    return protocol


def _place(transport: Any) -> tuple[Any, str]:
    """
    Where a transport keeps its protocol: the object, and the attribute's name.
    """
    if isinstance(transport, ProtocolWrapper):
        return transport, "wrappedProtocol"
    protocol = getattr(transport, "protocol", None)
    if getattr(transport, "TLS", False) and isinstance(protocol, ProtocolWrapper):
        return protocol, "wrappedProtocol"  # by startTLS
    return transport, "protocol"


def takePlace(gate: Gate, transport: Any) -> bool:
    """
    Make the gate the protocol of its transport, if the application is that protocol
    now, or if there is none yet.

    @return: C{False} if the transport has another protocol.
    """
    owner, name = _place(transport)
    there = getattr(owner, name, None)
    if there is not None and there is not gate.application:
        return False
    setattr(owner, name, gate)
    return True


def moveIn(gate: Gate, transport: Any) -> bool:
    """
    Make the gate the protocol of its transport in the place of another protocol,
    which the transport does not call any more.

    @return: C{False} if the transport has no protocol, or a gate already.
    """
    owner, name = _place(transport)
    there = getattr(owner, name, None)
    if there is None or isGate(there):
        return False
    setattr(owner, name, gate)
    return True


class Intercepted:
    """
    An application that other code than its transport calls: a Conch channel, a
    tunnel that had the connection first, an endpoint of a client, iosim, or a test
    with a C{StringTransport}.  These calls go through the gate, too.
    """

    __slots__ = ("_gate", "_own", "_replaced")

    def __init__(self, gate: Gate) -> None:
        application = gate.application
        self._gate = gate
        self._own = own = Own(application)
        gate.redirect(application, own)
        calls: dict[str, Any] = {
            "dataReceived": lambda data: gate.receiver.dataReceived(data),
            "fileDescriptorReceived": lambda descriptor: (
                gate.receiver.fileDescriptorReceived(descriptor)
            ),
        }
        received = {name: call for name, call in calls.items() if hasattr(own, name)}
        self._replaced = replace(
            application, connectionLost=gate.connectionLost, **received
        )

    def restore(self) -> None:
        """
        From now on, only the gate calls the application.
        """
        self._replaced.restore()
        self._gate.redirect(self._own, self._gate.application)


__all__ = [
    "Discarding",
    "Gate",
    "Intercepted",
    "Noting",
    "Shown",
    "Told",
    "isGate",
    "moveIn",
    "shown",
    "takePlace",
]
