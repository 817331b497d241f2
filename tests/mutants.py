"""
The mutants of L{tests.mutation} that no test can tell from the original.
"""

from __future__ import annotations

#: By module, line, and changed line: the reason.
EXPLAINED: dict[tuple[str, str, str], str] = {
    (
        "machine",
        'start = f"{state.name:<12}" if index == 0 else " " * 12',
        'start = f"{state.name:<12}" if index <= 0 else " " * 12',
    ): "enumerate() counts from 0",
    (
        "machine",
        'end = f"--> {other.name:<11}" if index == 0 else "   " + " " * 12',
        'end = f"--> {other.name:<11}" if index <= 0 else "   " + " " * 12',
    ): "enumerate() counts from 0",
}
