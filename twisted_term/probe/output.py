"""
What is printed: a table for people, JSON and JUnit's XML for machines.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from .cases import Probe
from .verdicts import Result, Round, Verdict

#: An answer below this size fits into the buffers on the way, and shows less.
_SMALL_ANSWER = 1 << 20
_WIDTH = 80
_COLUMNS = "{:<16}{:<12}{:<7}{:<5}{:<20}{:<13}{}"
# ECMA-48: select graphic rendition.
_RED, _YELLOW, _GREEN, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[m"


class Unwritable(Exception):
    """
    Nothing can be printed.
    """


def say(text: str) -> None:
    """
    Print it, at once.

    @raise BrokenPipeError: if the reader of the output has closed it.
    @raise Unwritable: if it cannot be printed.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"standard output: {error.strerror}") from None


def overall(results: Sequence[Result]) -> Verdict:
    """
    The worst one; clean if there is none.
    """
    verdicts = [result.worst.verdict for result in results]
    return max(verdicts, key=lambda one: one.badness, default=Verdict.CLEAN)


def status(results: Sequence[Result]) -> int:
    """
    The exit status: that of a loss before all others.
    """
    if any(result.lost for result in results):
        return 1
    return overall(results).status


def document(probe: Probe[Any], results: Sequence[Result]) -> dict[str, Any]:
    """
    What C{--json} prints.
    """
    assert probe.reference is not None
    answer = probe.reference.answer
    return {
        "schema": 2,
        "target": probe.target.text,
        "protocol": probe.target.protocol,
        "verdict": overall(results).value,
        "lost": any(result.lost for result in results),
        "reference": {
            "status": answer.status,
            "bytes": len(answer.body),
            "complete": answer.complete,
            "static": probe.reference.static,
            "serverEnds": probe.reference.endsItself,
        },
        "patience": probe.limits.patience,
        "cases": [result.asJSON() for result in results],
    }


def head() -> str:
    """
    The first line of the table.
    """
    titles = ("case", "verdict", "rounds", "code", "received/expected", "end", "first")
    return _COLUMNS.format(*titles)


def row(result: Result) -> str:
    """
    A line of the table, and its note on the next one.
    """
    worst = result.worst
    count = result.counts()[worst.verdict.value]
    line = _COLUMNS.format(
        result.case.name,
        worst.verdict.value,
        f"{count}/{len(result.rounds)}",
        "" if worst.status is None else worst.status,
        _bytes(worst),
        end(worst),
        worst.closedFirst or "nobody",
    ).rstrip()
    if colours():
        line = line.replace(
            worst.verdict.value, f"{_colour(worst)}{worst.verdict.value}{_PLAIN}", 1
        )
    return "\n".join([line, *_wrapped(worst.note)])


def colours() -> bool:
    """
    On a terminal only, and not where the user wants none (no-color.org).
    """
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def end(one: Round) -> str:
    """
    How the server has ended the connection, in few letters.
    """
    signs = ["notify"] if one.closeNotify else []
    return "+".join(signs + one.end.split(", "))


def _bytes(one: Round) -> str:
    if one.expected is None:
        return str(one.received)
    return f"{one.received}/{one.expected}"


def _colour(one: Round) -> str:
    if one.verdict is Verdict.CLEAN:
        return _GREEN
    return _RED if one.verdict.status == 1 else _YELLOW


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def summary(probe: Probe[Any], results: Sequence[Result]) -> list[str]:
    """
    The last lines of the table.
    """
    assert probe.reference is not None
    answer, static, _, _ = probe.reference
    lines = []
    web = probe.target.protocol != "WebSocket"
    if web and answer.status is not None and answer.status >= 400:
        lines += _wrapped(
            f"The polite client, too, got {answer.status}: that answer is judged."
        )
    if not static:
        lines += _wrapped("The answer varies: its framing is judged, not its bytes.")
    if web and len(answer.body) < _SMALL_ANSWER:
        lines += _wrapped(
            f"The answer has {len(answer.body)} bytes; one of some MB would show more."
        )
    return [*lines, f"{probe.target.text}: {_groups(results)}"]


def _groups(results: Sequence[Result]) -> str:
    """
    Each verdict that is not clean, the worst first, with its cases.
    """
    groups = []
    for verdict in sorted(Verdict, key=lambda one: one.badness, reverse=True):
        names = [one.case.name for one in results if one.worst.verdict is verdict]
        if names and verdict is not Verdict.CLEAN:
            groups.append(f"{verdict.value} ({', '.join(names)})")
    return "; ".join(groups) or Verdict.CLEAN.value


def explanation(result: Result) -> str:
    """
    What C{--explain} prints below the row.
    """
    case, worst = result.case, result.worst
    lines = [
        *_wrapped(f"The client {case.sentence}"),
        *_wrapped(case.right),
        *(part for line in worst.story for part in _wrapped(line, " " * 6)),
        f"  TIME_WAIT: {worst.timeWait.value}",
    ]
    return "\n".join([*lines, ""])


def junit(probe: Probe[Any], results: Sequence[Result]) -> bytes:
    """
    What C{--junit} writes: a case is a test case, which fails if it loses data
    or hangs, and errs on an error.
    """
    suite = ElementTree.Element("testsuite", name=f"term-probe {probe.target.text}")
    counts = {"failure": 0, "error": 0}
    for result in results:
        worst = result.worst
        test = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"term-probe.{probe.target.protocol}",
            name=result.case.name,
            time=f"{sum(one.seconds for one in result.rounds):.3f}",
        )
        kind = "error" if worst.verdict is Verdict.ERROR else "failure"
        if worst.verdict.status or result.lost:
            counts[kind] += 1
            text = f"{worst.verdict.value}: {worst.note}".rstrip(": ")
            problem = ElementTree.SubElement(test, kind, message=_clean(text))
            problem.text = _clean(explanation(result))
        elif worst.verdict is not Verdict.CLEAN:
            ElementTree.SubElement(test, "system-out").text = worst.verdict.value
    suite.set("tests", str(len(results)))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, "utf-8", xml_declaration=True) + b"\n"


def _clean(text: str) -> str:
    """
    Without what XML 1.0 cannot hold.
    """
    return "".join(_characters(text))


def _characters(text: str) -> Iterator[str]:
    for character in text:
        known = character in "\t\n" or " " <= character <= "\ud7ff"
        yield character if known else "?"


__all__ = [
    "Unwritable",
    "colours",
    "document",
    "end",
    "explanation",
    "head",
    "junit",
    "overall",
    "row",
    "say",
    "status",
    "summary",
]
