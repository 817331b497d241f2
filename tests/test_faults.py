"""
Faults on the wire: where the link lives no byte is lost, and where it does
not the end is bounded, and the report says so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .faults import CASES, OURS, Result, perform
from .network import Direction, Weather
from .support import once

_SEED = 9293


@once
class FaultTests(SynchronousTestCase):
    """
    C{twistd termserver} at one end of the wire, clients at the other.
    """

    def perform(self, name: str) -> Result:
        result = perform(self, CASES[name], OURS, _SEED)
        packets = ", ".join(f"{n} {fate}" for fate, n in sorted(result.packets.items()))
        print(
            f"{name}: {len(result.exchanges)} runs, {result.asked} bytes asked for,"
            f" {result.got} received; {dict(result.ends)};"
            f" {result.undelivered} NOT delivered; packets: {packets}"
        )
        self.assertTrue(all(one.intact for one in result.exchanges))
        ports = sorted(one.port for one in result.exchanges)
        self.assertEqual(sorted(result.reports), ports, "an end that is not bounded")
        return result

    def assertLossless(self, name: str, *fates: str) -> None:
        """
        @param fates: what must have befallen some packets.
        """
        result = self.perform(name)
        self.assertEqual(result.got, result.asked)
        self.assertEqual(set(result.ends), {"FIN"})
        for fate in fates:
            self.assertGreater(result.packets[fate], 0)
        for report in result.reports.values():
            self.assertRegex(report, "^clean, by (local|peer); delivered")

    def assertReports(self, name: str, beginning: str) -> Result:
        result = self.perform(name)
        self.assertGreater(result.packets["cut"], 0)
        for report in result.reports.values():
            self.assertRegex(report, beginning)
        return result

    def test_delay(self) -> None:
        """
        Every packet takes 20 ms.
        """
        self.assertLossless("20 ms")

    def test_loss(self) -> None:
        """
        One packet in twenty is lost.
        """
        self.assertLossless("5 % lost", "lost")

    def test_reorder(self) -> None:
        """
        One packet in four overtakes others.
        """
        self.assertLossless("25 % reordered", "overtaking")

    def test_earlyAnswer(self) -> None:
        """
        An early answer to an upload arrives whole through all of that.
        """
        self.assertLossless("all, early answer", "lost", "overtaking")

    def test_clientHalfCloses(self) -> None:
        """
        A client half-closes behind its request.
        """
        self.assertLossless("all, client half-closes", "lost", "overtaking")

    def test_serverHalfCloses(self) -> None:
        """
        The server half-closes, and the client sends on.
        """
        self.assertLossless("all, server half-closes", "lost", "overtaking")

    def test_drain(self) -> None:
        """
        SIGTERM in the midst of it.
        """
        self.assertLossless("all, SIGTERM", "lost", "overtaking")

    def test_mended(self) -> None:
        """
        The link is cut in the midst of a flush, and is back a second later.
        """
        self.assertLossless("cut and mended", "cut")

    def test_cutWhileFlushing(self) -> None:
        """
        The link is cut in the midst of a flush.
        """
        result = self.assertReports(
            "cut in a flush", r"^flush expired, by local; NOT delivered;"
        )
        self.assertLess(result.got, result.asked)
        self.assertEqual(set(result.ends), {"none"})

    def test_cutBeforeTheLast(self) -> None:
        """
        The link is cut before the last bytes and FIN are sent: these are
        awaited in vain while lingering.
        """
        result = self.assertReports(
            "cut before the last bytes",
            r"^flush expired, by local; NOT delivered; 1005 bytes un.*lingering",
        )
        self.assertEqual((result.got, set(result.ends)), (0, {"none"}))

    def test_cutAfterTheLast(self) -> None:
        """
        The link is cut when all has arrived, and the client's FIN is lost: the
        end is bounded, and the bytes are delivered.
        """
        result = self.assertReports(
            "cut after the last bytes", r"^linger expired, by local; delivered"
        )
        self.assertEqual((result.got, set(result.ends)), (result.asked, {"FIN"}))


class DirectionTests(SynchronousTestCase):
    def fates(self, seed: str, **shares: Any) -> list[str]:
        direction = Direction(-1, -1, seed)
        return [direction.fate(Weather(**shares)) for _ in range(10_000)]

    def test_seed(self) -> None:
        """
        The seed says what befalls which packet.
        """
        shares = {"loss": 0.05, "reorder": 0.25}
        one = self.fates("1", **shares)
        self.assertEqual(one, self.fates("1", **shares))
        self.assertNotEqual(one, self.fates("2", **shares))

    def test_shares(self) -> None:
        """
        So many are lost, and so many of the others overtake.
        """
        counts = Counter(self.fates("1", loss=0.05, reorder=0.25))
        self.assertTrue(400 < counts["lost"] < 600, counts)
        self.assertTrue(2200 < counts["overtaking"] < 2550, counts)
        self.assertEqual(set(self.fates("1")), {"in turn"})
