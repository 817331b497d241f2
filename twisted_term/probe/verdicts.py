"""
What it means.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .answers import Answer, BadAnswer
from .cases import Case, Played, Probe, Reference
from .client import Client
from .proc_net import TimeWait
from .timeline import excerpt

_OTHER = "other bytes than the polite client's"


class Verdict(Enum):
    """
    From good to bad.

    BARE_FIN: all bytes came, and over TLS a FIN without close_notify, which the
    server must send first (RFC 8446, section 6.1).
    RESETS: all bytes came, and a RST.  Linux keeps what had arrived before it;
    other systems throw away what was not read yet, and a slower way would have
    lost what was not there.
    ENDLESS: bytes still came when the longest time was over.
    HANGS: the server did not end the connection, or let go, in time.
    ACCEPTS_CUT: it took a request that was cut short for a whole one.
    """

    CLEAN = "clean"
    BARE_FIN = "bare FIN"
    RESETS = "resets"
    ENDLESS = "endless"
    HANGS = "hangs"
    ERROR = "error"
    ACCEPTS_CUT = "accepts cut"
    LOSES = "loses data"

    @property
    def badness(self) -> int:
        """
        The greater the worse.
        """
        return list(Verdict).index(self)

    @property
    def status(self) -> int:
        """
        The exit status.
        """
        return {
            Verdict.HANGS: 3,
            Verdict.ERROR: 2,
            Verdict.ACCEPTS_CUT: 1,
            Verdict.LOSES: 1,
        }.get(self, 0)


@dataclass(frozen=True)
class Round:
    """
    One connection of one case.  Bytes are bytes of the body, over HTTP.

    @ivar expected: C{None} if it cannot be known.
    @ivar lost: bytes that had to come have not.
    @ivar end: C{"FIN"}, C{"RST"}, C{"FIN, RST"}, or C{"none"}.
    @ivar closeNotify: has the server sent one?  C{None} without TLS.
    @ivar held: seconds from the server's FIN until it let go of a client that
        never closes; C{None} in all other cases.
    @ivar story: what happened, line by line, if the user asked for that.
    """

    verdict: Verdict
    expected: Optional[int] = None
    received: int = 0
    lost: bool = False
    status: Optional[int] = None
    end: str = "none"
    closeNotify: Optional[bool] = None
    closedFirst: Optional[str] = None
    seconds: float = 0.0
    held: Optional[float] = None
    timeWait: TimeWait = TimeWait.UNKNOWN
    note: str = ""
    story: tuple[str, ...] = field(default=(), repr=False)

    def asJSON(self) -> dict[str, Any]:
        """
        As a machine reads it.
        """
        values = {**vars(self), "seconds": round(self.seconds, 4)}
        values["story"] = list(self.story)
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


def play(case: Case, probe: Probe[Any]) -> Round:
    """
    One round.
    """
    try:
        return judge(case, probe, case.run(probe))
    except (OSError, BadAnswer) as error:
        return Round(Verdict.ERROR, note=str(error) or repr(error))


def judge(case: Case, probe: Probe[Any], played: Played) -> Round:
    """
    Compare what a client got with what the polite one got, or, where that
    varies or was another request, with what the answer's own framing says.
    """
    assert probe.reference is not None
    client, answer, _ = played
    expected, lost, note = _compare(case, probe, probe.reference, played)
    if note == _OTHER and not probe.confirm():
        expected, lost, note = _compare(case, probe, probe.reference, played)
    verdict = _verdict(case, played, lost)
    patience = f"{probe.limits.patience:g} s"
    if verdict is Verdict.ENDLESS:
        lost, note = False, f"bytes still came after {client.seconds:.0f} s"
    elif verdict is Verdict.HANGS and not client.over:
        # What was not announced may never have been meant to come.
        lost = lost and expected is not None and len(answer.body) < expected
        note = f"no end within {patience}" + (f", {note}" if lost else "")
    elif verdict is Verdict.HANGS:
        note = f"still held after {patience}"
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
        client.closeNotify,
        client.closedFirst,
        client.seconds,
        client.held,
        client.timeWait,
        note,
        _story(client) if probe.watched else (),
    )


def _story(client: Client) -> tuple[str, ...]:
    return (
        *client.timeline.lines(),
        f"sent: {excerpt(bytes(client.sent))}",
        f"received: {excerpt(bytes(client.data))}",
    )


def _compare(
    case: Case, probe: Probe[Any], reference: Reference, played: Played
) -> tuple[Optional[int], bool, str]:
    """
    @return: the bytes that had to come, whether some are lost, and a note.
    """
    client, answer, note = played
    expected = answer.expected
    if note is not None:  # nothing is due
        return None, False, note
    lost = answer.complete is False or not (client.data or answer.complete)
    if reference.answer.complete is not False and (
        case.same or not probe.target.framed
    ):
        wanted = reference.answer.body * answer.due
        if reference.static or (reference.sized and answer.complete is None):
            expected = len(wanted)
            lost = lost or len(answer.body) < expected
        if reference.static and not answer.body.startswith(wanted[: len(answer.body)]):
            return expected, True, _OTHER
    return expected, lost, _missing(answer, expected) if lost else ""


def _verdict(case: Case, played: Played, lost: bool) -> Verdict:
    client = played.client
    if played.wrong is not None:
        return Verdict.ACCEPTS_CUT if played.wrong else Verdict.CLEAN
    if client.endless:
        return Verdict.ENDLESS
    if not client.over:
        return Verdict.HANGS
    if lost:
        return Verdict.LOSES
    if client.reset:
        return Verdict.RESETS
    if case.holds and client.held is None:
        return Verdict.HANGS
    return Verdict.BARE_FIN if client.closeNotify is False else Verdict.CLEAN


def _missing(answer: Answer, expected: Optional[int]) -> str:
    if answer.status is None and not answer.body:
        return "no answer"
    if expected is None or len(answer.body) >= expected:
        return "cut short"
    return f"{expected - len(answer.body)} bytes missing"


__all__ = ["Result", "Round", "Verdict", "judge", "play"]
