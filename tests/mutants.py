"""
The mutants of L{tests.mutation} that no test can tell from the original.
"""

from __future__ import annotations

#: By module, line, and changed line: the reason.
EXPLAINED: dict[tuple[str, str, str], str] = {}
