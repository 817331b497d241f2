"""
The examples in C{docs/deploy} for balancers and for Docker, and the recipe.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import textwrap
from pathlib import Path
from shutil import which

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.processes import freePort

from .certificates import needs
from .processes import TWISTD, Server, connect, receiveAll
from .support import SECONDS, once

_DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"


def read(name: str) -> str:
    """
    One of the files.
    """
    return _DEPLOY.joinpath(name).read_text("utf-8")


def command(name: str, package: str) -> str:
    """
    Where it is; skip the test where it is not.
    """
    found = which(name) or which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SkipTest(f"needs {name}: apt-get install {package}")
    return found


def number(pattern: str, text: str) -> float:
    """
    The one number there; in seconds, if it says C{ms}.
    """
    (found,) = re.findall(pattern, text)
    value = re.fullmatch(r"([\d.]+)(ms|s)?", found)
    assert value is not None, found
    return float(value[1]) / (1000 if value[2] == "ms" else 1)


@once
class ConfigurationTests(SynchronousTestCase):
    """
    C{haproxy.cfg} and C{nginx.conf}.
    """

    def check(self, name: str, text: str, *arguments: str) -> tuple[int, str]:
        """
        What the program says of a configuration.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_text(text, "utf-8")
            done = subprocess.run(
                [*arguments, str(path)],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        return done.returncode, done.stdout

    def test_haproxy(self) -> None:
        """
        HAProxy takes it, without a warning, and notices a drain within the
        C{readinessDelay} that the page speaks of.
        """
        haproxy = command("haproxy", "haproxy"), "-c", "-V", "-f"
        text = read("haproxy.cfg")
        status, said = self.check("haproxy.cfg", text, *haproxy)
        self.assertEqual(status, 0, said)
        self.assertNotIn("WARNING", said)
        status, said = self.check("haproxy.cfg", text.replace("fall", "fell"), *haproxy)
        self.assertNotEqual(status, 0)
        noticed = number(r"inter (\w+) fall", text) * number(r"fall (\d+)", text)
        noticed += number(r"timeout check (\w+)", text)
        delays = re.findall(r"``readinessDelay=(\d+)``", read("haproxy.rst"))
        self.assertTrue(delays)
        for delay in delays:
            self.assertGreater(float(delay), noticed)

    def test_nginx(self) -> None:
        """
        nginx takes it.
        """
        nginx = command("nginx", "nginx-light"), "-e", "stderr", "-t", "-c"
        text = read("nginx.conf")
        status, said = self.check("nginx.conf", text, *nginx)
        self.assertEqual(status, 0, said)
        self.assertNotIn("[warn]", said)
        status, said = self.check("nginx.conf", text.replace("map", "mop"), *nginx)
        self.assertNotEqual(status, 0)


@once
class DockerTests(SynchronousTestCase):
    """
    C{Dockerfile} and C{compose.yaml}.
    """

    def setUp(self) -> None:
        """
        Read them.
        """
        needs("yaml")
        import yaml

        self.service = yaml.safe_load(read("compose.yaml"))["services"]["web"]
        lines = read("Dockerfile").replace("\\\n", "")
        self.steps = dict(re.findall(r"^([A-Z]+) (.*)$", lines, re.MULTILINE))
        self.command: list[str] = json.loads(self.steps["CMD"])

    def test_seconds(self) -> None:
        """
        SIGKILL comes after the drain, and there is time for the rest.
        """
        (listen,) = [text for text in self.command if text.startswith("--listen=")]
        drain = number(r"drainTimeout=(\d+)", listen)
        grace = number(r"^(\w+)$", self.service["stop_grace_period"])
        self.assertGreaterEqual(grace, drain + 5)
        for text in re.findall(r"--(?:stop-timeout|time) (\d+)", read("docker.rst")):
            self.assertGreaterEqual(float(text), drain + 5)

    def test_signals(self) -> None:
        """
        SIGTERM reaches C{twistd}, also while it starts.
        """
        self.assertEqual(self.steps["STOPSIGNAL"], "SIGTERM")
        self.assertEqual(self.command[0], "twistd")
        self.assertIn("--pidfile=", self.command)
        self.assertIs(self.service["init"], True)

    def test_ports(self) -> None:
        """
        The port is the same everywhere.
        """
        port = self.steps["EXPOSE"]
        self.assertIn(f"tcp:{port}:", " ".join(self.command))
        self.assertTrue(self.service["ports"][0].endswith(f":{port}"))

    def start(self, *before: str) -> tuple[Server, socket.socket]:
        """
        The command, and a client that reads 40 MB of it.
        """
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        with Path(holder.name, "big").open("wb") as big:
            big.truncate(40_000_000)
        arguments = [
            re.sub(r"tcp:\d+:", "tcp:0:interface=127.0.0.1:", text).replace(
                "/srv/www", holder.name
            )
            for text in self.command[1:]
        ]
        server = Server(self, (*before, *TWISTD, *arguments))
        port = int(server.wait(r"starting on (\d+)")[1])
        return server, connect(port, b"GET /big HTTP/1.0\r\n\r\n")

    def test_command(self) -> None:
        """
        The command serves, and SIGTERM in the midst of a download of 40 MB lets it
        arrive, as process 1 too.
        """
        unshare = (which("unshare") or "", "--pid", "--fork", "--kill-child")
        server, client = self.start()
        self.drains(server, client, server.process.pid)
        if unshare[0] and subprocess.run([*unshare, "true"]).returncode == 0:
            server, client = self.start(*unshare)
            pid = server.process.pid
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            self.drains(server, client, int(child))

    def drains(self, server: Server, client: socket.socket, pid: int) -> None:
        """
        SIGTERM to C{pid}.
        """
        count = len(client.recv(1000))
        os.kill(pid, signal.SIGTERM)
        ((received, end),) = receiveAll([client])
        self.assertEqual(end, "FIN")
        self.assertGreater(count + len(received), 40_000_000)
        self.assertEqual(server.end(), 0)


@once
class RecipeTests(SynchronousTestCase):
    """
    The recipe in C{rolling.rst}.
    """

    def perform(self, old: str, new: str) -> tuple[int, int]:
        """
        Run it.

        @return: the sizes of both files.
        """
        command("curl", "curl")
        page = read("rolling.rst")
        (text,) = re.findall(r":name: recipe\n\n((?:    .*\n)+)", page)
        text = textwrap.dedent(text)
        port = freePort()
        self.assertIn(old, text)
        text = text.replace(old, new).replace("8080", str(port))
        twistd = "twistd() { exec " + " ".join(f"'{word}'" for word in TWISTD[:3])
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                ["bash", "-c", f'{twistd} "$@"; }}\n{text}'],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=3 * SECONDS,
                check=False,
            )
        sizes = dict(
            (name, int(size))
            for size, name in re.findall(r" (\d+) \w+ +\d+ [\d:]+ (\w+)", done.stdout)
        )
        self.assertEqual(set(sizes), {"big", "got"}, done.stdout + done.stderr)
        return sizes["big"], sizes["got"]

    def test_term(self) -> None:
        """
        All arrives.
        """
        big, got = self.perform("term:tcp", "term:tcp")
        self.assertEqual((big, got), (40_000_000, 40_000_000))

    def test_bare(self) -> None:
        """
        Without C{term:} it does not.
        """
        big, got = self.perform("term:tcp", "tcp")
        self.assertLess(got, big)
