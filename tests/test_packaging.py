"""
What is installed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import mkdtemp
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

from .support import once

_HERE = Path(__file__).parents[1]


@once
class WheelTests(SynchronousTestCase):
    def test_dropinAlone(self) -> None:
        """
        The wheel holds, under C{twisted/}, the dropin alone: anything more
        could overwrite Twisted's own files.  And it holds each module of ours.
        """
        source = Path(mkdtemp()) / "source"
        copytree(
            _HERE,
            source,
            ignore=ignore_patterns(".*", "_trial_temp*", "build", "*.egg-info"),
        )
        command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", "out"]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        (wheel,) = source.joinpath("out").glob("*.whl")
        names = ZipFile(wheel).namelist()
        ours = [name for name in names if name.startswith("twisted/")]
        self.assertEqual(ours, ["twisted/plugins/twisted_term_plugin.py"])
        for name in ("py.typed", "connection/declared.pyi", "status/status.html"):
            self.assertIn(f"twisted_term/{name}", names)
        modules = _HERE.joinpath("twisted_term").rglob("*.py")
        missing = {str(module.relative_to(_HERE)) for module in modules} - {*names}
        self.assertEqual(missing, set())
