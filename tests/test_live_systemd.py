"""
The units of C{docs/deploy} under a real systemd, booted in namespaces of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Optional

from twisted.trial.unittest import SynchronousTestCase

from .booted import Booted
from .processes import rest
from .support import SECONDS, once

_DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
_SERVICE = "termserver.service"
_SOCKET = "termserver.socket"
_LOG = "termserver.log"
#: All that is changed.  A device node cannot be made in here, there is no journal,
#: and an interpreter from somebody's home has its library in that home.
_INSIDE = f"""
[Service]
PrivateDevices=no
Environment=LD_LIBRARY_PATH=/opt/termserver/python/lib
StandardOutput=append:/opt/units/{_LOG}
StandardError=append:/opt/units/{_LOG}
"""
#: Connects again and again until its input ends, and prints what came of it.
_LOOP = """
import collections, json, select, socket, sys, time
found = collections.Counter()
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    data, end = b"", "FIN"
    try:
        with socket.create_connection(("127.0.0.1", 8023), 60) as client:
            client.sendall(b"ECHO x\\nCLOSE\\n")
            while more := client.recv(65536):
                data += more
    except OSError as error:
        end = type(error).__name__
    found[end if data == b"x\\n" else f"{end} after {data}"] += 1
print(json.dumps(found))
"""
#: Sends a request, and prints how many bytes come back and how they end; it reads
#: the first two at once, and the others so many seconds later.
_READ = """
import socket, sys, time
with socket.socket() as client:
    client.settimeout(60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", 8023))
    client.sendall(sys.argv[1].encode())
    count, end = len(client.recv(2)), "FIN"
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    try:
        while data := client.recv(1 << 18):
            count += len(data)
    except OSError as error:
        end = type(error).__name__
print(count, end, flush=True)
"""
_METRICS = """
import sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/metrics"
print(urllib.request.urlopen(url, timeout=10).read().decode())
"""


@once
class LiveTests(SynchronousTestCase):
    """
    C{termserver.service} and C{termserver.socket}.
    """

    def boot(
        self,
        drain: str = "25",
        inside: str = "",
        more: Optional[dict[str, str]] = None,
    ) -> None:
        """
        Boot, and start the socket.

        @param drain: C{--drain-timeout}.
        @param inside: more settings, where a test cannot wait so long.
        @param more: other units.
        """
        units = {
            name: _DEPLOY.joinpath(name).read_text("utf-8")
            for name in (_SERVICE, _SOCKET)
        }
        self.assertIn("--drain-timeout 25\n", units[_SERVICE])
        units[_SERVICE] = units[_SERVICE].replace(
            "--drain-timeout 25\n", f"--drain-timeout {drain}\n"
        )
        units[f"{_SERVICE}.d/inside.conf"] = _INSIDE + inside
        units.update(more or {})
        self.systemd = Booted(self, units)
        self.control("start", _SOCKET)

    def control(self, *arguments: str) -> None:
        """
        systemctl, which must succeed.
        """
        done = self.systemd.control(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)

    def log(self) -> str:
        """
        The service's.
        """
        return (self.systemd.units / _LOG).read_text("utf-8")

    def show(self, *names: str) -> list[str]:
        """
        Properties of the service.
        """
        shown = self.systemd.show(_SERVICE, *names)
        return [shown[name] for name in names]

    def client(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """
        A program that runs beside the service, and has begun.
        """
        process = subprocess.Popen(
            self.systemd.command(self.systemd.python, "-c", program, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "begun\n")
        return process

    def result(self, client: subprocess.Popen[str]) -> str:
        """
        Wait for its end.
        """
        return rest(client, 3 * SECONDS).strip()

    def test_restarts(self) -> None:
        """
        The first connection starts the service.  Eight restarts, more than
        systemd's own start limit allows, refuse and reset nobody, and what was in
        flight arrives.
        """
        self.boot()
        self.assertEqual(self.show("ActiveState"), ["inactive"])
        whole = self.client(_READ, "ECHO x\nWAIT 1\nPUSH 3000000\n", "0")
        self.assertEqual(self.show("ActiveState", "Type"), ["active", "notify"])
        loops = [self.client(_LOOP) for _ in range(2)]
        pids = set()
        for _ in range(8):
            self.control("restart", _SERVICE)
            pids.update(self.show("MainPID"))
        time.sleep(0.5)
        found = [json.loads(self.result(loop)) for loop in loops]
        for ends in found:
            self.assertEqual(list(ends), ["FIN"], found)
        self.assertEqual(self.result(whole), f"{2 + 5 + 3_000_000} FIN")
        self.assertEqual(len(pids), 8)
        self.assertEqual(
            self.show("ActiveState", "Result", "NRestarts"), ["active", "success", "0"]
        )
        self.assertNotIn("Traceback", self.log())

    def test_stop(self) -> None:
        """
        A peer that never reads is reset at the end of the drain, and meanwhile
        C{STATUS=} says how far it is; a connection that comes later starts the
        service again.
        """
        self.boot(drain="3")
        self.client(_READ, "ECHO x\nPUSH 50000000\n", "60")
        stopping = subprocess.Popen(
            self.systemd.command("systemctl", "stop", _SERVICE), stderr=subprocess.PIPE
        )
        self.addCleanup(stopping.communicate)
        said: list[str] = []
        while stopping.poll() is None:
            said += [" ".join(self.show("ActiveState", "StatusText"))]
            time.sleep(0.2)
        self.assertIn("deactivating draining, 1 connections left", "\n".join(said))
        # What it was killed with would be here, and so would "timeout".
        self.assertEqual(
            self.show("Result", "ExecMainCode", "ExecMainStatus"), ["success", "1", "0"]
        )
        self.assertRegex(self.log(), "1 NOT delivered")
        again = self.client(_READ, "ECHO x\nCLOSE\n", "0")
        self.assertEqual(self.result(again), "2 FIN")

    def test_extended(self) -> None:
        """
        Without C{drainTimeout}, the time that systemd waits is extended as long as
        connections go on ending.
        """
        self.boot(drain="none", inside="TimeoutStopSec=3\n")
        waits = [
            self.client(_READ, f"ECHO x\nWAIT {seconds}\n", "0")
            for seconds in (2, 4, 6, 8)
        ]
        begin = time.monotonic()
        self.control("stop", _SERVICE)
        self.assertGreater(time.monotonic() - begin, 5)
        self.assertEqual([self.result(wait) for wait in waits], ["7 FIN"] * 4)
        self.assertEqual(self.show("Result", "ExecMainStatus"), ["success", "0"])

    def test_notExtended(self) -> None:
        """
        It is not, where nothing ends: then it is killed.
        """
        self.boot(drain="none", inside="TimeoutStopSec=3\n")
        self.client(_READ, "ECHO x\nWAIT 60\n", "0")
        self.control("stop", _SERVICE)
        self.assertEqual(self.show("Result", "ExecMainStatus"), ["timeout", "9"])

    def test_several(self) -> None:
        """
        Two processes share the socket, as C{docs/deploy/systemd.rst} has it: while
        one of them drains the other one accepts, no client is refused or reset, and
        each has metrics of its own.  Without C{NonBlocking=yes} it stands still.
        """
        page = _DEPLOY.joinpath("systemd.rst").read_text("utf-8")
        blocks = {
            name: textwrap.dedent(text)
            for name, text in re.findall(
                r"   :name: ([\w-]+)\n\n((?:    .*\n|\n)+)", page
            )
        }
        template = "termserver@.service"
        self.boot(
            more={
                template: _DEPLOY.joinpath(_SERVICE).read_text("utf-8"),
                f"{template}.d/inside.conf": _INSIDE,
                f"{template}.d/several.conf": blocks["several-service"],
                f"{_SOCKET}.d/several.conf": blocks["several-socket"],
            }
        )
        names = re.findall(r"termserver@\d+", blocks["several-start"])[:2]
        self.control("start", *names)
        first, second = names
        self.control("kill", "--signal=STOP", second)
        wait = self.client(_READ, "ECHO x\nWAIT 8\n", "0")  # the first one has it
        self.control("kill", "--signal=CONT", second)
        loops = [self.client(_LOOP) for _ in range(2)]
        self.control("restart", "--no-block", first)
        meanwhile = self.client(_READ, "ECHO x\nCLOSE\n", "0")
        self.assertEqual(self.result(meanwhile), "2 FIN")
        shown = self.systemd.show(first, "ActiveState", "StatusText")
        self.assertEqual(shown["ActiveState"], "deactivating", shown)
        self.assertEqual(self.result(wait), "7 FIN")
        for name in names * 3:
            self.control("restart", name)
        time.sleep(0.5)
        found = [json.loads(self.result(loop)) for loop in loops]
        self.assertEqual([list(ends) for ends in found], [["FIN"]] * 2, found)
        for name in names:
            port = name.partition("@")[2]
            asked = subprocess.run(
                self.systemd.command(self.systemd.python, "-c", _METRICS, port),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            self.assertIn("twisted_term_", asked.stdout, asked.stderr)
        for name in names:
            shown = self.systemd.show(f"{name}.service", "ActiveState", "NRestarts")
            self.assertEqual(shown, {"ActiveState": "active", "NRestarts": "0"})

    def test_reload(self) -> None:
        """
        There is nothing to reload: systemd says so, and the service goes on.
        C{reload-or-restart} restarts it, and what was in flight arrives.
        """
        self.boot()
        wait = self.client(_READ, "ECHO x\nWAIT 2\n", "0")
        (pid,) = self.show("MainPID")
        done = self.systemd.control("reload", _SERVICE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("not applicable", done.stderr)
        self.assertEqual(self.show("ActiveState", "MainPID"), ["active", pid])
        self.control("reload-or-restart", _SERVICE)
        self.assertNotEqual(self.show("MainPID"), [pid])
        self.assertEqual(self.result(wait), "7 FIN")
