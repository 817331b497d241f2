"""
Runs the whole suite once for each reactor and interpreter that it is given,
side by side, since a suite mostly waits; then prints what each run counted.  What
depends on neither, and takes long, runs once beside them (marked with a star)::

    python -m tests.matrix epoll:python poll:python epoll:/old/bin/python

With C{--coverage} the first run counts the lines and branches that it takes, also in
the processes that it starts, and prints for each module what is missing.  (The run with
the star is the longest, and counts nothing: it is about the prober, the balancers and
other programs.)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional

_VERSIONS = (
    "import platform, twisted; print(platform.python_version(), twisted.__version__)"
)
#: A bound against hanging; trial is ended, and the run has failed.
_SECONDS = 2400
_TESTS = Path(__file__).parent
#: Modules of tests that depend neither on the reactor nor on Twisted, and take
#: long: they run once, beside all others.
_ONCE = (
    "agent",
    "benchmarks",
    "deploy_pages",
    "faults",
    "generated",
    "live_systemd",
    "probe",
    "probe_confirmed",
    "probe_deploy",
    "probe_protocols",
    "probe_ways",
    "prometheus",
    "rolling",
    "soak",
)
#: The command that counts the branches; pyproject.toml names the package.
_COVERAGE = ("-m", "coverage")
_COUNTED = (*_COVERAGE, "run", f"--rcfile={_TESTS.parent / 'pyproject.toml'}")
_HEAD = ("reactor", "python", "twisted", "passed", "skipped", "failed", "seconds")


def counted(output: str, status: int) -> tuple[int, int, int]:
    """
    How many tests have passed, been skipped and failed, from trial's last
    line.  A run without that line has failed, whatever it did.
    """
    last = re.search(r"\n(?:PASSED|FAILED) \((.*)\)\n*\Z", output)
    counts = dict(re.findall(r"(\w+)=(\d+)", last[1])) if last else {}
    passed, skipped, *bad = (
        int(counts.get(name, 0))
        for name in ("successes", "skips", "failures", "errors", "unexpectedSuccesses")
    )
    failed = sum(bad)
    if not failed and (status or not passed):
        failed = 1
    return passed, skipped, failed


def modules(once: bool) -> list[str]:
    """
    The modules of tests.

    @param once: those that are in C{_ONCE}, or the others.
    """
    names = sorted(path.stem for path in _TESTS.glob("test_*.py"))
    alone = {f"test_{name}" for name in _ONCE}
    return [f"tests.{name}" for name in names if (name in alone) is once]


def run(
    number: int,
    reactor: str,
    python: str,
    once: bool = False,
    data: Optional[str] = None,
) -> tuple[tuple[object, ...], str]:
    """
    @param number: from 0; what depends on neither of the two runs in the first.
    @param once: only the modules in C{_ONCE}; else the others.
    @param data: the beginning of the names of files for what is covered.
    @return: a row of the table, and what trial printed.
    """
    versions = subprocess.check_output((python, "-c", _VERSIONS), text=True).split()
    environment = {**os.environ, "TEST_REACTOR": reactor}
    if number:
        environment["TEST_REPEATED"] = "1"
    counting: tuple[str, ...] = ()
    if data is not None:
        environment["COVERAGE_FILE"] = data
        counting = _COUNTED
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trials = f"--temp-directory={folder}/trial"
        command = (python, *counting, "-m", "twisted.trial", trials)
        with subprocess.Popen(
            (*command, *modules(once)),
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as trial:
            overdue = threading.Timer(_SECONDS, trial.kill)
            overdue.start()
            output, _ = trial.communicate()
            overdue.cancel()
    seconds = round(time.monotonic() - begin)
    counts = counted(output, trial.returncode)
    label = f"{reactor}*" if once else reactor
    return (label, *versions, *counts, seconds), output


def covered(python: str, data: str) -> str:
    """
    The table of what is covered.

    @param data: as L{run}'s.
    """
    environment = {**os.environ, "COVERAGE_FILE": data}
    for command in ("combine", "-q"), ("report",):
        done = subprocess.run(
            (python, *_COVERAGE, *command),
            cwd=_TESTS.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return done.stdout


def main(wanted: list[str]) -> int:
    """
    @param wanted: C{--coverage}, and C{reactor:interpreter} for each run.
    @return: the exit status.
    """
    counting = "--coverage" in wanted
    wanted = [word for word in wanted if word != "--coverage"]
    if not wanted or not all(":" in word for word in wanted):
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data") if counting else None
        runs: list[tuple[int, str, str, bool, Optional[str]]] = [
            (number, *word.split(":", 1), False, None)
            for number, word in enumerate(wanted)
        ]
        first = runs[0][:3]
        runs[:1] = [(*first, True, None), (*first, False, data)]
        with ThreadPoolExecutor(len(runs)) as pool:
            results = list(pool.map(lambda one: run(*one), runs))
        if data is not None:
            print(covered(first[2], data))
    for (reactor, *_, failed, _), output in results:
        if failed:
            print(f"==== {reactor}\n{output}")
    for row in (_HEAD, *(row for row, _ in results)):
        print("  ".join(f"{field!s:>8}" for field in row))
    return int(any(row[5] for row, _ in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
