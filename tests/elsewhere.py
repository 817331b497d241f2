"""
The suite as if this were no Linux: the package's ways for other systems are forced,
in the servers that the tests start too (C{tests/startup/sitecustomize.py})::

    python -m tests.elsewhere

A test of what Linux alone can do is skipped, with its reason.  Modules of tests that
are given, C{tests.test_ends}, take the place of all.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Callable

from twisted.scripts import trial
from twisted.trial.unittest import SkipTest

from .fast import fast

#: Modules that are not about connections.
_OTHERS = ("benchmarks", "deploy", "docs", "layout", "packaging", "suites", "twisted")

#: The tests that are skipped, by their reason.  C{*} stands for a whole class.
SKIPS: dict[str, tuple[str, ...]] = {}


def skipping(reason: str) -> Callable[..., Any]:
    """
    What takes the place of a test.
    """

    def skipped(self: Any, *arguments: Any) -> None:
        raise SkipTest(reason)

    return skipped


def skip() -> None:
    """
    Replace what is to be skipped.

    @raise AttributeError: for a name that is no test.
    """
    for reason, names in SKIPS.items():
        for name in names:
            module, case, method = name.split(".")
            found = getattr(import_module(f"tests.{module}"), case)
            if method == "*":
                found.skip = reason
            else:
                getattr(found, method)  # is there
                setattr(found, method, skipping(reason))


def main() -> None:
    """
    Run the tests; does not return.
    """
    if "TEST_ELSEWHERE" not in os.environ:  # which all processes read at their start
        os.environ["TEST_ELSEWHERE"] = "1"
        os.execv(
            sys.executable, [sys.executable, "-m", "tests.elsewhere", *sys.argv[1:]]
        )
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    apart = {f"tests.test_{name}" for name in _OTHERS}
    skip()
    wanted = named or [name for name in fast() if name not in apart]
    sys.argv = ["trial", *options, *wanted]
    trial.run()


if __name__ == "__main__":
    main()
