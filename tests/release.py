"""
A release, made and tried (extras C{release} and C{test})::

    python -m tests.release

The source and the wheel are built and checked; where the source is unpacked, all of
its tests can be imported, and some of them pass, also under C{python -O}; the wheel is
installed and uninstalled, and Twisted is as it was; and the tutorial is followed with
the wheel.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from shutil import copytree, ignore_patterns

_HERE = Path(__file__).parents[1]
_SECONDS = 300
#: What is no part of the source: .gitignore, and what git keeps.
_IGNORED = (
    ".git",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    ".venv",
    "*.egg-info",
    "__pycache__",
    "_trial_temp*",
    "build",
    "dist",
    "dropin.cache",
)
#: Tests that need no clone, no servers and little time.
_PASS = (
    "test_ending",
    "test_layout",
    "test_machine",
    "test_values",
    "test_wrong_use",
    "test_transport",
)


def run(*command: object, cwd: Path = _HERE) -> str:
    """
    @return: what the command printed.
    @raise SystemExit: if it fails.
    """
    # With PYTHONPATH the command would import this copy in the place of another one.
    kept = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """
    Build from a copy, which nothing that was built before can get into.

    @return: the source and the wheel.
    """
    copy = folder / "copy"
    copytree(_HERE, copy, ignore=ignore_patterns(*_IGNORED))
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", copy)
    (source,) = folder.joinpath("dist").glob("*.tar.gz")
    (wheel,) = folder.joinpath("dist").glob("*.whl")
    return source, wheel


def files(folder: Path) -> set[str]:
    """
    The files of a source, without what is made while it is built.
    """
    made = {"PKG-INFO", "setup.cfg", ".gitignore"}
    found = {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return {
        str(path)
        for path in found
        if str(path) not in made and not path.parts[0].endswith(".egg-info")
    }


def checkSource(source: Path, folder: Path) -> None:
    """
    The source is whole, and its tests pass where it is unpacked.
    """
    with tarfile.open(source) as archive:
        archive.extractall(folder)
    unpacked = folder / source.name[: -len(".tar.gz")]
    lacks = files(folder / "copy") - files(unpacked)
    if lacks:
        raise SystemExit(f"{source.name} lacks {', '.join(sorted(lacks))}")
    trial = (sys.executable, "-m", "twisted.trial")
    said = run(*trial, "--dry-run", "tests", cwd=unpacked)
    print(f"{source.name}: all is there; {said.splitlines()[-3]} can be imported")
    names = [f"tests.{name}" for name in _PASS]
    # With -O Python leaves out all assert statements, so none may do needed work.
    for options in ((), ("-O",)):
        command = (sys.executable, *options, *trial[1:])
        said = run(*command, *names, cwd=unpacked)
        print(f"{source.name}: {' '.join(command[1:])}: {said.splitlines()[-1]}")


def digests(python: Path) -> dict[str, str]:
    """
    A digest of each file of the Twisted that C{python} imports.
    """
    place = run(
        python, "-c", "import twisted; print(twisted.__path__[0])", cwd=python.parent
    ).strip()
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(place).rglob("*")
        # The cache of plugins is made anew when they change.
        if path.is_file() and path.suffix != ".pyc" and path.name != "dropin.cache"
    }


def checkUninstall(wheel: Path, folder: Path) -> None:
    """
    After the wheel is uninstalled, Twisted and its plugins are as before.
    """

    def inside(*command: object) -> str:
        return run(*command, cwd=folder)

    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    inside(*pip, "install", "-q", "twisted")
    before = digests(python)
    inside(*pip, "install", "-q", wheel)
    helped = (python, "-c", "from twisted.scripts.twistd import run; run()", "--help")
    if "termserver" not in inside(*helped):
        raise SystemExit("twistd knows no termserver, although it is installed")
    inside(*pip, "uninstall", "-q", "-y", "twisted_term")
    if digests(python) != before:
        raise SystemExit("Twisted's files are not what they were before")
    said = inside(*helped)
    if "termserver" in said or " web " not in said:
        raise SystemExit(f"twistd's plugins are not what they were before:\n{said}")
    print(f"{wheel.name}: installed and uninstalled; Twisted is as it was")


def main() -> int:
    """
    @return: the exit status.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, wheel = build(folder)
        run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
        run(sys.executable, "-m", "check_wheel_contents", wheel)
        print(f"{source.name}, {wheel.name}: twine and check-wheel-contents pass")
        checkSource(source, folder)
        checkUninstall(wheel, folder)
        said = run(sys.executable, "-m", "tests.stranger", "--wheel", wheel)
        print(said, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
