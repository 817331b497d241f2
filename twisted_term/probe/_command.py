"""
C{term-probe}: its options, and what it prints.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Callable, NoReturn, Optional, Union

from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError

from ._answers import NotHTTP
from ._cases import CASES, Case, Probe, learn
from ._client import LONGEST, MOST, resolve
from ._targets import HTTPTarget, RawTarget, Target
from ._verdicts import Result, Verdict, play

#: An answer that fits into the buffers on the way shows less.
_SMALL_ANSWER = 1 << 20
_BAR = 20
_NAMES = ", ".join(case.name for case in CASES)
_MANUAL = """
Does a server lose data when it closes?  Connects as clients that are awkward
and within their rights, and compares what they get with what a polite one gets.

  term-probe http://host:port/path      over HTTP/1.1
  term-probe host:port --send FILE      sends FILE; all until the end is the answer

The client of each case

{cases}

Verdicts: clean; resets: all came, and a RST; hangs; error; loses data.  The
worst round of a case is shown.  Exit status: 1 where bytes that had to come have
not, else 2 for an error, else 0.
""".format(cases="\n".join(f"  {case.name:13} {case.sentence}" for case in CASES))


class Options(BaseOptions):
    """
    The command line.

    @ivar target: whom to probe.
    @ivar cases: what to play.
    """

    target: Target
    cases: tuple[Case, ...]

    synopsis = "term-probe [options] http://host:port/path | host:port --send FILE"
    longdesc = ""
    optParameters = [
        ["send", None, None, "Send this file, and speak no HTTP."],
        ["rounds", None, "3", "Play each case so often; losses are races."],
        ["patience", None, "10", "Wait so many seconds for a sign of life."],
        ["upload", None, "50000000", "Upload so many bytes."],
    ]
    optFlags = [["json", None, "Print one JSON document."]]

    def __init__(self) -> None:
        super().__init__()
        self["case"] = []

    def opt_case(self, name: str) -> None:
        """
        Play this case; repeatable [default: all]
        """
        self["case"].append(name)

    def parseArgs(self, *where: str) -> None:
        """
        The target.
        """
        if len(where) != 1:
            problem = "must be one http://host:port/path, or one host:port --send FILE"
            raise UsageError(f"{' '.join(where)!r}: {problem}")
        self["target"] = where[0]

    def getUsage(self, width: Optional[int] = None) -> str:
        """
        The options, and a manual.
        """
        return super().getUsage(width).rstrip() + "\n" + _MANUAL

    def postOptions(self) -> None:
        """
        Check all values.
        """
        names = {case.name: case for case in CASES}
        for name in self["case"]:
            if name not in names:
                raise UsageError(f"--case {name!r}: must be one of {_NAMES}")
        self.cases = tuple(
            case for case in CASES if not self["case"] or case.name in self["case"]
        )
        self._number("rounds", int, 1, 1000, "a whole number from 1 to 1000")
        seconds = f"a number of seconds, more than 0, at most {LONGEST:g}"
        self._number("patience", float, math.ulp(0.0), LONGEST, seconds)
        size = f"a whole number of bytes from 1 to {1 << 30}"
        self._number("upload", int, 1, 1 << 30, size)
        try:
            self.target = self._target()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _target(self) -> Target:
        where, name = self["target"], self["send"]
        if name is None:
            if "://" in where:
                return HTTPTarget(where)
            problem = "must be http://host:port/path, or needs --send FILE"
            raise ValueError(f"{where!r}: {problem}")
        if "://" in where:
            raise ValueError(f"{where!r}: --send goes to host:port")
        target = RawTarget(where, b"")
        try:
            with open(name, "rb") as file:
                target.request = file.read(MOST + 1)
        except OSError as error:
            problem = f"must be a readable file: {error.strerror}"
            raise ValueError(f"--send {name!r}: {problem}") from None
        if not 0 < len(target.request) <= MOST:
            raise ValueError(f"--send {name!r}: must have 1 to {MOST} bytes")
        return target

    def _number(
        self,
        name: str,
        kind: Callable[[str], Union[int, float]],
        least: float,
        most: float,
        allowed: str,
    ) -> None:
        text = self[name]
        try:
            if "_" in text:  # Python's own way to write numbers
                raise ValueError
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise UsageError(f"--{name} {text!r}: must be {allowed}")
        self[name] = value


class _Progress:
    """
    A bar on a terminal, nothing elsewhere.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = sys.stderr.isatty()

    def show(self, name: str) -> None:
        """
        What comes next.
        """
        filled = _BAR * self._done // self._total
        bar = "#" * filled + "." * (_BAR - filled)
        self._print(f"[{bar}] {self._done}/{self._total} {name}")
        self._done += 1

    def clear(self) -> None:
        """
        Remove it.
        """
        self._print("")

    def _print(self, text: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")  # ECMA-48: erase in line
            sys.stderr.flush()


def run(probe: Probe, cases: tuple[Case, ...], rounds: int) -> list[Result]:
    """
    Find the reference, and play the cases.

    @raise OSError: if the server cannot be connected to.
    @raise NotHTTP: if it answers something else.
    """
    progress = _Progress(len(cases) * rounds + 1)
    try:
        progress.show("reference")
        learn(probe)
        results = []
        for case in cases:
            if case.applies(probe):
                played = []
                for _ in range(rounds):
                    progress.show(case.name)
                    played.append(play(case, probe))
                results.append(Result(case, tuple(played)))
        return results
    finally:
        progress.clear()


def verdict(results: list[Result]) -> Verdict:
    """
    The worst one; clean if there is none.
    """
    verdicts = [result.worst.verdict for result in results]
    return max(verdicts, key=lambda one: one.badness, default=Verdict.CLEAN)


def status(results: list[Result]) -> int:
    """
    The exit status.
    """
    if any(result.lost for result in results):
        return 1
    return 2 if verdict(results) is Verdict.ERROR else 0


def document(probe: Probe, results: list[Result]) -> dict[str, Any]:
    """
    What C{--json} prints.
    """
    assert probe.reference is not None
    answer = probe.reference.answer
    return {
        "schema": 1,
        "target": probe.target.text,
        "verdict": verdict(results).value,
        "lost": status(results) == 1,
        "reference": {
            "status": answer.status,
            "bytes": len(answer.body),
            "complete": answer.complete,
            "static": probe.reference.static,
            "serverEnds": probe.reference.endsItself,
        },
        "patience": probe.patience,
        "cases": [result.asJSON() for result in results],
    }


def table(probe: Probe, results: list[Result]) -> str:
    """
    What is printed for people.
    """
    assert probe.reference is not None
    reference = probe.reference
    lines = [
        f"{'case':13}{'verdict':12}{'rounds':>8}{'expected':>11}{'received':>11}  "
        f"{'end':9}{'closed first':13}{'seconds':>8}{'held':>6}  TIME_WAIT"
    ]
    for result in results:
        worst = result.worst
        count = result.counts()[worst.verdict.value]
        expected = "unknown" if worst.expected is None else str(worst.expected)
        held = "" if worst.held is None else f"{worst.held:.1f}"
        lines.append(
            f"{result.case.name:13}{worst.verdict.value:12}"
            f"{f'{count} of {len(result.rounds)}':>8}"
            f"{expected:>11}{worst.received:>11}  {worst.end:9}"
            f"{worst.closedFirst or 'nobody':13}{worst.seconds:8.2f}{held:>6}  "
            f"{worst.timeWait.value:9}  {worst.note}".rstrip()
        )
    if not reference.static:
        lines.append("The answer varies: its own framing is judged, not its bytes.")
    if len(reference.answer.body) < _SMALL_ANSWER:
        size = len(reference.answer.body)
        lines.append(f"The answer has {size} bytes; one of some MB would show more.")
    bad = [one.case.name for one in results if one.worst.verdict is not Verdict.CLEAN]
    causes = f" ({', '.join(bad)})" if bad else ""
    lines.append(f"{probe.target.text}: {verdict(results).value}{causes}")
    return "\n".join(lines)


def main() -> NoReturn:
    """
    Run, print, and exit.
    """
    options = Options()
    try:
        options.parseOptions(sys.argv[1:])
    except UsageError as error:
        _fail(str(error))
    target = options.target
    try:
        address = resolve(target.host, target.port, options["patience"])
        probe = Probe(target, address, options["patience"], options["upload"])
        results = run(probe, options.cases, options["rounds"])
    except (OSError, NotHTTP) as error:
        _fail(f"{target.text!r}: {error}")
    except KeyboardInterrupt:
        _fail("interrupted")
    if options["json"]:
        print(json.dumps(document(probe, results), indent=1))
    else:
        print(table(probe, results))
    sys.exit(status(results))


def _fail(problem: str) -> NoReturn:
    print(f"term-probe: {problem}", file=sys.stderr)
    sys.exit(2)


__all__ = ["Options", "document", "main", "run", "status", "table", "verdict"]
