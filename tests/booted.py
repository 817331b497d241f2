"""
A systemd of its own: booted as process 1 of new namespaces, with nothing but
the units that it is given.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Optional
from unittest import SkipTest

from .support import SECONDS

_ROOT = Path(__file__).parents[1]
_SYSTEMD = "/lib/systemd/systemd"
#: What units refer to by default, and here has nothing in it.
_TARGETS = ("basic", "multi-user", "shutdown", "sockets", "sysinit")
#: The environment of docs/deploy, without pip: the modules are those of the
#: interpreter that runs this, where a user without rights can read them.
_BOOT = """
set -eu
mount --make-rprivate /
mount -t proc proc /proc
for folder in /run /opt /var/lib/private /var/log/journal; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=0755 tmpfs "$folder"
done
if [ "$NETWORK" = new ]; then ip link set lo up; fi
cd /opt
mkdir -p termserver/python termserver/packages termserver/source units
# A home is hidden from the services, and it may be in one.
mount --bind "$PYTHON" /opt/termserver/python
mount --bind "$PACKAGES" /opt/termserver/packages
mount --bind "$SOURCE" /opt/termserver/source
mount --bind "$UNITS" /opt/units
venv=/opt/termserver/venv
/opt/termserver/python/bin/python3 -m venv --without-pip $venv
printf '/opt/termserver/source\\n/opt/termserver/packages\\n' \
    >"$(echo $venv/lib/python3*/site-packages)/termserver.pth"
printf '#!%s\\nfrom twisted.scripts.twistd import run\\nrun()\\n' \
    $venv/bin/python >$venv/bin/twistd
chmod 755 $venv/bin/twistd
export container=other SYSTEMD_UNIT_PATH=/opt/units
exec {systemd} --system --unit=booted.target --log-target=console \
    --log-level=info --show-status=no
"""


class Booted:
    """
    systemd, until the test ends.

    @ivar units: a folder, C{/opt/units} inside.
    @cvar python: an interpreter inside.
    """

    python = "/opt/termserver/venv/bin/python"

    def __init__(self, test: Any, units: dict[str, str], network: bool = True) -> None:
        """
        @param units: their texts, by file name.
        @param network: give it a loopback interface of its own.
        @raise SkipTest: where it cannot boot.
        """
        for name, package in (("unshare", "util-linux"), (_SYSTEMD, "systemd")):
            if shutil.which(name) is None:
                raise SkipTest(f"needs {name}: apt-get install {package}")
        if os.geteuid() != 0:
            raise SkipTest("a systemd of its own needs root")
        self.units = Path(tempfile.mkdtemp())
        test.addCleanup(shutil.rmtree, self.units)
        self.units.chmod(0o755)
        for target in _TARGETS:
            self.add(f"{target}.target", "[Unit]\nDefaultDependencies=no\n")
        self.add("booted.target", "[Unit]\nDefaultDependencies=no\n")
        for name, text in units.items():
            self.add(name, text)
        self._log = self.units / "boot.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--fork", "--kill-child", "--pid", "--mount", "--ipc"),
                    *("--uts", "--cgroup", *(["--net"] if network else [])),
                    *("sh", "-c", _BOOT.replace("{systemd}", _SYSTEMD)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "NETWORK": "new" if network else "shared",
                    "PACKAGES": sysconfig.get_path("purelib"),
                    "PYTHON": sys.base_prefix,
                    "SOURCE": str(_ROOT),
                    "UNITS": str(self.units),
                },
            )
        test.addCleanup(self._end)
        self._wait()

    def add(self, name: str, text: str) -> None:
        """
        Add a unit, or a drop-in of one, before it is loaded.
        """
        path = self.units / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o644)

    def _first(self) -> Optional[int]:
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def _wait(self) -> None:
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._first() is not None:
                state = self.control("is-active", "booted.target").stdout
                if state.strip() == "active":
                    return
            time.sleep(0.1)
        said = self._log.read_text(errors="replace")
        raise SkipTest(f"systemd does not boot here: {said[-500:]}")

    def command(self, *command: str) -> tuple[str, ...]:
        """
        A command that runs inside.
        """
        return ("nsenter", f"--target={self._first()}", "--all", *command)

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """
        systemctl.
        """
        return subprocess.run(
            self.command("systemctl", "--no-pager", *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=6 * SECONDS,
            check=False,
        )

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """
        Properties of a unit.
        """
        shown = self.control("show", unit, f"--property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def _end(self) -> None:
        # The end of process 1 is the end of all in its namespace.
        first = self._first()
        if first is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, 9)
        self._process.kill()
        self._process.wait()


__all__ = ["Booted"]
