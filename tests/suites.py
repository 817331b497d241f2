"""
Runs the tests of other projects over wrapped connections, and prints new failures::

    python -m tests.suites                                  all of them
    python -m tests.suites twisted.internet.test.test_tls   what trial would run
    python -m tests.suites treq

Each runs bare and wrapped (L{tests.wrapped}), side by side.  A test is new if it fails
only when it is wrapped, and does so again.  What is new by nature has its
reason in L{REASONS}; for anything else the exit status is 1.

Twisted's suites come with Twisted; those of L{SDISTS} are in the source
distributions, which pip downloads.  They need C{pip install -e ".[suites]"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Optional

#: Seconds for one suite; for a test that shows no sign of life; for a download.
_SUITE, _STILL, _DOWNLOAD = 900.0, 150.0, 300.0
#: A process that has died, or stands still, is started again at most this many times.
_STARTS = 5
#: The number of lines of a traceback that are shown.
_LINES = 4

_TWISTED = (
    "twisted.internet.test",
    "twisted.test",
    "twisted.web.test",
    "twisted.conch.test",
    "twisted.mail.test",
    "twisted.words.test",
)


class Sdist(NamedTuple):
    """
    A suite in a source distribution.

    @ivar paths: where its modules are in it.
    @ivar names: what to run.
    @ivar reactor: the one that it needs, if it needs one.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    reactor: Optional[str] = None


SDISTS = {
    "treq": Sdist(("src",), ("treq.test",)),
    # Its tests are no package; test_checks is about Django's settings.
    "daphne": Sdist(
        (".", "tests"),
        (
            "test_cli",
            "test_http_protocol",
            "test_http_request",
            "test_http_response",
            "test_utils",
            "test_websocket",
        ),
        "asyncio",
    ),
    "magic-wormhole-mailbox-server": Sdist(("src",), ("wormhole_mailbox_server.test",)),
}

_INTERNET = "twisted.internet.test.test_"
_UNCLEAN = "it ends its connections, and does not wait until they have lingered"
#: What is new by nature, and why; C{*} stands for anything.
REASONS: dict[str, str] = {
    f"{_INTERNET}tcp.*.test_addresses": "it compares the repr() of the factory",
    f"{_INTERNET}newtls.ProducerTestsMixin_*": (
        "it reads the private _producer of TLS, by transport.protocol and producer"
    ),
    f"{_INTERNET}tcp.*.test_resumeProducingWhileDisconnecting": (
        "a lingering close goes on reading"
    ),
    f"{_INTERNET}tcp.TCP?ConnectorTestsBuilder_*.test_connectorIdentity": (
        "it stops the reactor while the server lingers"
    ),
    "twisted.web.test.test_distrib.DistribTests.test_requestHeaders": (
        "a client that lingers hears of its loss after the server"
    ),
    "twisted.conch.test.test_cftp.OurServerBatchFileTests.*": (
        "it sets an attribute of its factory on port.factory, which is the wrapping"
    ),
    "twisted.test.test_ftp.*.test_FailedRETR": _UNCLEAN,
    "twisted.test.test_unix.UnixSocketTests.test_reprWithNewStyleFactory": (
        "its factory builds no protocols, which is refused at once"
    ),
    "treq.test.test_treq_integration.*": _UNCLEAN,
}

#: What is new by a fault of ours: it counts as unexplained, until it is mended
#: and deleted here.
FAULTS: dict[str, str] = {}


class Result(NamedTuple):
    """
    How a test has ended.
    """

    end: str
    why: str

    @property
    def bad(self) -> bool:
        return self.end not in ("passed", "skipped", "expected failure")


class Suite:
    """
    One suite, in a folder of its own.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """
        @param name: one of L{SDISTS}, or what trial takes.
        """
        self.name = name
        self._folder = folder / name
        self._folder.mkdir()
        # Of the locales, this one is everywhere; test_cftp sets the one it finds.
        self._environment = {**os.environ, "LC_ALL": "C"}
        self._names: tuple[str, ...] = (name,)

    def download(self) -> None:
        """
        Fetch what the suite needs.

        @raise subprocess.SubprocessError: if that fails, or takes too long.
        """
        sdist = SDISTS.get(self.name)
        if sdist is None:
            return
        where = self._folder / "sdist"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [f"--no-binary={self.name}", f"--dest={where}", self.name]
        subprocess.run(command, check=True, timeout=_DOWNLOAD)
        (packed,) = where.glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            archive.extractall(where, filter="data")
        (root,) = (path for path in where.iterdir() if path.is_dir())
        paths = [str(root / path) for path in sdist.paths]
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        self._environment["PYTHONPATH"] = os.pathsep.join(paths)
        if sdist.reactor is not None:
            self._environment["TEST_REACTOR"] = sdist.reactor
        self._names = sdist.names

    def run(
        self, mode: str, names: tuple[str, ...] = (), seconds: float = _SUITE
    ) -> dict[str, Result]:
        """
        @param mode: C{"bare"} or C{"wrapped"}.
        @param names: what to run of it; all, if it is left out.
        """
        folder = Path(tempfile.mkdtemp(prefix=mode, dir=self._folder))
        deadline = time.monotonic() + seconds
        for _ in range(_STARTS):
            done = self._start(mode, folder, names or self._names, deadline)
            if done or time.monotonic() > deadline:
                break
        return _read(folder / "results")

    def _start(
        self, mode: str, folder: Path, names: tuple[str, ...], deadline: float
    ) -> bool:
        """
        @return: has it come to its end by itself?
        """
        results, output = folder / "results", folder / "output"
        results.touch()
        command = [sys.executable, "-m", "tests.wrapped", mode, str(folder), *names]
        with (
            output.open("ab") as out,
            subprocess.Popen(
                command,
                cwd=Path(__file__).parent.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(1) == 0
                now = time.monotonic()
                still = time.time() - results.stat().st_mtime > _STILL
                if still or now > deadline:
                    # With what it has started.
                    os.killpg(process.pid, signal.SIGKILL)
                    return False


def _read(path: Path) -> dict[str, Result]:
    """
    The end of each test; the worst one, if it has several.
    """
    found: dict[str, Result] = {}
    for line in path.read_text().splitlines():
        test, end, why = json.loads(line)
        if end == "begun":
            found[test] = Result("never ended", "")
        elif found[test].end == "never ended" or not found[test].bad:
            found[test] = Result(end, why)
    return found


def _new(bare: dict[str, Result], wrapped: dict[str, Result]) -> dict[str, Result]:
    return {
        test: result
        for test, result in wrapped.items()
        if test in bare
        and not bare[test].bad
        and (result.bad or (result.end, bare[test].end) == ("skipped", "passed"))
    }


def reason(test: str, table: dict[str, str]) -> Optional[str]:
    """
    What one of the tables says of a test.
    """
    for pattern, why in table.items():
        if fnmatchcase(test, pattern):
            return why
    return None


def _bad(results: dict[str, Result]) -> int:
    return sum(result.bad for result in results.values())


def _anyReactor(test: str) -> str:
    """
    Twisted has a class for each reactor.
    """
    return re.sub(r"_\w+ReactorTests\.", "_*.", test)


def _show(title: str, tests: Iterable[str]) -> None:
    print(title)
    for name, count in Counter(map(_anyReactor, tests)).items():
        print(f"          {name}" + (f" ({count})" if count > 1 else ""))


def _compare(suite: Suite, bare: dict[str, Result], wrapped: dict[str, Result]) -> bool:
    """
    Print.

    @return: is there nothing new without a reason?
    """
    good = any(not result.bad for result in bare.values())
    print(
        f"== {suite.name}: of {len(bare)} tests {_bad(bare)} fail bare, and"
        f" {_bad(wrapped)} wrapped",
        flush=True,
    )
    broken = [test for test, result in bare.items() if result.bad]
    if broken:
        _show("bare      these fail bare too, or could not be loaded:", broken)
    unknown = list(_new(bare, wrapped))
    for kind, table in (("known", REASONS), ("FAULT", FAULTS)):
        for pattern, why in table.items():
            found = [test for test in unknown if fnmatchcase(test, pattern)]
            unknown = [test for test in unknown if test not in found]
            if found:
                _show(f"{kind:9} {why}:", found)
                good = good and table is not FAULTS
            elif any(fnmatchcase(test, pattern) for test in bare):
                print(f"obsolete  {pattern}: nothing of it is new")
    # Once more: load, and tests that ran before, make a test fail as well.
    again = suite.run("wrapped", tuple(unknown)) if unknown else {}
    for test in unknown:
        if test in again and not again[test].bad:
            print(f"unsteady  {test}: it has passed the second time")
            continue
        good = False
        last = wrapped[test].why.strip().splitlines()[-_LINES:]
        print("\n          ".join([f"NEW       {test}: {wrapped[test].end}", *last]))
    for test in sorted(bare.keys() - wrapped.keys()):
        good = False
        print(f"NEW       {test}: it has not run")
    return good


def main(names: list[str]) -> int:
    """
    @param names: the suites; all, if there are none.
    @return: the exit status.
    """
    good = True
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for name in names or (*_TWISTED, *SDISTS):
            suite = Suite(name, Path(folder))
            suite.download()
            runs = [pool.submit(suite.run, mode) for mode in ("bare", "wrapped")]
            bare, wrapped = (run.result() for run in runs)
            good = _compare(suite, bare, wrapped) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
