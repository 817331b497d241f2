"""
C{term-probe}: its options, and what it prints.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, NoReturn, Optional

from ._answers import BadAnswer
from ._cases import CASES, Case, Probe, learn
from ._client import LONGEST, MOST, resolve
from ._targets import HTTPTarget, RawTarget, Target
from ._verdicts import Result, Round, Verdict, play

#: An answer that fits into the buffers on the way shows less.
_SMALL_ANSWER = 1 << 20
_BAR = 20
#: nginx, Apache httpd and others linger for up to 30 seconds.
_PATIENCE = 35.0
#: The shortest patience, in seconds, and the largest upload, in bytes.
_MOMENT = 0.001
_LARGEST = 1 << 30
_DESCRIPTION = """\
Does a server lose data when it closes?  Connects as clients that are awkward
and within their rights, and compares what they get with what a polite one gets.

  term-probe http://host:port/path      over HTTP/1.1
  term-probe host:port --send FILE      sends FILE; all until the end is the answer
"""
_MANUAL = """\
the client of each case

{cases}

Verdicts: clean; resets: all came, and a RST; hangs: no end, or not let go,
while patience lasted; error; loses data.  The worst round of a case is shown, and
one that hangs is the last.  Exit status: 1 where bytes that had to come have
not, else 2 for an error, else 0.
""".format(cases="\n".join(f"  {case.name:13} {case.sentence}" for case in CASES))


class _Parser(ArgumentParser):
    """
    Complains in one line.
    """

    def error(self, message: str) -> NoReturn:
        _fail(message)


class Options(NamedTuple):
    """
    The command line.
    """

    target: Target
    cases: tuple[Case, ...]
    rounds: int
    patience: float
    upload: int
    json: bool


def parse(arguments: Sequence[str]) -> Options:
    """
    Read the command line; options may stand behind the target.

    @raise SystemExit: with status 2 and one line on standard error.
    """
    parser = _Parser(
        "term-probe",
        description=_DESCRIPTION,
        epilog=_MANUAL,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("target", help="http://host:port/path, or host:port")
    parser.add_argument("--send", metavar="FILE", help="send it, and speak no HTTP")
    parser.add_argument(
        "--case",
        action="append",
        choices=[case.name for case in CASES],
        metavar="NAME",
        help="play this case; repeatable (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=_number(int, 1, 1000, "a whole number from 1 to 1000"),
        default=3,
        help="play each case so often; losses are races (default: 3)",
    )
    seconds = f"a number of seconds from {_MOMENT:g} to {LONGEST:g}"
    parser.add_argument(
        "--patience",
        type=_number(float, _MOMENT, LONGEST, seconds),
        default=_PATIENCE,
        metavar="SECONDS",
        help=f"wait so long for a sign of life (default: {_PATIENCE:g})",
    )
    parser.add_argument(
        "--upload",
        type=_number(int, 1, _LARGEST, f"a whole number from 1 to {_LARGEST}"),
        default=50_000_000,
        metavar="BYTES",
        help="upload so many bytes (default: 50000000)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args(arguments)
    try:
        target = _target(given.target, given.send)
    except ValueError as error:
        parser.error(str(error))
    chosen = given.case or [case.name for case in CASES]
    cases = tuple(case for case in CASES if case.name in chosen)
    return Options(
        target, cases, given.rounds, given.patience, given.upload, given.json
    )


def _number(
    kind: Callable[[str], float], least: float, most: float, allowed: str
) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            if "_" in text:  # Python's own way to write numbers
                raise ValueError
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text!r}: must be {allowed}")
        return value

    return read


def _target(where: str, name: Optional[str]) -> Target:
    if name is None:
        if "://" in where:
            return HTTPTarget(where)
        problem = "must be http://host:port/path, or host:port with --send FILE"
        raise ValueError(f"{where!r}: {problem}")
    try:
        with open(name, "rb") as file:
            request = file.read(MOST + 1)
    except OSError as error:
        problem = f"must be a readable file: {error.strerror}"
        raise ValueError(f"--send {name!r}: {problem}") from None
    if not 0 < len(request) <= MOST:
        raise ValueError(f"--send {name!r}: must have 1 to {MOST} bytes")
    return RawTarget(where, request)


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
    @raise BadAnswer: if it answers something else.
    """
    progress = _Progress(len(cases) * rounds + 1)
    try:
        progress.show("reference")
        learn(probe)
        results = []
        for case in cases:
            if case.applies(probe):
                played: list[Round] = []
                while len(played) < rounds:
                    progress.show(case.name)
                    played.append(play(case, probe))
                    if played[-1].verdict is Verdict.HANGS:
                        break  # no race, and a long wait
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
    options = parse(sys.argv[1:])
    target = options.target
    try:
        address = resolve(target.host, target.port, options.patience)
        probe = Probe(target, address, options.patience, options.upload)
        results = run(probe, options.cases, options.rounds)
    except (OSError, BadAnswer) as error:
        _fail(f"{target.text!r}: {error}")
    except KeyboardInterrupt:
        _fail("interrupted")
    if options.json:
        print(json.dumps(document(probe, results), indent=1))
    else:
        print(table(probe, results))
    sys.exit(status(results))


def _fail(problem: str) -> NoReturn:
    print(f"term-probe: {problem}", file=sys.stderr)
    sys.exit(2)


__all__ = ["Options", "document", "main", "parse", "run", "status", "table", "verdict"]
