"""
For type checkers: the attributes that a transport has beside those of its class,
which are those of Twisted's stream transports.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from twisted.internet.interfaces import IAddress

from ..standin import StandIn

class Declared(StandIn):
    """
    Type checkers take this for the base class of L{TerminatingTransport}.  It is not
    imported when the program runs: each of these methods is found on the wrapped
    transport, and need not be there (a UNIX socket has no C{startTLS}, for one).
    """

    connected: bool
    #: See L{twisted.internet.interfaces.INegotiated}.
    negotiatedProtocol: Optional[bytes]
    #: The reactor that serves the connection.
    reactor: Any

    # ITransport

    def write(self, data: bytes) -> None: ...
    def writeSequence(self, data: Iterable[bytes]) -> None: ...
    def getHost(self) -> IAddress: ...

    # ITCPTransport and IUNIXTransport

    def getTcpNoDelay(self) -> bool: ...
    def setTcpNoDelay(self, enabled: bool) -> None: ...
    def getTcpKeepAlive(self) -> bool: ...
    def setTcpKeepAlive(self, enabled: bool) -> None: ...
    def sendFileDescriptor(self, descriptor: int) -> None: ...

    # ISSLTransport

    def getPeerCertificate(self) -> Any: ...

    # Of Twisted's descriptors.

    def fileno(self) -> int: ...
    def getHandle(self) -> Any: ...
    def logPrefix(self) -> str: ...

__all__ = ["Declared"]
