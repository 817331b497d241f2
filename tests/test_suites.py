"""
L{tests.suites} itself, on a suite of five tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from .processes import environment
from .support import once

_SAMPLE = """
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

class Tests(TestCase):
    def test_steady(self):
        pass

    def test_broken(self):
        self.fail("always")

    def test_wrapped(self):
        factory = Factory()
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.assertIs(port.factory, factory)

    def test_crash(self):
        import os
        os._exit(3)

    def test_late(self):
        pass
"""
_LIMIT = 100


@once
class SuitesTests(SynchronousTestCase):
    def test_new(self) -> None:
        """
        What fails only when it is wrapped is printed, and the exit status is 1;
        what fails in any case is told apart, and a process that dies takes none of
        the other tests with it.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "test_sample.py").write_text(_SAMPLE)
        done = subprocess.run(
            [sys.executable, "-m", "tests.suites", "test_sample"],
            cwd=Path(__file__).parents[1],
            env=environment(PYTHONPATH=str(folder.absolute())),
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(
            lines[0], "== test_sample: of 5 tests 2 fail bare, and 3 wrapped"
        )
        self.assertEqual(
            [line for line in lines[1:] if line[0].isalpha() or ".test_" in line],
            [
                "bare      these fail bare too, or could not be loaded:",
                "          test_sample.Tests.test_broken",
                "          test_sample.Tests.test_crash",
                "NEW       test_sample.Tests.test_wrapped: failed",
            ],
        )
