"""
What this package replaces on objects of Twisted's and of others, and what it
reads of their private attributes.  This list is complete.  What is replaced is undone
by L{Replaced} or L{restore}, unless it says that it stays, and what is read is read by
the functions below.

The modules of L{twisted_term.applications} list what is read and replaced on the
objects of applications.

Replaced on one object each, from the begin of a connection to its end, unless
another time is named:

  - On the lowest transport (L{twisted_term.connection.beneath.descriptor}):
      - C{connectionLost}: Twisted closes the socket before it tells the
        protocol.  The kernel has to be asked before that; and even if a protocol
        on the way raises, the end must be reported.
      - C{readConnectionLost}, and C{_closeWriteConnection} from the moment at
        which FIN is queued, where another protocol is between the transport and
        the gate: Twisted tells of the two FINs only a protocol that is an
        C{IHalfCloseableProtocol}.  The gate is one, but most others, TLS and
        tunnels for example, are not.
      - C{loseConnection}, under the same condition: if that other protocol asks
        for the end, the connection lingers, too.
      - C{doRead} while L{twisted_term.connection.beneath.discard} discards; and
        on uvloop, see L{twisted_term.connection.beneath.lasting}.
      - C{startWriting} and C{doWrite}, before the end of a connection that is
        closed without waiting for anything, for Twisted may be about to call
        them; and C{doWrite} once FIN is out that was written without waiting for
        the reactor.  These stay, for the call may come after the end.
      - C{_shouldShutdown}, which stays, before the end of a connection whose socket the
        application has taken: Twisted shuts both directions down before it
        closes, for every process that has the socket.  It is also replaced where
        both directions have ended, because the shutdown would fail there.
      - C{protocol}, or C{wrappedProtocol} of a wrapper, where it is the
        application: the gate takes its place.  If the application replaces its
        protocol, this is done again.
  - On the application (L{twisted_term.connection.placing}), where other code than
    its transport calls it, as Conch, tunnels and tests do: C{dataReceived},
    C{connectionLost}, and C{fileDescriptorReceived} if it has that.
  - On TLS (L{twisted_term.connection.beneath.tls}):
      - C{do_handshake}, C{recv}, C{shutdown}, C{bio_shutdown} of the OpenSSL
        connection, and C{bio_write} after TLS has failed or the peer's close_notify
        has come: C{TLSMemoryBIOProtocol} ends both directions when the peer's
        close_notify arrives, and drops what is written from then on.
      - C{loseConnection} of the C{TLSMemoryBIOProtocol} and of the transport
        beneath it: both ask for the end of the whole connection.
  - On a port (L{twisted_term.drain.port}): C{numberAccepts}, a public attribute, for
    the one call in which it accepts what the kernel has queued before it closes.

Private attributes that are read:

  - C{dataBuffer}, C{offset} and C{_tempDataLen} of
    L{twisted.internet.abstract.FileDescriptor}, C{_appSendBuffer} and
    C{_aggregator._buffer} of L{twisted.protocols.tls}: Twisted has no public
    way to ask how many written bytes have not reached the kernel, and a report
    that calls bytes delivered which never left the process would be wrong.
  - C{_writeDisconnected} of C{FileDescriptor}: whether FIN is out.
  - C{_asyncioEventloop} of L{twisted.internet.asyncioreactor}: uvloop's has a fault
    that others have not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional


class Replaced:
    """
    The attributes that are replaced on one object, and how that is undone.
    """

    __slots__ = ("_before", "_names", "_own")

    def __init__(self, owner: Any) -> None:
        self._own: dict[str, Any] = vars(owner)
        self._names: list[str] = []
        self._before: Optional[dict[str, Any]] = None

    def put(self, name: str, value: Any) -> None:
        """
        Give the object another attribute than its class has.
        """
        own = self._own
        if name in own:
            if self._before is None:
                self._before = {}
            self._before.setdefault(name, own[name])
        own[name] = value
        self._names.append(name)

    def restore(self) -> None:
        """
        Give the object back what it had.
        """
        own = self._own
        for name in self._names:
            own.pop(name, None)
        self._names.clear()
        if self._before is not None:
            own.update(self._before)
            self._before = None


def replace(owner: Any, **attributes: Any) -> Replaced:
    """
    Give one object other attributes than its class has.

    @return: the object that undoes it.
    """
    replaced = Replaced(owner)
    for name, value in attributes.items():
        replaced.put(name, value)
    return replaced


#: Give one object another method than its class has, by a name of the list above.
put = setattr


def restore(owner: Any, names: Iterable[str]) -> None:
    """
    Give one object back the methods of its class.  A second call does nothing.
    """
    for name in names:
        try:  # noqa: SIM105 - contextlib.suppress is three calls more
            delattr(owner, name)
        except AttributeError:
            pass


def eventLoop(reactor: Any) -> Any:
    """
    The asyncio loop that a reactor stands on; C{None} for all others.
    """
    return getattr(reactor, "_asyncioEventloop", None)


def leaveOpen(transport: Any) -> None:
    """
    Make a Twisted transport close its descriptor without a C{shutdown}.
    """
    transport._shouldShutdown = False


def finIsOut(transport: Any) -> bool:
    """
    Has a Twisted transport sent FIN?
    """
    return getattr(transport, "_writeDisconnected", False)


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


__all__ = [
    "Replaced",
    "eventLoop",
    "finIsOut",
    "leaveOpen",
    "put",
    "replace",
    "restore",
    "unencryptedBytes",
    "unsentBytes",
]
