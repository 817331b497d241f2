"""
What this package replaces on objects of Twisted's and of others, and what it
reads of their private attributes.  This list is complete; all of it goes
through L{replace}, which returns what undoes it, or is read by the functions
below.

What is read and replaced on the objects of applications is listed in the modules
of L{twisted_term.applications}.

Replaced on one object each, from the begin of a connection to its end, unless
another time is named:

  - On the lowest transport (L{twisted_term.connection.beneath.descriptor}):
      - C{connectionLost}: Twisted closes the socket before it tells the
        protocol.  What the kernel knows of the connection has to be asked
        before that; and whatever a protocol on the way raises, the end must
        be told.
      - C{readConnectionLost} and C{_closeWriteConnection} (from our FIN on):
        Twisted tells of the two FINs only an outermost protocol that is an
        C{IHalfCloseableProtocol}.  Most that stand between it and us, TLS and
        tunnels for example, are not.
      - C{loseConnection}, where somebody stands between it and us: his end
        of the connection is to be a lingering one, too.
      - C{doRead} while L{twisted_term.connection.beneath.discard} discards.
      - C{protocol}, or C{wrappedProtocol} of a wrapper, where it is the
        application: the gate takes its place.
  - On the application (L{twisted_term.connection.gate}), where another one than
    its transport calls it, as Conch, tunnels and tests do: C{dataReceived},
    C{connectionLost}, and C{fileDescriptorReceived} if it has that.
  - On TLS (L{twisted_term.connection.beneath.tls}):
      - C{do_handshake}, C{recv}, C{shutdown}, C{bio_shutdown} of the OpenSSL
        connection, and C{bio_write} once nothing of TLS is wanted any more:
        C{TLSMemoryBIOProtocol} ends both directions when the peer's
        close_notify arrives, and drops what is written from then on; only the
        connection beneath knows better.
      - C{loseConnection} of the C{TLSMemoryBIOProtocol} and of the transport
        beneath it: both ask for the end of the whole connection.

Private attributes that are read:

  - C{dataBuffer}, C{offset} and C{_tempDataLen} of
    L{twisted.internet.abstract.FileDescriptor}, C{_appSendBuffer} and
    C{_aggregator._buffer} of L{twisted.protocols.tls}: Twisted has no public
    way to ask how many written bytes have not reached the kernel, and a report
    that calls bytes delivered which never left the process would be wrong.
"""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Replaced:
    """
    What L{replace} has replaced on one object.
    """

    __slots__ = ("_before", "_owner")

    def __init__(self, owner: Any, before: tuple[tuple[str, Any], ...]) -> None:
        self._owner = owner
        self._before = before

    def restore(self) -> None:
        """
        Give the object back what it had.  Again, it does nothing.
        """
        for name, value in self._before:
            if value is not _ABSENT:
                setattr(self._owner, name, value)
            else:  # that of its class
                vars(self._owner).pop(name, None)
        self._owner, self._before = None, ()


def replace(owner: Any, **attributes: Any) -> Replaced:
    """
    Give one object other attributes than it has.

    @return: what undoes it.
    """
    own = vars(owner)
    before = tuple([(name, own.get(name, _ABSENT)) for name in attributes])
    for name, value in attributes.items():
        setattr(owner, name, value)
    return Replaced(owner, before)


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


__all__ = ["Replaced", "replace", "unencryptedBytes", "unsentBytes"]
