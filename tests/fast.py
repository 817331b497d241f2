"""
The fast part of the suite, for each change; .ci/run has the rest::

    python -m tests.fast

It leaves out what starts other people's servers, browsers and systemd, and what is
generated at length: the modules that L{tests.matrix} runs once, and L{_SLOW}.
Options go on to trial, which runs two processes side by side.
"""

from __future__ import annotations

import os
import sys

from .matrix import modules

#: Modules that run in each run of the matrix, and take long.
_SLOW: tuple[str, ...] = ("docs", "packaging", "suites", "twisted", "typing")


def fast() -> list[str]:
    """
    The modules of the fast part.
    """
    slow = {f"tests.test_{name}" for name in _SLOW}
    return [name for name in modules(once=False) if name not in slow]


if __name__ == "__main__":
    command = [sys.executable, "-m", "twisted.trial", "-j2", *sys.argv[1:], *fast()]
    os.execv(sys.executable, command)
