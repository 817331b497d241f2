"""
Placing the gate: as the protocol of its transport, where that is possible, or else by
replacing the methods of the application.
"""

from __future__ import annotations

from typing import Any, Callable

from twisted.protocols.policies import ProtocolWrapper

from ..standin import StandIn
from .gate import Gate, isGate
from .receiving import RECEIVED, Own
from .replaced import replace


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
        if isGate(inside) and inside.connection is None:  # the connection has ended
            inside.application = protocol
        else:
            self._connection.protocol = protocol


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


def _through(gate: Gate, name: str) -> Callable[..., object]:
    return lambda *received: getattr(gate.receiver, name)(*received)


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
        received = {
            name: _through(gate, name) for name in RECEIVED if hasattr(own, name)
        }
        self._replaced = replace(
            application, connectionLost=gate.connectionLost, **received
        )

    def restore(self) -> None:
        """
        From now on, only the gate calls the application.
        """
        self._replaced.restore()
        self._gate.redirect(self._own, self._gate.application)


__all__ = ["Intercepted", "Shown", "moveIn", "shown", "takePlace"]
