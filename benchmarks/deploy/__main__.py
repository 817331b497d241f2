"""
Rolling restarts under load: what do clients lose while the processes behind a
balancer are restarted in turn?

In each row two processes of one kind serve GET, POST, downloads of 2 MB, uploads
of 1 MB, HTTP/2 and WebSockets, sixteen clients in all, and are restarted in turn
in one way.  The kinds::

    service  DrainingService, readinessDelay, DrainingSite
    string   term: with readinessDelay=, and a DrainingSite
    term     term:, and a plain Site
    bare     a plain Site

Printed are the answers; WebSockets that were told 1001 and connected again; what
failed, by client and reason; the longest that a request took, in seconds; the
exit statuses; and the seconds of a restart, which are those of the drain and of the
start of the next process.

    python -m benchmarks.deploy [--fronts haproxy/nginx] [--restarts 10] ... [--write]

All of it takes more than an hour, and with C{--short} a third of one: as many
restarts, with less time in between, fewer fronts, and two rows at once.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Callable, Optional
from unittest import SkipTest, TestCase

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.certificates import certificate

from .capture import Capture
from .fronts import FRONTS, Direct
from .load import BIG, CLIENTS, Load
from .restarts import COUNT, WAYS, Setting

#: What C{--short} stands for.
_SHORT = {
    "fronts": ["haproxy", "nginx", "none"],
    "pause": 0.5,
    "jobs": 2,
}
_PAGE = Path(__file__).parents[2] / "docs" / "deploy" / "rolling.rst"
#: Time lines of each client and reason in a row.
_SHOWN = 5
KINDS = ("service", "string", "term", "bare")


@dataclass
class Row:
    """
    What came of it.

    @ivar stops: seconds that each restart took.
    @ivar complaints: the exceptions of tracebacks in the logs.
    @ivar crossed: see L{Capture.crossed}; none without a capture, and if nothing
        has failed.
    @ivar explained: see L{Capture.explained}.
    """

    front: str
    way: str
    kind: str
    answers: dict[str, int]
    told: dict[str, int]
    failed: dict[str, int]
    longest: float
    exits: dict[str, int]
    stops: list[float]
    complaints: dict[str, int]
    crossed: list[float]
    explained: list[str]

    @property
    def names(self) -> tuple[str, str, str]:
        """
        What it is a row of.
        """
        return self.front, self.way, self.kind

    def cells(self) -> list[str]:
        """
        For the table.
        """
        failed = [f"{count} {name}" for name, count in sorted(self.failed.items())]
        failed += [f"logged {count}x {text}" for text, count in self.complaints.items()]
        return [
            self.front,
            self.way,
            self.kind,
            f"{sum(self.answers.values()):,}",
            str(sum(self.told.values())),
            str(sum(self.failed.values())),
            f"{self.longest:.1f}",
            ", ".join(f"{count}x {status}" for status, count in self.exits.items()),
            f"{min(self.stops):.1f}-{max(self.stops):.1f}",
            "; ".join(failed),
        ]


_HEAD = [
    *("front", "restart", "server", "answers", "1001", "failed", "longest"),
    *("exits", "seconds", "by kind"),
]


def perform(
    front: str,
    way: str,
    kind: str,
    clients: list[str],
    restarts: int,
    delay: float,
    pause: float,
    captures: bool = False,
) -> Row:
    """
    One row.

    @param restarts: how many, of all processes together.
    @param delay: seconds of C{readinessDelay}.
    @param pause: seconds between two restarts.
    @param captures: capture packets.
    @raise SkipTest: where something is missing.
    """
    owner = TestCase()
    try:
        holder = tempfile.TemporaryDirectory()
        owner.addCleanup(holder.cleanup)
        folder = Path(holder.name)
        pem, big = folder / "certificate.pem", folder / "big"
        pem.write_bytes(certificate())
        big.write_bytes(BIG)
        processes = WAYS[way](owner, Setting(kind, delay, folder, pem, big))
        if FRONTS[front] is Direct and len(processes.addresses) > 1:
            raise SkipTest("without a balancer they need one address")
        processes.start()
        before = FRONTS[front](owner, folder, pem, processes.addresses)
        places = before.address, processes.addresses
        capture = Capture(owner, folder, *places) if captures else None
        load = Load(clients, before.address, before.reusing)
        load.start()
        time.sleep(pause)
        exits: Counter[str] = Counter()
        took = []
        for number in range(restarts):
            begin = time.monotonic()
            exits[processes.restart(number % COUNT)] += 1
            took.append(time.monotonic() - begin)
            before.settle()
            time.sleep(pause)
        load.stop()
        return Row(
            *(front, way, kind, load.answers, load.told, load.failed, load.longest),
            *(exits, took, processes.complaints()),
            capture.crossed() if capture and load.failures else [],
            capture.explained(load.failures, _SHOWN) if capture else [],
        )
    finally:
        owner.doCleanups()


def performed(
    options: argparse.Namespace,
) -> Iterator[tuple[tuple[str, str, str], Future[Row]]]:
    """
    All rows, in order, and what comes of each.  Each process does one row at a
    time: its load does not wait for another's interpreter.
    """
    times = options.clients, options.restarts, options.delay, options.pause
    pool = ProcessPoolExecutor(options.jobs)
    try:
        done = {
            row: pool.submit(perform, *row, *times, options.capture)
            for row in product(options.fronts, options.ways, options.servers)
        }
        yield from done.items()
    finally:
        pool.shutdown(cancel_futures=True)


def _text(rows: list[Row]) -> str:
    table = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in table
    )


def _rst(rows: list[Row]) -> str:
    lines = [".. csv-table::", "   :header-rows: 1", ""]
    for cells in [_HEAD, *(row.cells() for row in rows)]:
        lines.append("   " + ", ".join(f'"{cell}"' for cell in cells))
    return "\n".join(lines)


_FORMS: dict[str, Callable[[list[Row]], str]] = {
    "text": _text,
    "rst": _rst,
    "json": lambda rows: json.dumps([vars(row) for row in rows]),
}


def kept(path: Optional[Path], rows: list[Row]) -> list[Row]:
    """
    Add rows to those of earlier runs, in the place of those that they were made for.

    @param path: the file of all of them; C{None} if there is none.
    @return: all, in the order of the table.
    """
    if path is None:
        return rows
    old = json.loads(path.read_text()) if path.exists() else []
    every = {row.names: row for row in [*(Row(**one) for one in old), *rows]}
    order = list(product(FRONTS, WAYS, KINDS))
    found = sorted(every.values(), key=lambda row: order.index(row.names))
    path.write_text(_FORMS["json"](found))
    return found


def write(table: str) -> None:
    """
    Put it into the documentation.
    """
    text = _PAGE.read_text("utf-8")
    begin, end = ".. table begins\n", ".. table ends\n"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    _PAGE.write_text(f"{head}{begin}\n{table}\n\n{end}{tail}", "utf-8")


def _several(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split("/")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"{name!r}: must be of {', '.join(map(repr, known))}"
                )
        return names

    return parse


def main() -> None:
    """
    Perform, and print the table.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deploy",
        description="Several names are parted by a slash: --servers service/bare",
    )
    several = {"fronts": FRONTS, "ways": WAYS, "servers": KINDS, "clients": CLIENTS}
    for option, known in several.items():
        parser.add_argument(
            f"--{option}",
            type=_several(known),
            default=list(known),
            help=f"of {', '.join(known)}",
        )
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--delay", type=float, default=2.0, help="readinessDelay")
    parser.add_argument("--pause", type=float, default=3.0, help="between two")
    parser.add_argument("--jobs", type=int, default=1, help="rows at once")
    parser.add_argument(
        "--short",
        action="store_true",
        help="a third of an hour: fewer fronts and seconds, two rows at once",
    )
    parser.add_argument("--form", choices=_FORMS, default="text")
    parser.add_argument(
        "--capture",
        action="store_true",
        help="with tshark, which needs root: a time line of what fails",
    )
    parser.add_argument("--keep", type=Path, help="add to what is in this file")
    parser.add_argument("--write", action="store_true", help=f"write {_PAGE.name}")
    options = parser.parse_args()
    if options.short:
        parser.set_defaults(**_SHORT)
        options = parser.parse_args()
    # So that what has been started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    rows = kept(options.keep, [])
    broken = 0
    for names, done in performed(options):
        try:
            row = done.result()
            rows = kept(options.keep, [*rows, row])
            print(*row.cells(), sep=" | ", file=sys.stderr, flush=True)
            print(*row.explained, sep="\n", file=sys.stderr, flush=True)
        except SkipTest as reason:
            print(*names, f"skipped: {reason}", sep=" | ", file=sys.stderr, flush=True)
        except Exception as error:
            # The other rows took long, too.
            broken += 1
            print(*names, f"broken: {error!r}", sep=" | ", file=sys.stderr, flush=True)
    print(_FORMS[options.form](rows))
    if options.write:
        write(_rst(rows))
    if broken:
        sys.exit(f"{broken} rows are missing")


if __name__ == "__main__":
    main()
