"""
The interfaces that this package adds to Twisted's.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from zope.interface import Attribute, Interface


class IHold(Interface):
    """
    A token for work in flight.  Also a context manager that releases at exit.
    """

    def release() -> None:
        """
        The work is done.  Calling it again does nothing.
        """


# pydoctor, which does not look into Twisted, knows an interface by Interface.
class ITerminableTransport(ITransport, Interface):
    """
    A transport that ends without losing data, and says how it ended.
    """

    state = Attribute("The connection's L{twisted_term.State}.")
    protocol = Attribute("The application's protocol; may be replaced.")
    policy = Attribute("The L{twisted_term.TerminationPolicy} in force.")
    producer = Attribute("The registered producer, or C{None}.")

    def hold() -> IHold:
        """
        Keep the connection alive while work is in flight.

        Until the token is released no FIN is sent, and C{write} is served
        even after an end was asked for.  A hold that is taken when the FIN is
        already on its way holds nothing.

        @return: an L{IHold}
        """

    def track(deferred: Deferred[Any]) -> Deferred[Any]:
        """
        Hold until C{deferred} fires, with a result or a failure, which is
        passed on unchanged.

        @return: C{deferred}
        """

    def loseWriteConnection() -> None:
        """
        Half-close: FIN after the work in flight is done and all buffered
        bytes are sent.  The application goes on reading, and is told by
        C{writeConnectionLost} if it is an C{IHalfCloseableProtocol}.

        Over TLS, close_notify comes before FIN (RFC 8446, 6.1), when the
        handshake is done.  A peer that keeps to RFC 5246, 7.2.1, as only TLS 1.2
        asks for, drops what it has not sent yet.  Where the transport cannot
        half-close (L{twisted.internet.interfaces.IHalfCloseableDescriptor}),
        it closes both directions.
        """

    def loseConnection() -> None:
        """
        Lingering close (RFC 9112, 9.6): FIN as for C{loseWriteConnection},
        then wait, within the policy, for the peer's FIN.  What arrives is
        discarded from now on.  Unsent data is sent first; over TLS, close_notify
        behind it.
        """

    def closeConnection() -> None:
        """
        Close now, and wait for nothing: neither for work in flight, nor for
        the peer.  What this process has not given to the kernel is lost, and
        counted in the report; what the kernel has goes out as it can, with FIN
        behind it (close(2); C{tcp_close}, net/ipv4/tcp.c).  It is no reset,
        unless something has arrived that was not read: then the kernel sends
        one (RFC 2525, 2.17).  Over TLS, no close_notify is sent.
        """

    def abortConnection() -> None:
        """
        Abortive close: discard unsent data and send RST now (RFC 9293,
        3.10.5); no TIME_WAIT is left.  Works in every state.  Over TLS, no
        alert and no close_notify is sent.  A transport that cannot reset is
        closed, and its unsent data is lost.
        """

    def terminate(timeout: Optional[float] = None) -> Deferred[Any]:
        """
        C{loseConnection}, and C{abortConnection} if the connection still
        lives after C{timeout} seconds (C{None}: the policy alone decides).

        @raise ValueError: for a negative timeout.
        @return: what C{whenTerminated} returns.
        """

    def whenTerminated() -> Deferred[Any]:
        """
        @return: a Deferred that fires with the L{twisted_term.Termination}
            when the connection has ended; a new one for each call.
        """


class ITerminationListener(Interface):
    """
    A protocol that wants to know how its connection ended.
    """

    def terminated(report: Any) -> None:
        """
        Called once, after C{connectionLost}.

        @param report: the L{twisted_term.Termination}.
        """


class IDrainable(Interface):
    """
    A factory that ends its connections itself when the server is drained,
    because it knows what is in flight.  For any other, C{loseConnection} is
    called; a connection of twisted.web's ends request by request.
    """

    def drain(transport: Any) -> None:
        """
        Finish what is in flight on one connection, then end it.  Called once
        for each connection, also for one that is made during the drain.

        @param transport: its L{ITerminableTransport}.
        """


class IDrainListener(Interface):
    """
    A factory that wants to know when its server is drained.  It is found where
    it is given to a L{twisted_term.DrainingService}, to
    L{twisted_term.TerminatingServerEndpoint} or behind C{term:}, also inside of
    a L{twisted.protocols.policies.WrappingFactory}.
    """

    def servingBegins() -> None:
        """
        Called when the server is about to listen: at first, and when a service
        that was drained is started again.
        """

    def drainBegins() -> None:
        """
        Called once when a drain begins, before anything else happens and before
        C{readinessDelay}.  New connections may still be made, and requests on
        those that are there may still come.  An exception is logged.
        """


__all__ = [
    "IDrainListener",
    "IDrainable",
    "IHold",
    "ITerminableTransport",
    "ITerminationListener",
]
