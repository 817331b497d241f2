"""
Rolling restarts under load, a few of each; C{python -m benchmarks.deploy} has the
long ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from .support import once

_ROOT = Path(__file__).parents[1]
_SECONDS = 110
#: An older Twisted has no WebSocket.
_HAS_WEBSOCKET = importlib.util.find_spec("twisted.web.websocket") is not None
_CLIENTS = ("GET", "POST", "download", "upload", "HTTP2") + (
    ("WebSocket",) if _HAS_WEBSOCKET else ()
)


@once
class RollingTests(SynchronousTestCase):
    """
    Two processes, each restarted once.
    """

    def perform(
        self,
        front: str,
        way: str,
        server: str,
        clients: tuple[str, ...] = _CLIENTS,
        *more: str,
    ) -> dict[str, Any]:
        """
        One row of the table.
        """
        options = {
            "fronts": front,
            "ways": way,
            "servers": server,
            "clients": "/".join(clients),
            "restarts": "2",
            "delay": "1",
            "pause": "1",
            "form": "json",
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.deploy"),
                *(f"--{name}={text}" for name, text in options.items()),
                *more,
            ],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        if not found:
            raise SkipTest(done.stderr.strip())
        (row,) = found
        self.assertEqual(set(row["answers"]), set(clients), row)
        return row

    def nothingFails(self, *row: str) -> None:
        """
        Each client has its answers, and the processes end well.  A WebSocket is
        told 1001, never sees 1006, and connects again.
        """
        found = self.perform(*row)
        self.assertEqual(found["failed"], {}, found)
        if _HAS_WEBSOCKET:
            # Wherever the two have been, they have seen one restart or both.
            self.assertEqual(list(found["told"]), ["WebSocket 1001"], found)
            self.assertGreaterEqual(found["told"]["WebSocket 1001"], 2, found)
        self.assertEqual(found["exits"], {"0": 2}, found)
        self.assertEqual(found["complaints"], {}, found)

    def test_haproxy(self) -> None:
        """
        HAProxy sees that C{/ready} turns to 503: SIGTERM and start.
        """
        self.nothingFails("haproxy", "SIGTERM", "service")

    def test_haproxyDaemons(self) -> None:
        """
        The same with C{readinessDelay} of the endpoint, and daemons.
        """
        self.nothingFails("haproxy", "daemons", "string")

    def test_haproxySystemd(self) -> None:
        """
        The same with processes that systemd holds the sockets of.
        """
        self.nothingFails("haproxy", "systemd", "service")

    def test_nginx(self) -> None:
        """
        nginx tries another server when it cannot connect; no readiness is needed.
        """
        self.nothingFails("nginx, no keepalive", "SIGTERM", "term")

    def test_nginxKeepAlive(self) -> None:
        """
        With kept connections it is: they learn that they are to end.
        """
        self.nothingFails("nginx", "SIGTERM", "string")

    def test_crossing(self) -> None:
        """
        Without readiness no more fails than requests on kept connections that cross
        the server's FIN, which HTTP allows for (RFC 9112, 9.5): a packet capture has
        each of them.
        """
        if os.geteuid() != 0:
            raise SkipTest("a packet capture needs root")
        clients = ("GET", "POST")
        found = self.perform("haproxy", "SIGTERM", "term", clients, "--capture")
        self.assertLessEqual(set(found["failed"]), {f"{c} no answer" for c in clients})
        self.assertLessEqual(sum(found["failed"].values()), len(found["crossed"]))

    def test_reusePort(self) -> None:
        """
        No balancer: another process has the same port.
        """
        self.nothingFails("none", "SO_REUSEPORT", "term")

    def test_descriptor(self) -> None:
        """
        No balancer: another process has the same socket.
        """
        self.nothingFails("none", "descriptor", "service")

    def test_systemd(self) -> None:
        """
        The same, and systemd has it too.
        """
        self.nothingFails("none", "systemd, one socket", "term")

    def test_bare(self) -> None:
        """
        Bare Twisted loses something: what is lost is seen.
        """
        self.assertNotEqual(self.perform("none", "descriptor", "bare")["failed"], {})
