"""
What type checkers say of a program that uses the package: nothing where it is
right, and something of each mistake.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

from twisted.trial.unittest import SynchronousTestCase

from .certificates import needs
from .support import once

_HERE = Path(__file__).parents[1]
_TYPING = _HERE / "tests" / "typing"
_MYPY = (
    *("--strict", "--no-error-summary", "--no-pretty", "--follow-imports=silent"),
    *("--cache-dir", mkdtemp()),
)
_MARK = re.compile(r"  # type: ignore\[[a-z-]+\]")


class Checker:
    """
    The checks of one type checker.
    """

    def errors(self, path: Path) -> list[str]:
        """
        Give it a file.

        @return: the file's errors, each beginning with its line number.
        """
        raise NotImplementedError

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=_HERE,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)
        return done.stdout

    def test_right(self) -> None:
        """
        Typical use is right.
        """
        self.assertEqual(self.errors(_TYPING / "right.py"), [])

    def test_wrong(self) -> None:
        """
        Each mistake is an error, and nothing else is.
        """
        text = _TYPING.joinpath("wrong.py").read_text("utf-8")
        marked = [
            number
            for number, line in enumerate(text.splitlines(), 1)
            if _MARK.search(line)
        ]
        self.assertGreater(len(marked), 20)
        path = Path(mkdtemp()) / "wrong.py"
        path.write_text(_MARK.sub("", text), "utf-8")
        errors = self.errors(path)
        self.assertEqual(
            sorted({int(error.split(":")[0]) for error in errors}), marked, errors
        )


@once
class MypyTests(Checker, SynchronousTestCase):
    """
    C{mypy --strict}, without a plugin.
    """

    plugin = ""

    def setUp(self) -> None:
        needs("mypy")

    def errors(self, path: Path) -> list[str]:
        config = Path(mkdtemp()) / "mypy.ini"
        config.write_text(f"[mypy]\n{self.plugin}\n")
        said = self.command("mypy", *_MYPY, "--config-file", str(config), str(path))
        return re.findall(r"^[^:\n]+:(\d+: error: .*)", said, re.MULTILINE)


@once
class MypyZopeTests(MypyTests):
    """
    The same with mypy-zope.
    """

    plugin = "plugins = mypy_zope:plugin"

    def setUp(self) -> None:
        needs("mypy")
        needs("mypy_zope")


@once
class PyrightTests(Checker, SynchronousTestCase):
    """
    pyright with its defaults.
    """

    def setUp(self) -> None:
        needs("pyright")

    def errors(self, path: Path) -> list[str]:
        said = self.command(
            "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)
        )
        return [
            f"{found['range']['start']['line'] + 1}: {found['message']}"
            for found in json.loads(said)["generalDiagnostics"]
        ]
