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

    def __enter__() -> IHold:
        """
        @return: this token.
        """

    def __exit__(*exc: object) -> None:
        """
        Release it, also if the block has raised.
        """


# Interface is named because pydoctor does not look into Twisted, and would not know
# that ITransport is an interface.
class ITerminableTransport(ITransport, Interface):
    """
    A transport that ends without losing data, and says how it ended.
    """

    state = Attribute("The connection's L{twisted_term.State}.")
    protocol = Attribute("The application's protocol; may be replaced.")
    policy = Attribute("The L{twisted_term.TerminationPolicy} in force.")
    producer = Attribute("The registered producer, or C{None}.")
    peerDone = Attribute("Has the peer ended its direction?")

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
        Hold until C{deferred} fires.  Its result, or its failure, is passed on
        unchanged.

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
        counted in the report; the kernel goes on sending what it has, with FIN
        behind it (close(2); C{tcp_close}, net/ipv4/tcp.c).  If bytes have arrived
        that were not read, the kernel sends a reset instead (RFC 2525, 2.17).  Over
        TLS, no close_notify is sent.
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

    def whenDraining() -> Deferred[Any]:
        """
        For responses that have no end of their own: a long poll, or a stream of
        events.

        @return: a Deferred that fires with C{None} when the server begins to
            drain, and never if the connection ends before; a new one for each
            call.
        """

    def drainBegins(seconds: Optional[float] = None) -> None:
        """
        The server begins to drain.  The peer is told if its protocol has a way
        to say so, and the connection goes on.

        @param seconds: the time until connections are reset; C{None} for no
            limit.
        """

    def drain() -> None:
        """
        Finish what is in flight, say goodbye in the protocol's way, and end.
        What has arrived and is not read yet is read first.  See
        L{IConversation}.
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


class IApplicationKnowledge(Interface):
    """
    The common base of the interfaces to which an application may be adapted.  One
    lookup of this interface finds out that an application has no adapter at all, as
    most have none.
    """


class ITerminationHook(IApplicationKnowledge):
    """
    A protocol, or a factory, that has a say in how its connections end.

    The hook is looked for once for each end, when the end begins: on the protocol, on
    the protocols inside of it if it is a C{ProtocolWrapper}, on the protocol's
    factory, on the factory that was wrapped, and on the factories inside of that.
    The first object that provides this interface, or is adapted to it, is asked.

    Either method may be left out, which is the same as to return C{None}.  If one
    raises, that is logged, and the end goes on.
    """

    def endBegins(transport: Any, initiator: Any) -> Any:
        """
        Called once, when an orderly end is asked for: by C{loseConnection} or
        C{loseWriteConnection}, by a drain, or by the peer's FIN if the protocol is no
        C{IHalfCloseableProtocol}.  The end has not taken effect yet: what is written
        now is sent, and a hold that is taken now is waited for.  If
        C{abortConnection} or C{closeConnection} is called here, the connection ends
        in that way instead.

        @param transport: the L{ITerminableTransport}.
        @param initiator: the L{twisted_term.Initiator} of this end.
        @return: the L{twisted_term.TerminationPolicy} for this end, or C{None} to keep
            the present one.
        """

    def beforeClose(transport: Any) -> Any:
        """
        Called once, before the socket is closed, if the end is in order: our FIN is
        out, the peer has acknowledged all bytes, and either the peer's FIN has come or
        a linger limit is reached.  It is not called if the connection is aborted,
        closed by C{closeConnection} or lost, nor for a transport that cannot
        half-close, which closes by itself.

        While the close waits, what arrives is discarded, and
        C{abortConnection} and C{closeConnection} end it at once.

        To take the socket, the application duplicates its descriptor, by
        C{transport.socket.dup()} or by passing it to another process.  Our descriptor
        is closed then, and nothing is sent; the connection goes on as long as there
        is a duplicate (close(2)).

        @return: C{None} to close now; a Deferred, or a coroutine, to close when it is
            done; or L{Outcome.TAKEN<twisted_term.Outcome>}, as such or as the result of
            the Deferred, if the application has taken the socket.  A failure is
            logged.  A Deferred that takes longer than the policy's C{closeTimeout} is
            cancelled, and the socket is closed.
        """


class IDrainable(Interface):
    """
    A factory that ends its connections itself when the server is drained,
    because it knows what is in flight.  The connections of any other factory are
    ended by their L{IConversation}.
    """

    def drain(transport: Any) -> None:
        """
        Finish what is in flight on one connection, then end it.  Called once
        for each connection, also for one that is made during the drain.

        @param transport: its L{ITerminableTransport}.
        """


class IDrainListener(Interface):
    """
    A factory that wants to know when its server is drained.  It is told if it is
    given to a L{twisted_term.DrainingService}, to a
    L{twisted_term.TerminatingServerEndpoint}, or to an endpoint with C{term:}, also
    inside of a L{twisted.protocols.policies.WrappingFactory}.  A factory that serves
    on several endpoints of one service is told once.  If it serves on several
    endpoints with C{term:}, each of them is drained on its own, and the factory is
    told for each.
    """

    def servingBegins() -> None:
        """
        Called when the server is about to listen: at first, and when a service
        that was drained is started again.
        """

    def drainBegins() -> None:
        """
        Called when a drain begins, before anything else happens and before
        C{readinessDelay}.  New connections may still be made, and requests may still
        come on all connections.  An exception is logged.
        """


class IConversation(IDrainable, IApplicationKnowledge):
    """
    What an application protocol has in flight on its connection, what the peer's FIN
    means to it, and how it says goodbye.

    The protocol, the protocols inside of it if it is a C{ProtocolWrapper}, the
    protocol's factory, and the registered producer are adapted to this interface, in
    this order; if none of them has an adapter,
    L{twisted_term.applications.Conversation} answers.  It is not asked before an end
    or a drain has begun.  An exception is logged, and counts as C{False}.
    """

    def inFlight(transport: Any) -> bool:
        """
        Does the application still have something to send that was begun
        before the end was asked for?  FIN waits while it does, and what is
        written is sent.  Holds are counted elsewhere.

        This is asked when an end begins, before it takes effect and, if something is
        in flight, again afterwards; when a producer unregisters, when a hold is
        released, when reading is resumed, and, after the peer's FIN, each second.

        @param transport: the L{ITerminableTransport}: its C{peerDone} says
            that nothing more arrives, and its C{disconnecting} that the
            application has called C{loseConnection}.
        """

    def peerFin(transport: Any) -> bool:
        """
        The peer has sent its FIN.

        @return: C{True} if the peer has gone: then what is in flight is stopped, and
            the connection ends.  C{False} if the peer may still be reading.
        """

    def probe(transport: Any) -> bool:
        """
        The peer has sent its FIN, and something is in flight for it: write something
        that a peer ignores if it still reads.  If the peer has closed, its kernel
        answers with RST, and the application is told.

        Called 0.3 seconds after the FIN, and then at intervals that double.

        @return: C{False} if there is nothing to say now.  TCP's keep-alive, which
            is on from the peer's FIN, finds out within a minute or so.
        """

    def expectsMore(transport: Any) -> bool:
        """
        Is the peer about to send something, as far as the protocol says: the rest
        of a request, or its own goodbye?  Asked when our FIN is out, if the
        policy's C{linger} is C{"on"}.
        """

    def drainBegins(transport: Any, seconds: Optional[float]) -> None:
        """
        The server begins to drain; the connection goes on for now, and
        C{drain} will be called.

        @param seconds: the time until connections are reset; C{None} for no
            limit.
        """


__all__ = [
    "IConversation",
    "IDrainListener",
    "IDrainable",
    "IHold",
    "ITerminableTransport",
    "ITerminationHook",
    "ITerminationListener",
]
