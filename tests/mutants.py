"""
The mutants of L{tests.mutation} that no test can tell from the original.
"""

from __future__ import annotations

# ruff: noqa: E501 - the lines are those of the modules

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
    (
        "bounds",
        "changed = owed != self._owed or (owed and acknowledged != self._acknowledged)",
        "changed = owed is not self._owed or (owed and acknowledged != self._acknowledged)",
    ): "both are bools, or None",
    (
        "ending",
        '"delivered": None if count is None else count == 0,',
        '"delivered": None if count is None else count <= 0,',
    ): "a count of bytes is not negative",
    (
        "drainer",
        "if self._phase is Phase.ENDING and len(self._open) == 1:",
        "if self._phase is Phase.ENDING and len(self._open) <= 1:",
    ): "one has just been added",
    (
        "drainer",
        "elif self._phase is Phase.DRAINED:",
        "elif self._phase >= Phase.DRAINED:",
    ): "DRAINED is the last phase",
    (
        "drainer",
        "delayed = self._phase is Phase.DELAYED",
        "delayed = self._phase <= Phase.DELAYED",
    ): "the only phase before DELAYED is SERVING, and nothing ticks in it",
    (
        "drainer",
        "if self._phase < Phase.DRAINED:",
        "if self._phase != Phase.DRAINED:",
    ): "DRAINED is the last phase",
    (
        "drainer",
        "if Phase.CLOSING <= self._phase < Phase.DRAINED:",
        "if Phase.CLOSING <= self._phase != Phase.DRAINED:",
    ): "DRAINED is the last phase",
    (
        "bounds",
        "acknowledged, owed = queue.acknowledged, queue.unacknowledged > 0",
        "acknowledged, owed = queue.acknowledged, queue.unacknowledged != 0",
    ): "a count of bytes is not negative",
    (
        "bounds",
        "acknowledged, owed = unsent, unsent > 0",
        "acknowledged, owed = unsent, unsent != 0",
    ): "a count of bytes is not negative",
    (
        "bounds",
        "self._wait(min(pause, left / 2 if left > FIRST else left))",
        "self._wait(min(pause, left / 2 if left >= FIRST else left))",
    ): "one look more where exactly that much is left, and the same end",
    (
        "drainer",
        "if self._phase < Phase.DRAINED:",
        "if self._phase is not Phase.DRAINED:",
    ): "DRAINED is the last phase",
    (
        "drainer",
        "if Phase.CLOSING <= self._phase < Phase.DRAINED:",
        "if Phase.CLOSING <= self._phase is not Phase.DRAINED:",
    ): "DRAINED is the last phase",
    (
        "drainer",
        "return self._phase is not Phase.SERVING",
        "return self._phase > Phase.SERVING",
    ): "SERVING is the first phase",
    (
        "drainer",
        "if self._phase is not Phase.SERVING:",
        "if self._phase > Phase.SERVING:",
    ): "SERVING is the first phase",
    (
        "ending",
        "if self._bounds is not None or soon or connection.policy.shortest < SOON:",
        "if self._bounds is not None or soon or connection.policy.shortest != SOON:",
    ): "the first look comes after the same pause, by a way that costs more",
    (
        "ending",
        "if self._bounds is not None or soon or connection.policy.shortest < SOON:",
        "if self._bounds is not None or soon or connection.policy.shortest <= SOON:",
    ): "the first look comes after the same pause, by a way that costs more",
    (
        "ending",
        "if self._bounds is not None or soon or connection.policy.shortest < SOON:",
        "if self._bounds is not None or soon or connection.policy.shortest is not SOON:",
    ): "the first look comes after the same pause, by a way that costs more",
    (
        "bounds",
        "SOON = FIRST * _LOOKS",
        "SOON = FIRST + _LOOKS",
    ): "the first look comes after the same pause, by a way that costs more",
    (
        "bounds",
        "return [(self._settled, 0.0, Input.LINGER_EXPIRED)]",
        "return [(self._settled, -1.0, Input.LINGER_EXPIRED)]",
    ): "it is over either way, for no acknowledgement comes in the future",
    (
        "ending",
        "if self.writesDropped == 1:",
        "if self.writesDropped <= 1:",
    ): "one has just been counted",
}
