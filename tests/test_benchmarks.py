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
class AllTests(SynchronousTestCase):
    def test_quick(self) -> None:
        """
        C{all.py --quick} prints a table in which each row has a number of bare
        Twisted and of twisted_term.
        """
        done = subprocess.run(
            [sys.executable, str(_FOLDER / "all.py"), "--quick"],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        header, *rows = done.stdout.split("\n\n")[1].splitlines()
        self.assertGreaterEqual(len(rows), 13, done.stdout)
        for name in ("bare Twisted", "twisted_term"):
            # The columns are flush right.
            end = header.index(name) + len(name)
            for row in rows:
                cell = re.split(r"  +", row[:end])[-1]
                self.assertRegex(cell, r"^-?[\d,.]+( \(\d+\.\d\d\))?$", row)
        for title in ("bulk", "requests", "connections", "discarded", "memory"):
            self.assertIn(f"\n{title}", done.stdout)
