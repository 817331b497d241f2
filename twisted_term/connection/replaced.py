"""
What is used of the private attributes of Twisted's transports, and why
(L{twisted_term.web} says the same of twisted.web's):

  - C{dataBuffer}, C{offset} and C{_tempDataLen} of
    L{twisted.internet.abstract.FileDescriptor}, C{_appSendBuffer} and
    C{_aggregator._buffer} of L{twisted.protocols.tls}: Twisted has no public way to ask
    how many written bytes have not reached the kernel, and a report that calls
    bytes delivered which never left the process would be wrong.
  - C{_tlsConnection} of L{twisted.protocols.tls.TLSMemoryBIOProtocol}: it ends
    both directions when the peer's close_notify arrives, and drops what is
    written from then on; only the OpenSSL connection beneath knows better.
"""

from __future__ import annotations

from typing import Any


def unsentBytes(transport: Any) -> int:
    """
    Bytes that wait in a Twisted transport's own buffer; 0 where it has none.
    """
    try:
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    except (AttributeError, TypeError):
        return 0


def unencryptedBytes(tls: Any) -> int:
    """
    Bytes that wait in a C{TLSMemoryBIOProtocol} for the handshake, or for the
    next turn of the reactor.
    """
    waiting = list(getattr(tls, "_appSendBuffer", ()))
    waiting += getattr(getattr(tls, "_aggregator", None), "_buffer", ())
    return sum(map(len, waiting))


def replaceConnection(tls: Any, connection: Any) -> None:
    """
    Put something between a C{TLSMemoryBIOProtocol} and its OpenSSL connection.
    """
    tls._tlsConnection = connection


__all__ = ["replaceConnection", "unencryptedBytes", "unsentBytes"]
