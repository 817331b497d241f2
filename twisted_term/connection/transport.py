"""
The transport that an application writes to.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Callable, Optional

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from .._checks import checkPolicy
from .._types import Producer
from ..interfaces import ITerminableTransport
from ..policy import TerminationPolicy
from ..standin import StandIn
from . import draining
from .gate import Gate
from .hold import Hold
from .machine import Input, State
from .placing import shown
from .report import Termination
from .shell import Connection

if TYPE_CHECKING:
    from .declared import Declared
else:
    Declared = StandIn

_DEFAULT_POLICY = TerminationPolicy()


def _writers(name: str) -> property:
    return property(
        attrgetter(f"_writer.{name}"),
        lambda transport, method: setattr(transport.wrapped, name, method),
        lambda transport: delattr(transport.wrapped, name),
    )


class _Roomy(Declared):
    """
    Gives one transport a C{__dict__}, for the methods that are replaced on it.
    """

    __slots__ = ("__dict__",)


_ownOf: Callable[[Any], dict[str, Any]] = vars(_Roomy)["__dict__"].__get__


@implementer(ITerminableTransport)
class TerminatingTransport(_Roomy):
    """
    An L{ITerminableTransport} that stands in for a Twisted transport.  Other code
    takes it for the wrapped transport: it provides the same interfaces, has the same
    class and attributes, and is equal to it.

    @ivar _writer: the object that writes go to: the wrapped transport while what is
        written is sent, and after that the ending, which counts the writes.
    """

    __slots__ = ("_connection", "_writer")
    _adds = (ITerminableTransport,)

    _connection: Connection
    _writer: Any

    def __init__(
        self,
        wrapped: Any,
        protocol: Any,
        policy: Optional[TerminationPolicy] = None,
        clock: Optional[IReactorTime] = None,
        gate: Optional[Gate] = None,
    ) -> None:
        """
        @param wrapped: the transport; from now on its C{protocol} is ours.
        @param protocol: the application's protocol.
        @param policy: the limits; C{None} for the defaults.
        @param clock: for the timers; C{None} for the wrapped transport's
            reactor, or else the global one.
        @param gate: the gate, if C{wrapped} has one for its protocol already.
        """
        connection = Connection(self, wrapped, policy or _DEFAULT_POLICY, clock)
        _setSubject(self, wrapped)
        _setConnection(self, connection)
        _setWriter(self, wrapped)
        connection.open(wrapped, gate or Gate(protocol), gate is not None)

    def __repr__(self) -> str:
        return repr(self._subject)

    if not TYPE_CHECKING:

        @property
        def __dict__(self) -> dict[str, Any]:
            """
            A copy of the wrapped transport's attributes, as they are seen here.
            C{unittest.mock} restores what it finds there, and deletes what it does
            not find.
            """
            found = dict(_ownOf(self))
            for name, value in vars(self._subject).items():
                here = getattr(TerminatingTransport, name, None)
                if isinstance(here, property):
                    found[name] = getattr(self, name)
                elif here is None:
                    found.setdefault(name, value)
            return found

    # What the application asks for.

    @property
    def wrapped(self) -> Any:
        """
        The transport that this one stands in for.
        """
        return self._subject

    @property
    def state(self) -> State:
        return self._connection.node.state

    @property
    def disconnecting(self) -> bool:
        """
        Has C{loseConnection} been called, or have both directions ended?
        """
        return self._connection.node.closing

    @property
    def policy(self) -> TerminationPolicy:
        """
        The limits; may be replaced until the end is asked for.
        """
        return self._connection.policy

    @policy.setter
    def policy(self, policy: TerminationPolicy) -> None:
        if policy is None:
            raise TypeError("policy=None: must be a TerminationPolicy")
        checkPolicy(policy)
        self._connection.policy = policy

    @property
    def protocol(self) -> Any:
        """
        The application's protocol; may be replaced, as Twisted's can.  After
        C{startTLS} it is the TLS protocol, as on Twisted's transport, and the
        C{wrappedProtocol} of that one is the application.
        """
        if isinstance(self._subject, ProtocolWrapper):
            return self._connection.protocol
        return shown(getattr(self._subject, "protocol", None), self._connection)

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._connection.protocol = protocol

    @property
    def wrappedProtocol(self) -> Any:
        """
        The application's protocol, if the wrapped transport is a C{ProtocolWrapper}
        (TLS is one).

        @raise AttributeError: if the wrapped transport is no C{ProtocolWrapper}.
        """
        self._subject.wrappedProtocol  # noqa: B018
        return self._connection.protocol

    @wrappedProtocol.setter
    def wrappedProtocol(self, protocol: Any) -> None:
        self.protocol = protocol

    @property
    def producer(self) -> Any:
        """
        The registered producer, or C{None}.
        """
        return self._connection.producer

    @property
    def peerDone(self) -> bool:
        """
        Has the peer ended its direction?
        """
        return self._connection.node.peerDone

    def getPeer(self) -> IAddress:
        """
        The peer's address; C{None} where the wrapped transport has no C{getPeer}, as
        that of a process.
        """
        try:
            return self._subject.getPeer()
        except (AttributeError, NotImplementedError):
            return None  # type: ignore[return-value]

    def loseWriteConnection(self) -> None:
        """
        See L{ITerminableTransport.loseWriteConnection}.
        """
        self._connection.asks(Input.LOSE_WRITE)

    def loseConnection(self) -> None:
        """
        See L{ITerminableTransport.loseConnection}.
        """
        self._connection.asks(Input.LOSE)

    def closeConnection(self) -> None:
        """
        See L{ITerminableTransport.closeConnection}.
        """
        self._connection.input(Input.CLOSE)

    def abortConnection(self) -> None:
        """
        See L{ITerminableTransport.abortConnection}.
        """
        self._connection.input(Input.ABORT)

    def startTLS(self, *args: Any, **kwargs: Any) -> None:
        """
        See L{twisted.internet.interfaces.ITLSTransport.startTLS}.  From now on
        the two ends of the connection are those of TLS.
        """
        wrapped = self._subject
        self._connection.startTLS(lambda: wrapped.startTLS(*args, **kwargs), wrapped)

    def terminate(self, timeout: Optional[float] = None) -> Deferred[Termination]:
        """
        See L{ITerminableTransport.terminate}.
        """
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout={timeout!r}: must be a number of seconds")
            if not timeout >= 0:
                raise ValueError(f"timeout={timeout!r}: must be 0 seconds or more")
        done = self.whenTerminated()
        self.loseConnection()
        if timeout is not None:
            self._connection.expectEnd(timeout)
        return done

    def callWhenTerminated(self, call: Callable[[Termination], object]) -> None:
        """
        The same as C{whenTerminated} without a Deferred, for code that watches many
        connections.

        @param call: called once with the report, after the application has
            been told; an exception that it raises is logged.
        """
        report = self._connection.report
        if report is not None:
            call(report)
        else:
            self._connection.calls += (call,)

    def whenTerminated(self) -> Deferred[Termination]:
        """
        See L{ITerminableTransport.whenTerminated}.
        """
        report = self._connection.report
        if report is not None:
            return succeed(report)
        return self._connection.waiting().wait()

    # The drain.

    def whenDraining(self) -> Deferred[None]:
        """
        See L{ITerminableTransport.whenDraining}.
        """
        return draining.waiters(self._connection).wait()

    def drainBegins(self, seconds: Optional[float] = None) -> None:
        """
        See L{ITerminableTransport.drainBegins}.
        """
        draining.begin(self._connection, seconds)

    def drain(self) -> None:
        """
        See L{ITerminableTransport.drain}.
        """
        draining.end(self._connection)

    # Work in flight.

    def hold(self) -> Hold:
        """
        See L{ITerminableTransport.hold}.
        """
        connection = self._connection
        return Hold(connection if connection.hold() else None)

    def track(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """
        See L{ITerminableTransport.track}.
        """
        if not isinstance(deferred, Deferred):
            raise TypeError(f"deferred={deferred!r}: must be a Deferred")
        hold = self.hold()

        def done(result: Any) -> Any:
            hold.release()
            return result

        return deferred.addBoth(done)

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """
        Register a producer, which is work in flight until it unregisters.  If
        nothing can be sent any more, the producer is told to stop at once.  If this
        method raises, the producer is not registered; an exception of a pull
        producer's C{resumeProducing} comes out of here, too.

        @raise RuntimeError: if a producer is registered already.
        """
        connection = self._connection
        if not connection.node.sending:
            producer.stopProducing()
            return
        first = connection.producer is None
        if first:
            connection.producer = producer
        try:
            self._subject.registerProducer(producer, streaming)
        except BaseException:
            if first:
                connection.producer = None
                if getattr(self._subject, "producer", None) is producer:
                    # Twisted would go on asking it.
                    self._subject.unregisterProducer()
            raise

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        self._connection.producer = None
        self._subject.unregisterProducer()
        self._connection.workMayBeDone()

    def stopConsuming(self) -> None:
        """
        The producer is done, and the connection with it.
        """
        self.unregisterProducer()
        self.loseConnection()

    # Writing.  These are properties whose getters are C functions, so that a write
    # costs nothing here while what is written is sent.  Code that replaces a method,
    # as unittest.mock does, replaces that of the wrapped transport.

    if not TYPE_CHECKING:  # see Declared
        write = _writers("write")
        writeSequence = _writers("writeSequence")

    def seal(self) -> None:
        """
        FIN is queued behind what was written: drop what is written from now on.
        """
        _setWriter(self, self._connection.ending)

    # Reading.

    def pauseProducing(self) -> None:
        """
        Stop delivering data, unless it is being discarded.
        """
        self._connection.readPaused = True
        if not self._connection.node.closing:
            self._subject.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Deliver data again.
        """
        connection = self._connection
        connection.readPaused = False
        if not connection.node.peerDone:
            self._subject.resumeProducing()
        connection.arrived(0)  # the limits on silence begin anew
        # Twisted's HTTPChannel stays registered as a producer, and calls this when
        # it has become idle.
        connection.workMayBeDone()

    def stopReading(self) -> None:
        """
        The same as C{pauseProducing}, as Twisted's descriptors have it.
        """
        self.pauseProducing()

    def startReading(self) -> None:
        """
        The same as C{resumeProducing}.
        """
        self.resumeProducing()

    def stopProducing(self) -> None:
        """
        See L{twisted.internet.interfaces.IProducer.stopProducing}.
        """
        self.loseConnection()


_setSubject, _setConnection, _setWriter = (
    getattr(TerminatingTransport, name).__set__
    for name in ("_subject", "_connection", "_writer")
)

__all__ = ["TerminatingTransport"]
