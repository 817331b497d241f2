"""
When conversations are asked, under a clock.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import TerminatingFactory, TerminationPolicy
from twisted_term.applications import Courteous
from twisted_term.interfaces import IConversation
from twisted_term.testing import memoryPair


class Working(Protocol):
    """
    Has work in flight for as long as the test says so.
    """

    asked = 0

    def __init__(self) -> None:
        self.working = True
        self.probes: list[float] = []
        self.told: list[Any] = []


class WorkingConversation(Courteous):
    """
    Notes what it is asked.
    """

    def busy(self) -> bool:
        self.protocol.asked += 1
        return bool(self.protocol.working)

    def probe(self, transport: Any) -> bool:
        self.protocol.probes.append(transport.reactor.seconds())
        return True

    def drainBegins(self, transport: Any, seconds: Any) -> None:
        self.protocol.told.append(seconds)

    def goodbye(self) -> None:
        self.protocol.transport.write(b"bye")


registerAdapter(WorkingConversation, Working, IConversation)


class Reading(Protocol):
    """
    The peer.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class AskTests(SynchronousTestCase):
    def connect(self, **options: Any) -> None:
        self.clock = Clock()
        factory = TerminatingFactory(
            Factory.forProtocol(Working),
            TerminationPolicy(**options),
            self.clock,  # type: ignore[arg-type]
        )
        built = factory.buildProtocol(None)
        self.server: Working = built.application
        self.client = Reading()
        memoryPair(self.clock, built, self.client)  # type: ignore[arg-type]
        self.turn(0)

    def turn(self, seconds: float) -> None:
        for _ in range(10):
            self.clock.advance(0)
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)
        for _ in range(10):
            self.clock.advance(0)

    def halfClose(self) -> None:
        self.client.transport.loseWriteConnection()  # type: ignore[attr-defined]
        self.turn(0)

    def test_open(self) -> None:
        """
        Nobody asks while the connection is open.
        """
        self.connect()
        self.turn(100)
        self.assertEqual(self.server.asked, 0)

    def test_probes(self) -> None:
        """
        The peer is asked soon after its FIN, at intervals that double, until
        the work is done; then FIN comes within a second.
        """
        self.connect()
        self.halfClose()
        self.turn(40)
        pauses = [
            later - earlier
            for earlier, later in zip([0.0, *self.server.probes], self.server.probes)
        ]
        self.assertLess(pauses[0], 0.5)
        # A second apart at first, for that is how often it is looked.
        self.assertTrue(all(a < b for a, b in zip(pauses[2:], pauses[3:])), pauses)
        self.assertTrue(5 < len(pauses) < 10, pauses)
        self.server.working = False
        self.turn(1.1)
        self.assertTrue(self.client.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_workTimeout(self) -> None:
        """
        To be asked is no progress of the work: what never ends is reset.
        """
        self.connect(workTimeout=30)
        self.halfClose()
        self.turn(25)
        self.assertFalse(self.client.lost)
        self.turn(10)
        self.assertTrue(self.client.lost)

    def test_policy(self) -> None:
        """
        Only "ask" asks.
        """
        self.connect(peerFin="half-closed")
        self.halfClose()
        self.turn(20)
        self.assertEqual(self.server.probes, [])
        self.assertFalse(self.client.lost)
        self.connect(peerFin="gone")
        self.halfClose()
        self.turn(1)
        self.assertTrue(self.client.lost)
        self.assertRaisesRegex(
            ValueError,
            "^peerFin='no': must be ask, half-closed or gone$",
            TerminationPolicy,
            peerFin="no",
        )
        self.assertRaisesRegex(
            ValueError,
            "^goodbye=1012: must be going-away or restart$",
            TerminationPolicy,
            goodbye=1012,
        )

    def test_drain(self) -> None:
        """
        A drain is announced once, with its time; it waits for the work, and
        says goodbye.
        """
        self.connect()
        transport: Any = self.server.transport
        early = transport.whenDraining()
        transport.drainBegins(25)
        self.assertIsNone(self.successResultOf(early))
        self.assertIsNone(self.successResultOf(transport.whenDraining()))
        transport.drain()
        self.turn(10)
        self.assertEqual((self.server.told, self.client.received), ([25], b""))
        self.server.working = False
        self.turn(1)
        self.assertEqual(self.client.received, b"bye")
        self.assertTrue(self.client.lost)

    def test_drainAlone(self) -> None:
        """
        Without an announcement before, it is made then.
        """
        self.connect()
        self.server.working = False
        self.server.transport.drain()  # type: ignore[attr-defined]
        self.turn(1)
        self.assertEqual((self.server.told, self.client.received), ([None], b"bye"))
