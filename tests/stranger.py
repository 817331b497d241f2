"""
A stranger's hour: the tutorial, followed to the letter in an empty folder, with a
virtual environment of its own::

    python -m tests.stranger

Each block of Python in C{docs/tutorial.rst} is written to the file that its first
line names.  The blocks of C{sh} are given to one shell, in order, and what the
tutorial says that they print has to come: C{...} stands for any text.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple, Optional

from benchmarks.processes import freePort

_HERE = Path(__file__).parents[1]
_TUTORIAL = _HERE / "docs" / "tutorial.rst"
_SECONDS = 240
_MARK = "==== stranger: "
_PORTS = ("8000", "8001")
#: A machine that is busy needs longer than the tutorial's reader.
_SHELL = """
sleep() { command sleep "$(( $1 * 2 ))"; }
"""


class Block(NamedTuple):
    """
    A block of the tutorial.

    @ivar kind: C{python}, C{sh} or C{text}.
    @ivar name: its C{:name:}, empty if it has none.
    """

    kind: str
    name: str
    text: str


def blocks(source: str) -> Iterator[Block]:
    """
    The blocks of a document, in order.
    """
    found = re.finditer(
        r"^\.\. code-block:: (\w+)\n((?:   :.*\n)*)\n((?:   .*\n|\n)+)", source, re.M
    )
    for match in found:
        name = re.search(r":name: (\S+)", match[2])
        lines = [line[3:] for line in match[3].rstrip("\n").split("\n")]
        yield Block(match[1], name[1] if name else "", "\n".join(lines) + "\n")


def fileOf(block: Block) -> str:
    """
    The file that a block of Python is for.
    """
    named = re.match(r"# (\w+\.\w+)\n", block.text)
    if named is None:
        raise ValueError(f"{block.name}: the first line must name a file")
    return named[1]


def script(found: list[Block]) -> str:
    """
    The whole tutorial, as input of a shell.
    """
    parts = [_SHELL]
    for block in found:
        if block.kind == "python":
            parts.append(f"cat >{fileOf(block)} <<'STRANGER'\n{block.text}STRANGER\n")
        elif block.kind == "sh":
            parts.append(f"echo; echo '{_MARK}{block.name}'\n{block.text}")
    return "".join(parts)


def missing(expected: str, output: str) -> Optional[str]:
    """
    @return: the first line that is expected and was not printed, or C{None}.
    """
    printed = output.splitlines()
    for line in expected.splitlines():
        pattern = ".*".join(map(re.escape, line.split("...")))
        if not any(re.fullmatch(pattern, one.strip()) for one in printed):
            return line
    return None


def expectations(found: list[Block]) -> Iterator[tuple[str, str]]:
    """
    The name of each block of C{sh}, and what it has to print.
    """
    for block, after in zip(found, [*found[1:], Block("", "", "")]):
        if block.kind == "sh":
            yield block.name, after.text if after.kind == "text" else ""


def run(folder: Path, text: str, python: str) -> str:
    """
    Give the script to a shell.

    @param python: takes the place of C{python3}.
    @return: what it printed.
    """
    tools = folder / ".tools"
    tools.mkdir()
    tools.joinpath("python3").symlink_to(python)
    kept = ("HOME", "LANG", "TMPDIR")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **{key: os.environ[key] for key in os.environ if key.startswith("PIP_")},
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    log = folder / ".log"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            shell.communicate(text, timeout=_SECONDS)
        finally:  # a server that was not stopped goes with its shell
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    return log.read_text("utf-8", "replace")


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(description="Follow the tutorial to the letter.")
    parser.add_argument("--python", default=sys.executable, help="the interpreter")
    parser.add_argument("--wheel", type=Path, help="the wheel; else one is built")
    options = parser.parse_args(arguments)
    found = list(blocks(_TUTORIAL.read_text("utf-8")))
    text = script(found)
    for port, free in zip(_PORTS, [str(freePort()) for _ in _PORTS]):
        text = re.sub(rf"\b{port}\b", free, text)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        if options.wheel:
            folder.joinpath(options.wheel.name).write_bytes(options.wheel.read_bytes())
        else:
            # Of a copy: what is built leaves files behind.
            with tempfile.TemporaryDirectory() as copied:
                source = Path(copied) / "source"
                ignored = ignore_patterns(".*", "build", "*.egg-info")
                copytree(_HERE, source, ignore=ignored)
                build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
                subprocess.run([*build, "-w", folder, source], check=True)
        output = run(folder, text, os.path.realpath(options.python))
    parts = dict(re.findall(rf"{_MARK}(\S+)\n(.*?)(?=\n{_MARK}|\Z)", output, re.DOTALL))
    failed = 0
    for block, expected in expectations(found):
        lacks = missing(expected, parts.get(block, ""))
        if block not in parts or lacks is not None:
            failed += 1
            print(f"{block}: this line did not come: {lacks}\n{parts.get(block)}")
        else:
            print(f"{block}: as the tutorial says")
    print(f"{time.monotonic() - begin:.0f} seconds")
    return int(failed > 0 or not parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
