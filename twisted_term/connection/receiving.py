"""
What a transport gives to a protocol, and the objects that receive it in the place of
the application.

To support another optional interface for receiving, such as
C{IFileDescriptorReceiver}, add its method's name to L{RECEIVED}, a property to
L{Received}, and a method to L{Discarding}.
"""

from __future__ import annotations

import os
from operator import attrgetter
from typing import Any

from ..standin import StandIn

#: The methods by which a protocol receives.
RECEIVED = ("dataReceived", "fileDescriptorReceived")


def _passed(name: str) -> Any:
    # The getter is a C function, so that a read goes to the present receiver
    # without a Python frame, and finds a method that was replaced on the
    # application.  Code that replaces the method here replaces the application's.
    return property(
        attrgetter(f"receiver.{name}"),
        lambda standIn, method: setattr(standIn._subject, name, method),
    )


class Received(StandIn):
    """
    Stands in for a protocol, but what is received goes to the present receiver.

    @ivar receiver: the protocol, a L{Noting}, or a L{Discarding}.
    """

    __slots__ = ("receiver",)

    receiver: Any

    dataReceived = _passed("dataReceived")
    fileDescriptorReceived = _passed("fileDescriptorReceived")


class Own:
    """
    The application's own methods, kept while the application's attributes are replaced.
    """

    def __init__(self, application: Any) -> None:
        for name in RECEIVED:
            method = getattr(application, name, None)
            if method is not None:
                setattr(self, name, method)


class Noting:
    """
    Passes on what is received, and tells the connection that it has arrived.

    @ivar to: the object that what is received is passed on to.
    """

    __slots__ = ("_gate", "to")

    def __init__(self, gate: Any) -> None:
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

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def dataReceived(self, data: bytes) -> None:
        self._connection.discarded(len(data))

    def fileDescriptorReceived(self, descriptor: int) -> None:
        # The receiver of a descriptor must close it (IFileDescriptorReceiver).
        os.close(descriptor)


__all__ = ["RECEIVED", "Discarding", "Noting", "Own", "Received"]
