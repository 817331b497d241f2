"""
The gate: the object that the transport calls in the place of the application.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from .receiving import Noting, Received


class Gate(Received):
    """
    Stands in for the application, before a transport.

    Twisted's transports, and the wrappers around them, look for interfaces and
    attributes on a protocol.  On a gate they find those of the application, by the
    rule of L{StandIn}.  The gate tells the connection only of the begin and of the
    ends.  What is received goes to the present receiver.

    @ivar connection: C{None} before the connection is made, and after its end.
    """

    __slots__ = ("connection",)
    _adds = (IHalfCloseableProtocol,)

    connection: Any

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

    def __conform__(self, interface: Any) -> Any:
        if interface is IHalfCloseableProtocol:
            return self  # as Twisted's transports ask for each FIN
        conform = getattr(self._subject, "__conform__", None)
        return None if conform is None else conform(interface)

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


def isGate(protocol: object) -> bool:
    """
    Is it a gate, and not an application that a gate stands in for?
    """
    return issubclass(type(protocol), Gate)


__all__ = ["Gate", "isGate"]
