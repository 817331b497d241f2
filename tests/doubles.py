"""
Test doubles of a transport, an application and a producer, and a connection between
them under a Clock.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_term import State, TerminatingTransport, TerminationPolicy
from twisted_term.connection.beneath import kernel
from twisted_term.connection.beneath.kernel import SendQueue


@implementer(IHalfCloseableDescriptor)
class Wire:
    """
    A transport that does nothing by itself: the test says what happens.
    """

    def __init__(self, clock: Clock) -> None:
        self.reactor = clock
        self.calls: list[str] = []
        self.written = b""
        self.queue: Optional[SendQueue] = SendQueue(0, 0, False)
        self.protocol: Any = None
        self.producer: Any = None

    def write(self, data: bytes) -> None:
        self.written += data

    def writeSequence(self, iovec: list[bytes]) -> None:
        self.written += b"".join(iovec)

    def getPeer(self) -> str:
        return "peer"

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def connectionLost(self, reason: Failure) -> None:
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(reason)

    readConnectionLost = writeConnectionLost = connectionLost

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name not in (
            "loseConnection",
            "loseWriteConnection",
            "abortConnection",
            "pauseProducing",
            "resumeProducing",
        ):
            raise AttributeError(name)
        return lambda: self.calls.append(name)


class Application(Protocol):
    """
    Records how it is called, and does what the test says.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.does: dict[str, Callable[[], object]] = {}

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.does.get(what, lambda: None)()

    def connectionMade(self) -> None:
        self._tell("made")

    def dataReceived(self, data: bytes) -> None:
        self._tell("data")

    def connectionLost(self, reason: Any = None) -> None:
        self._tell("lost")


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Application):
    def readConnectionLost(self) -> None:
        self._tell("read lost")

    def writeConnectionLost(self) -> None:
        self._tell("write lost")


@implementer(IPushProducer)
class Producer:
    def __init__(self) -> None:
        self.stopped = 0

    def pauseProducing(self) -> None:
        pass

    resumeProducing = pauseProducing

    def stopProducing(self) -> None:
        self.stopped += 1


class TransportTestCase(SynchronousTestCase):
    policy = TerminationPolicy(
        flushTimeout=8, workTimeout=80, lingerTime=16, lingerIdle=4, halfCloseIdle=40
    )

    def connect(
        self, application: Optional[Application] = None, **does: Callable[[], object]
    ) -> None:
        self.clock = Clock()
        self.wire = Wire(self.clock)
        self.application = application or Application()
        self.transport = TerminatingTransport(
            self.wire, self.application, self.policy, self.clock
        )
        self.patch(kernel, "sendQueue", lambda skt, finSent: self.wire.queue)
        self.patch(kernel, "unacknowledged", self._unacknowledged)
        self.application.makeConnection(self.transport)
        self.reports: list[Any] = []
        self.transport.whenTerminated().addCallback(self.reports.append)

    def _unacknowledged(self, skt: object, finSent: bool) -> Optional[int]:
        queue = self.wire.queue
        return None if queue is None else queue.unacknowledged

    @property
    def below(self) -> Any:
        """
        The protocol of the wrapped transport.
        """
        return self.wire.protocol

    def fins(self) -> int:
        return self.wire.calls.count("loseWriteConnection")

    def owe(self, unacknowledged: int, acknowledged: int = 0) -> None:
        self.wire.queue = SendQueue(unacknowledged, acknowledged, False)

    def advance(self, seconds: float) -> None:
        """
        Let time pass, in steps so small that a test sees when something happens.
        """
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.125, end - self.clock.seconds()))

    def assertReset(self) -> None:
        self.assertIs(self.transport.state, State.ABORTED)
        self.assertEqual(self.wire.calls.count("abortConnection"), 1)

    def end(self) -> Any:
        """
        If the wrapped transport was asked to end, let it end.
        """
        if self.wire.protocol is not None:
            self.wire.connectionLost(Failure(CONNECTION_DONE))
        self.assertEqual(self.application.told.count("lost"), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return self.reports[0]


__all__ = ["Application", "HalfCloseable", "Producer", "TransportTestCase", "Wire"]
