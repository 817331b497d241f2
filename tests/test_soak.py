"""
A small soak; C{benchmarks/soak.py} runs the large one.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from .support import once

_SOAK = str(Path(__file__).parents[1] / "benchmarks" / "soak.py")
_SECONDS = 120


@once
class SoakTests(SynchronousTestCase):
    def test_small(self) -> None:
        """
        200 connections at once, to endings of all kinds: every byte that is
        owed arrives, every connection ends, and the server is as before.
        """
        soak = subprocess.run(
            [
                *(sys.executable, _SOAK, "--connections=200", "--limit=2"),
                *("--first-wave=2", "--seconds=4"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        self.assertEqual(soak.returncode, 0, soak.stdout)
        for line in ("\n200 clients at once", "\nall ended", "\nflat"):
            self.assertIn(line, soak.stdout)

    def test_flat(self) -> None:
        """
        What is left over is noticed.
        """
        soak = runpy.run_path(_SOAK)
        flat, before = soak["flat"], soak["Sample"](0, 10, 50 << 20, 100_000, 0)
        self.assertTrue(flat(before, before))
        for grown in (
            {"connections": 1},
            {"files": 11},
            {"resident": 70 << 20},
            {"blocks": 102_000},
            {"calls": 1},
        ):
            self.assertFalse(flat(before, replace(before, **grown)), grown)
