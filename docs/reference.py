"""
The API reference, by pydoctor: C{build/api/index.html}.

    python docs/reference.py

Links to Twisted need no network: what they may lead to is asked of the Twisted
that is installed, and a link to anything else is an error.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from pathlib import Path

from twisted.python.reflect import namedAny
from zope.interface.interface import InterfaceClass

_HERE = Path(__file__).parents[1]
_HEAD = "# Sphinx inventory version 2\n# Project: Twisted\n# Version: 0\n# zlib\n"


def page(name: str) -> str:
    """
    Where Twisted's reference has a module, class, function or method.

    @raise AttributeError: if there is no such thing; or an C{ImportError}.
    """
    parent, _, last = name.rpartition(".")
    try:
        found = namedAny(name)
    except AttributeError:
        interface = namedAny(parent)
        if not isinstance(interface, InterfaceClass) or last not in interface:
            raise
        found = interface[last]
    if isinstance(found, (type, type(sys), InterfaceClass)):
        return f"{name}.html"
    return f"{parent}.html#{last}"


def inventory() -> bytes:
    """
    As Sphinx has it, of all in Twisted that a docstring links to.
    """
    names: set[str] = set()
    for path in _HERE.joinpath("twisted_term").rglob("*.py"):
        names.update(re.findall(r"\bL\{(twisted\.[\w.]+)\}", path.read_text("utf-8")))
    lines = []
    for name in sorted(names):
        try:
            lines.append(f"{name} py:class 1 {page(name)} -\n")
        except (AttributeError, ImportError):
            continue  # pydoctor says in which line it is
    return _HEAD.encode() + zlib.compress("".join(lines).encode())


def main() -> int:
    """
    Make it, as C{[tool.pydoctor]} in C{pyproject.toml} says.

    @return: the exit status: not 0 if there was a warning.
    """
    # Not above: docs/conf.py, which needs no pydoctor, has the inventory from here.
    from pydoctor.driver import main as pydoctor

    os.chdir(_HERE)
    Path("build").mkdir(exist_ok=True)
    Path("build", "twisted.inv").write_bytes(inventory())
    return pydoctor([])


if __name__ == "__main__":
    sys.exit(main())
