"""
C{term-probe}: its options, and the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import FileIO
from typing import Any, Callable, NamedTuple, NoReturn, Optional

from . import deploy, output
from .answers import BadAnswer
from .capture import capture
from .cases import Case, Probe
from .client import LONGEST, MOST, Limits
from .http1 import CASES
from .options import Parser, addConnection, connectTo, fail, number, only, seconds
from .progress import Progress
from .protocols import casesOf
from .targets import HTTP2Target, HTTPTarget, RawTarget, Target, WebSocketTarget
from .verdicts import Result, Round, Verdict, play

#: The largest upload, in bytes.
_LARGEST = 1 << 30
_DESCRIPTION = """\
Does a server lose data when it closes?  Connects as clients that are awkward
and within their rights, and compares what they get with what a polite one gets.

  term-probe http://host:port/path      over HTTP/1.1, or https:
  term-probe https://host/path --http2  over HTTP/2
  term-probe ws://host:port/path        over WebSocket, or wss:
  term-probe host:port --send FILE      sends FILE; all until the end is the answer
  term-probe deploy --help              what is lost when the server is stopped

Nothing is sent to any other address; redirects are not followed.  Each round
sends a request or two, and the round of an upload so many bytes as --upload says,
that of a pipeline 4 MiB of empty lines.
"""
_MANUAL = """\
the client of each case of HTTP/1.1

{cases}

Verdicts: clean; bare FIN: all came, but no close_notify; resets: all came, and
a RST; endless: bytes still came after --longest; hangs: no end, or not let go,
while patience lasted; error; accepts cut: half a request passed for a whole
one; loses data.  The worst round of a case is shown, and one that hangs is
the last.  Exit status: 1 where bytes that had to come have not, or a cut was
accepted; else 2 for an error, 3 for a hang, and 0.
"""


class Options(NamedTuple):
    """
    The command line.

    @ivar given: the options that say where to connect, and how.
    """

    target: Target
    given: Namespace
    cases: tuple[Case, ...]
    rounds: int
    limits: Limits
    upload: int
    json: bool
    explain: bool
    junit: Optional[str]
    pcap: Optional[str]


def parse(arguments: Sequence[str]) -> Options:
    """
    Read the command line; options may stand behind the target.

    @raise SystemExit: with status 2 and one line on standard error.
    """
    shown = "\n".join(f"  {case.name:15} {case.sentence}" for case in CASES)
    parser = Parser(
        "term-probe",
        description=_DESCRIPTION,
        epilog=_MANUAL.format(cases=shown),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("target", help="a URL, or host:port")
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("--send", metavar="FILE", help="send it, and speak no HTTP")
    parser.add_argument("--http2", action="store_true", help="speak HTTP/2")
    parser.add_argument("--message", metavar="TEXT", help="send it over WebSocket")
    parser.add_argument(
        "--case",
        action="append",
        metavar="NAME",
        help="play this case; repeatable (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=number(int, 1, 1000, "a whole number from 1 to 1000"),
        default=3,
        help="play each case so often; losses are races (default: 3)",
    )
    parser.add_argument(
        "--longest",
        type=seconds(),
        default=LONGEST,
        metavar="SECONDS",
        help=f"no connection takes longer (default: {LONGEST:g})",
    )
    parser.add_argument(
        "--upload",
        type=number(int, 1, _LARGEST, f"a whole number from 1 to {_LARGEST}"),
        default=50_000_000,
        metavar="BYTES",
        help="upload so many bytes (default: 50000000)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--junit", metavar="FILE", help="write the results for a CI, as JUnit does"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="show the bytes and the time line of what is not clean, and the RFC",
    )
    parser.add_argument(
        "--pcap", metavar="FILE", help="write the packets, by tcpdump or dumpcap"
    )
    addConnection(parser)
    given = parser.parse_args(arguments)
    try:
        target = _target(given)
        cases = _chosen(casesOf(target), given.case)
    except ValueError as error:
        parser.error(str(error))
    return Options(
        target,
        given,
        cases,
        given.rounds,
        Limits(given.patience, given.longest),
        given.upload,
        given.json,
        given.explain,
        given.junit,
        given.pcap,
    )


def _version() -> str:
    try:
        return f"term-probe {version('twisted_term')}"
    except PackageNotFoundError:
        return "term-probe, not installed"


def _target(given: Namespace) -> Target:
    where = given.target
    target: Target
    if given.send is not None:
        target = RawTarget(where, _contents(given.send))
    elif "://" not in where:
        problem = "must be http://host:port/path, or host:port with --send FILE"
        raise ValueError(f"{where!r}: {problem}")
    elif where.startswith(("ws://", "wss://")):
        target = WebSocketTarget(where, given.header, given.message)
    elif given.http2:
        target = HTTP2Target(where, given.method, given.header)
    else:
        target = HTTPTarget(where, given.method, given.header)
    web = "HTTP/1.1 or HTTP/2"
    only(
        given,
        target,
        http2=(False, "HTTP/2"),
        method=("GET", web),
        header=([], f"{web} or WebSocket"),
        message=(None, "WebSocket"),
    )
    return target


def _contents(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            request = file.read(MOST + 1)
    except OSError as error:
        problem = f"must be a readable file: {error.strerror}"
        raise ValueError(f"--send {name!r}: {problem}") from None
    if not 0 < len(request) <= MOST:
        raise ValueError(f"--send {name!r}: must have 1 to {MOST} bytes")
    return request


def _chosen(
    cases: tuple[Case, ...], names: Optional[Sequence[str]]
) -> tuple[Case, ...]:
    known = [case.name for case in cases]
    for name in names or ():
        if name not in known:
            raise ValueError(f"--case {name!r}: must be one of {', '.join(known)}")
    return tuple(case for case in cases if names is None or case.name in names)


def run(
    probe: Probe[Any],
    cases: tuple[Case, ...],
    rounds: int,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """
    Find the reference, and play the cases.

    @param tell: is given each result as it comes.
    @raise OSError: if the server cannot be connected to.
    @raise BadAnswer: if it answers something else.
    """
    progress = Progress(len(cases) * rounds + 1)
    try:
        progress.show("reference")
        probe.learn(casesOf(probe.target)[0].run)
        results = []
        for case in cases:
            if case.applies(probe):
                played: list[Round] = []
                while len(played) < rounds:
                    progress.show(case.name)
                    played.append(play(case, probe))
                    if played[-1].verdict in (Verdict.HANGS, Verdict.ENDLESS):
                        progress.skip(rounds - len(played))
                        break  # another round would wait long, and find the same
                results.append(Result(case, tuple(played)))
                progress.clear()
                tell(results[-1])
            else:
                progress.skip(rounds)
        return results
    finally:
        progress.stop()


def main() -> NoReturn:
    """
    Run, print, and exit.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it is closed, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        if sys.argv[1:2] == ["deploy"]:
            status = deploy.run(sys.argv[2:])
        else:
            status = _probe(parse(sys.argv[1:]))
        sys.stdout.flush()
    except (BrokenPipeError, output.Unwritable) as error:
        # Otherwise Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(2)  # the reader of our output has closed it
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted")
    sys.exit(status)


def _probe(options: Options) -> int:
    """
    @return: the exit status.
    """
    target = options.target
    try:
        probe = Probe(
            target,
            connectTo(target, options.given),
            options.limits,
            options.upload,
            options.explain,
        )
        with contextlib.ExitStack() as stack:
            report = _opened(options.junit, stack)
            if options.pcap is not None:
                stack.enter_context(capture(probe.address, options.pcap))
            tell = _quiet if options.json else _Table(options.explain).tell
            results = run(probe, options.cases, options.rounds, tell)
            if report is not None:
                _write(report, output.junit(probe, results))
    except ValueError as error:
        fail(str(error))
    except BrokenPipeError:
        raise
    except (OSError, BadAnswer) as error:
        fail(f"{target.text!r}: {error}")
    if options.json:
        output.say(json.dumps(output.document(probe, results), indent=1))
    else:
        output.say("\n".join(output.summary(probe, results)))
    return output.status(results)


def _quiet(result: Result) -> None:
    """
    All is printed at the end.
    """


class _Table:
    """
    Rows, as they come.
    """

    def __init__(self, explain: bool) -> None:
        self._explain = explain
        self._headed = False

    def tell(self, result: Result) -> None:
        """
        Print it.
        """
        if not self._headed:
            output.say(output.head())
            self._headed = True
        output.say(output.row(result))
        if self._explain and result.worst.verdict is not Verdict.CLEAN:
            output.say(output.explanation(result))


def _opened(name: Optional[str], stack: contextlib.ExitStack) -> Optional[FileIO]:
    """
    The report, before the cases are played.
    """
    if name is None:
        return None
    try:
        return stack.enter_context(FileIO(name, "w"))
    except OSError as error:
        raise _unwritable(name, error) from None


def _write(file: FileIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise _unwritable(str(file.name), error) from None


def _unwritable(name: str, error: OSError) -> ValueError:
    problem = f"must be a file that can be written: {error.strerror}"
    return ValueError(f"--junit {name!r}: {problem}")


__all__ = ["Options", "main", "parse", "run"]
