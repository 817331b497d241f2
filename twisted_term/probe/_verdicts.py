"""
What it means.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from ._answers import Answer, BadAnswer
from ._cases import Case, Probe
from ._client import Client
from ._sides import TimeWait


class Verdict(Enum):
    """
    From good to bad.

    RESETS: all bytes came, and a RST.  Linux keeps what had arrived before it;
    other systems throw away what was not read yet, and a slower way would have
    lost what was not there.
    HANGS: the server did not end the connection, or let go, in time.
    """

    CLEAN = "clean"
    RESETS = "resets"
    HANGS = "hangs"
    ERROR = "error"
    LOSES = "loses data"

    @property
    def badness(self) -> int:
        """
        The greater the worse.
        """
        return list(Verdict).index(self)


@dataclass(frozen=True)
class Round:
    """
    One connection of one case.  Bytes are bytes of the body, over HTTP.

    @ivar expected: C{None} if it cannot be known.
    @ivar lost: bytes that had to come have not.
    @ivar end: C{"FIN"}, C{"RST"}, C{"FIN, RST"}, or C{"none"}.
    @ivar held: seconds from the server's FIN until it let go of a client that
        never closes; C{None} in all other cases.
    """

    verdict: Verdict
    expected: Optional[int] = None
    received: int = 0
    lost: bool = False
    status: Optional[int] = None
    end: str = "none"
    closedFirst: Optional[str] = None
    seconds: float = 0.0
    held: Optional[float] = None
    timeWait: TimeWait = TimeWait.UNKNOWN
    note: str = ""

    def asJSON(self) -> dict[str, Any]:
        """
        As a machine reads it.
        """
        values = {**vars(self), "seconds": round(self.seconds, 4)}
        values["verdict"] = self.verdict.value
        values["timeWait"] = self.timeWait.value
        return values


@dataclass(frozen=True)
class Result:
    """
    All rounds of one case.
    """

    case: Case
    rounds: tuple[Round, ...]

    @property
    def worst(self) -> Round:
        """
        The first one of those with the worst verdict.
        """
        return max(self.rounds, key=lambda one: (one.verdict.badness, one.lost))

    @property
    def lost(self) -> bool:
        """
        Was data lost in any round?
        """
        return any(one.lost for one in self.rounds)

    def counts(self) -> dict[str, int]:
        """
        How many rounds had which verdict.
        """
        return dict(Counter(one.verdict.value for one in self.rounds))

    def asJSON(self) -> dict[str, Any]:
        """
        As a machine reads it.
        """
        return {
            "name": self.case.name,
            "sentence": f"The client {self.case.sentence}",
            "verdict": self.worst.verdict.value,
            "lost": self.lost,
            "counts": self.counts(),
            "rounds": [one.asJSON() for one in self.rounds],
        }


def play(case: Case, probe: Probe) -> Round:
    """
    One round.
    """
    try:
        return judge(case, probe, case.run(probe))
    except (OSError, BadAnswer) as error:
        return Round(Verdict.ERROR, note=str(error))


def judge(case: Case, probe: Probe, client: Client) -> Round:
    """
    Compare what a client got with what the polite one got, or, where that
    varies or was another request, with what the answer's own framing says.

    @raise BadAnswer: if the answer is none.
    """
    assert probe.reference is not None
    reference = probe.reference
    answer = probe.target.read(bytes(client.data), case.answers)
    expected, note = answer.expected, ""
    lost = answer.complete is False or not client.data
    if reference.answer.complete is not False and (
        case.same or not probe.target.framed
    ):
        wanted = reference.answer.body * case.answers
        if reference.static or (reference.sized and answer.complete is None):
            expected = len(wanted)
            lost = lost or len(answer.body) < expected
        if reference.static and not answer.body.startswith(wanted[: len(answer.body)]):
            lost, note = True, "other bytes than the polite client's"
    if lost:
        note = note or _missing(answer, expected)
    verdict = Verdict.LOSES if lost else Verdict.CLEAN
    if not client.over:
        verdict, note = Verdict.HANGS, f"no end within {probe.patience:g} s"
    elif not lost and client.reset:
        verdict, note = Verdict.RESETS, ""
    elif not lost and case.holds and client.held is None:
        verdict, note = Verdict.HANGS, f"still held after {probe.patience:g} s"
    return Round(
        verdict,
        expected,
        len(answer.body),
        lost,
        answer.status,
        ", ".join(
            name for name, seen in (("FIN", client.fin), ("RST", client.reset)) if seen
        )
        or "none",
        client.closedFirst,
        client.seconds,
        client.held,
        client.timeWait,
        note,
    )


def _missing(answer: Answer, expected: Optional[int]) -> str:
    if answer.status is None and not answer.body:
        return "no answer"
    if expected is None or len(answer.body) >= expected:
        return "cut short"
    return f"{expected - len(answer.body)} bytes missing"


__all__ = ["Result", "Round", "Verdict", "judge", "play"]
