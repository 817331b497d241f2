"""
The benchmarks run.  What they find is not looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from .support import once

_FOLDER = Path(__file__).parents[1] / "benchmarks"
#: Generous: it takes 15 seconds, and several times that on a busy machine.
_LIMIT = 280


@skipUnless(sys.platform.startswith("linux"), "they read /proc")
@skipUnless(shutil.which("cc") or shutil.which("gcc"), "no C compiler")
@once
class TableTests(SynchronousTestCase):
    def printed(self, *command: str) -> str:
        program, *options = command
        done = subprocess.run(
            [sys.executable, str(_FOLDER / program), *options],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def checkCells(self, header: str, rows: list[str], names: tuple[str, ...]) -> None:
        for name in names:
            # The columns are flush right.
            end = header.index(name) + len(name)
            for row in rows:
                cell = re.split(r"  +", row[:end])[-1]
                self.assertRegex(cell, r"^-?[\d,.]+( \(\d+\.\d\d\))?$", row)

    def test_quick(self) -> None:
        """
        C{all.py --quick} prints a table in which each row has a number of bare
        Twisted and of twisted_term.
        """
        output = self.printed("all.py", "--quick")
        header, *rows = output.split("\n\n")[1].splitlines()
        self.assertGreaterEqual(len(rows), 13, output)
        self.checkCells(header, rows, ("bare Twisted", "twisted_term"))
        for title in ("bulk", "requests", "connections", "discarded", "memory"):
            self.assertIn(f"\n{title}", output)

    def test_linger(self) -> None:
        """
        C{linger.py} prints a row for each word.
        """
        _, *rows = self.printed("linger.py", "10").splitlines()
        self.assertEqual([row.split()[0] for row in rows], ["always", "on", "off"])
        for row in rows:
            self.assertEqual(len(row.split()), 4, row)

    def test_connections(self) -> None:
        """
        C{connections.py} prints the rate, the CPU time and the calls of all
        four, and compares twisted_term with the half-close by hand.
        """
        options = ("--calls", "--rounds=1", "--seconds=0.1")
        lines = self.printed("connections.py", *options).splitlines()
        header, rows, compared = lines[0], lines[1:4], lines[4:]
        names = ("bare Twisted", "WrappingFactory", "half-close by hand")
        self.checkCells(header, rows, (*names, "twisted_term"))
        units = ("1/s", "CPU µs", "calls")
        for line, unit in zip(compared, units):
            start = f"twisted_term to half-close by hand, connections, {unit}: "
            self.assertRegex(line, rf"^{re.escape(start)}\d+\.\d\d\.$")
        self.assertEqual(len(compared), len(units))
