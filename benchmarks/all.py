"""
All measurements, of all rivals, in one run and in one table.

The rivals take turns in short slices, because a machine's speed drifts;
I{again} is a second bare Twisted, which shows what is left of that.  A cell
has the median of the rounds, in parentheses the median of the ratios to bare
Twisted in the same round, and half the distance between the quartiles in
percent of the median.

    python benchmarks/all.py [--quick] [--write]

--quick is a smoke run, whose numbers say nothing.  --write writes the table
and the plots to docs/, and needs matplotlib (the extra C{bench}).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from math import log
from pathlib import Path
from statistics import median
from typing import NamedTuple

import discard
import drain
import plots
import table
from load import Load
from processes import Rival, Server, raiseFiles
from rivals import NAMES, commands, nginx
from turns import rows, takeTurns

_DOCS = Path(__file__).parents[1] / "docs"
#: From so many on, a drain's time is not that of its begin alone.
_GROWING = 1_000
#: A client that uses more of its CPU than this may be what is measured.
_BUSY = 0.9
#: What is told as slower than bare Twisted is so by more than this.
_MARGIN = 0.05


class Size(NamedTuple):
    """
    How much to measure.
    """

    rounds: int
    seconds: float
    idle: int
    upload: int
    drains: int
    counts: tuple[int, ...]


_FULL = Size(9, 0.7, 4_000, 256 << 20, 3, (100, 1_000, 10_000, 50_000))
_QUICK = Size(1, 0.05, 100, 1 << 20, 1, (20, 100))


class Results:
    """
    What has been found.
    """

    def __init__(self) -> None:
        self.rows: list[table.Row] = []
        self.notes: list[str] = []
        self.drains: dict[str, list[tuple[int, float]]] = {}
        self.recv: dict[str, list[float]] = {}

    def add(
        self, title: str, unit: str, form: str, values: dict[str, list[float]]
    ) -> None:
        """
        Add a row.
        """
        self.rows.append(table.Row(title, unit, form, values))
        print(f"{title} done", file=sys.stderr, flush=True)


def _installed(kind: str, directory: str, results: Results) -> dict[str, Rival]:
    found = commands(kind, directory)
    for name, what in found.items():
        if isinstance(what, str):
            results.notes.append(f"{name} is left out of the {kind} servers: {what}.")
    return {name: what for name, what in found.items() if isinstance(what, Rival)}


def _rates(load: Load, rivals: dict[str, Rival], size: Size, results: Results) -> None:
    """
    What the bare servers do.
    """
    with ExitStack() as stack:
        servers = {}
        for name, rival in rivals.items():
            servers[name] = Server(rival)
            stack.callback(servers[name].kill)
        # First, while there is nothing left over that could be used again.
        memory = {
            name: [_memory(load, server, size.idle)] for name, server in servers.items()
        }
        for title, measure, more in (
            ("bulk", load.bulk, ()),
            ("requests", load.requests, ()),
            ("connections", load.connections, ()),
            ("discarded while lingering", load.discard, (size.upload,)),
        ):
            done = takeTurns(servers, size.rounds, measure, size.seconds, *more)
            for row in rows(title, done):
                results.add(*row)
            for name, some in done.items():
                busy = median(one.client / one.seconds for one in some)
                if busy > _BUSY:
                    results.notes.append(
                        f"{title}, {name}: the client's CPU was busy for {busy:.0%} of"
                        " the time, so the server may be faster than that."
                    )
    results.add("memory of an idle connection", "bytes", ",.0f", memory)


def _memory(load: Load, server: Server, count: int) -> float:
    """
    Bytes that an idle connection adds to the server's resident set.
    """
    idle = drain.Idle(load)
    try:
        # The first ones fill what the process had to spare.
        idle.open([server], [count // 4])
        before = server.resident()
        idle.open([server], [count])
        return (server.resident() - before) / count
    finally:
        idle.kill()


def _drains(load: Load, rivals: dict[str, Rival], size: Size, results: Results) -> None:
    """
    What the web servers do.
    """
    files = raiseFiles(max(size.counts) + 2 * drain.SPARE)
    for count in size.counts:
        found = drain.measureAll(load, rivals, count, size.drains, files)
        for attribute, title in (("clients", "last FIN"), ("exit", "exit")):
            values = {
                name: [getattr(one, attribute) for one in some]
                for name, some in found.items()
            }
            results.add(f"drain of {count:,}: {title}", "s", ".3f", values)
        for name, some in found.items():
            if not some:
                results.notes.append(f"{name}, drain of {count:,}: failed.")
                continue
            points = results.drains.setdefault(name, [])
            points.append((count, median(one.clients for one in some)))
            others = sum(one.connections - one.ends["FIN"] for one in some)
            if others:
                results.notes.append(
                    f"{name}, drain of {count:,}: {others} of {count * len(some):,}"
                    " connections did not end with FIN, after the signal."
                )
        shares = len(drain.shares(count, files - drain.SPARE))
        if shares > 1:
            results.notes.append(
                f"Drain of {count:,}: {shares} processes of each rival share the"
                f" connections, since a process may have {files:,} files here."
            )
    growth = {
        name: [_exponent(points)]
        for name, points in results.drains.items()
        if len(points) > 1
    }
    results.add("drain grows with N to the power of", "", ".2f", growth)


def _exponent(points: list[tuple[int, float]]) -> float:
    """
    The slope of the line through the first and the last of C{points}, on
    logarithmic axes.
    """
    large = [point for point in points if point[0] >= _GROWING]
    chosen = large if len(large) > 1 else points
    (fewer, sooner), (more, later) = chosen[0], chosen[-1]
    return log(later / sooner) / log(more / fewer)


def _versions() -> str:
    """
    What was measured, and on what.
    """
    found = [
        f"{os.cpu_count()} cores",
        f"{platform.system()} {platform.release().partition('-')[0]}",
        f"{platform.python_implementation()} {platform.python_version()}",
    ]
    for package in ("Twisted", "aiohttp", "uvloop"):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    for name, command in (("Go", ["go", "version"]), ("nginx", [nginx(), "-v"])):
        with suppress(OSError, TypeError):
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", run.stdout + run.stderr)
            if number:
                found.append(f"{name} {number[0]}")
    return ", ".join(found)


def _recv(recv: dict[str, list[float]]) -> list[list[str]]:
    """
    The table of what C{recv} costs.
    """
    plain = next(iter(recv.values()))
    return [["recv", "CPU s/GB", "ratio"]] + [
        [
            name,
            f"{median(values):.3f}",
            f"{median(mine / its for mine, its in zip(values, plain) if its):.2f}"
            if all(plain)
            else "-",
        ]
        for name, values in recv.items()
    ]


_RST = """\
Benchmarks
==========

Written by ``python benchmarks/all.py --write``; do not edit.  {versions}.

One client, ``benchmarks/load.c``, for all rivals, and one server process with
one thread (Go: ``GOMAXPROCS=1``, nginx: one worker) for each, on one machine
over loopback.  The rivals take turns in slices of {seconds} seconds, {rounds} times,
and in drains, {drains} times.  A cell has the median, in parentheses the median of
the ratios to bare Twisted in the same round, and half the distance between the
quartiles.  *again* is a second bare Twisted: what differs there is noise.

{table}
*bulk*, *requests*, *connections*, *discarded* and *memory* are of bare
protocols, which answer what looks enough like HTTP; nginx parses it, and sends
the bulk from a file with ``sendfile``.  Lingering is that of twisted_term and
of nginx, and made by hand for the others (half-close, read until FIN): bare
Twisted and asyncio have none.  *half-close by hand* is bare Twisted that ends
each connection so: with ``loseWriteConnection()``, and at the client's FIN.  It
has no limit on that wait, and is the least that a lingering close costs in
Twisted.  *drain* is of each library's HTTP server:
twisted.web, twisted.web with ``DrainingService``, aiohttp on asyncio and on
uvloop, ``net/http`` and nginx, full of idle keep-alive connections when the
signal comes.  Bare Twisted does not drain: it exits, and the kernel closes.
twisted_term's log, a line for each connection, is discarded.

{notes}
.. image:: benchmarks/rates.svg
   :alt: Bars with the rates, the CPU time and the memory of each rival; the
         numbers are those of the table.

.. image:: benchmarks/drains.svg
   :alt: Lines with the seconds of a drain over the number of connections, on
         logarithmic axes; the numbers are those of the table.

{recv}"""


def _write(results: Results, size: Size, written: list[list[str]]) -> None:
    folder = _DOCS / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    shown = [row for row in results.rows if not row.title.startswith("drain")]
    plots.bars(shown, NAMES, folder / "rates.svg")
    plots.lines(results.drains, NAMES, folder / "drains.svg")
    text = _RST.format(
        versions=_versions(),
        seconds=size.seconds,
        rounds=size.rounds,
        drains=size.drains,
        table=table.rst("All measurements", written),
        notes="".join(f"- {note}\n" for note in results.notes),
        recv=table.rst(
            "Reading what nobody wants, 1 GiB over loopback", _recv(results.recv)
        ),
    )
    (_DOCS / "benchmarks.rst").write_text(text, "utf-8")


def main(arguments: list[str]) -> None:
    """
    Measure, print, and write.
    """
    parser = argparse.ArgumentParser(description="All measurements.")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--write", action="store_true", help="write docs/")
    options = parser.parse_args(arguments)
    if options.write and importlib.util.find_spec("matplotlib") is None:
        sys.exit("--write: needs matplotlib (pip install matplotlib)")
    size = _QUICK if options.quick else _FULL
    results = Results()
    results.notes.append(
        f"The load average before the run was {os.getloadavg()[0]:.1f}: what other"
        " processes did is in all the rates and times, and hardly in the CPU time."
    )
    raiseFiles(max(size.counts) + 2 * drain.SPARE)
    with tempfile.TemporaryDirectory() as directory:
        load = Load(directory)
        _rates(load, _installed("bare", directory, results), size, results)
        _drains(load, _installed("web", directory, results), size, results)
    results.recv = discard.measure(size.rounds, size.upload * 4)
    slower = table.behind(results.rows, "twisted_term", NAMES[0], _MARGIN)
    behind = "; ".join(slower) or "nothing"
    results.notes.insert(0, f"twisted_term is behind bare Twisted in: {behind}.")
    results.notes += table.compared(results.rows, "twisted_term", "half-close by hand")
    written = table.cells(results.rows, NAMES)
    print(f"\n{_versions()}\n\n{table.text(written)}\n")
    print("\n".join(results.notes))
    print(f"\n{table.text(_recv(results.recv))}")
    if options.write:
        _write(results, size, written)


if __name__ == "__main__":
    main(sys.argv[1:])
