"""
Types for arguments that need only have one method.

Twisted's endpoints, factories and producers are recognized by their interfaces
(zope.interface), and a type checker understands these only with a plugin, which
mypy has (mypy-zope) and pyright has not.  So each type here is either the
interface or anything that has its method.
"""

from __future__ import annotations

from typing import Any, Optional, Protocol, TypeVar, Union

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProducer,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)

_Built = TypeVar("_Built", covariant=True)


class Listens(Protocol):
    """
    An object with C{listen}, as a server endpoint has it.
    """

    def listen(self, factory: Any, /) -> Deferred[Any]: ...


class Connects(Protocol):
    """
    An object with C{connect}, as a client endpoint has it.
    """

    def connect(self, factory: Any, /) -> Deferred[Any]: ...


class Builds(Protocol[_Built]):
    """
    An object with C{buildProtocol}, as a factory of protocols has it.
    """

    def buildProtocol(self, addr: Any, /) -> Optional[_Built]: ...


class Stops(Protocol):
    """
    An object with C{stopProducing}, which each producer has.
    """

    def stopProducing(self) -> object: ...


ServerEndpoint = Union[IStreamServerEndpoint, Listens]
ClientEndpoint = Union[IStreamClientEndpoint, Connects]
ProtocolFactory = Union[IProtocolFactory, Builds[Any]]
Producer = Union[IProducer, Stops]

__all__ = [
    "Builds",
    "ClientEndpoint",
    "Connects",
    "Listens",
    "Producer",
    "ProtocolFactory",
    "ServerEndpoint",
    "Stops",
]
