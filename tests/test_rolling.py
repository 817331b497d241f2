"""
Rolling restarts under load, a few of each; C{python -m benchmarks.deploy} has the
long ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import which
from tempfile import mkdtemp
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.deploy.__main__ import Row, kept
from benchmarks.deploy.capture import Segment, Stream, explanation
from benchmarks.deploy.fronts import HAProxy
from benchmarks.deploy.load import Failure
from benchmarks.deploy.restarts import Setting, Terminated

from .certificates import certificate
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


@once
class SlowTests(SynchronousTestCase):
    """
    The bench's HAProxy, and a process that is slow.
    """

    def test_standsStill(self) -> None:
        """
        A process that stands still for less than a second is not DOWN.  Its TLS port
        was, when the check had to do a TLS handshake within C{inter}: no process for
        HTTP/2 was left if another one was being restarted.
        """
        if which("haproxy") is None:
            raise SkipTest("needs haproxy: apt-get install haproxy")
        folder = Path(mkdtemp())
        pem, big = folder / "certificate.pem", folder / "big"
        pem.write_bytes(certificate())
        big.write_bytes(b"big")
        processes = Terminated(self, Setting("term", 1.0, folder, pem, big))
        processes.start()
        front = HAProxy(self, folder, pem, processes.addresses)
        slow = processes.running[0]
        seen = set()
        slow.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + 0.9
            while time.monotonic() < end:
                seen.update(front.states())
                time.sleep(0.02)
        finally:
            slow.send_signal(signal.SIGCONT)
        self.assertEqual(seen, {"UP"})


class ExplanationTests(SynchronousTestCase):
    """
    What a capture says of a request that failed.
    """

    def stream(self, port: int, server: int, *segments: Segment) -> Stream:
        """
        A connection.
        """
        stream = Stream(port, server)
        stream.segments += segments
        return stream

    def test_crossed(self) -> None:
        """
        The connection behind the balancer on which the request was sent after the
        server's FIN is shown, and the others are not.
        """
        syn, fin = ("syn",), ("fin",)
        before = self.stream(
            *(5000, 80),
            Segment(1.0, True, 0, syn),
            Segment(2.0, True, 90, ()),
            Segment(2.004, False, 0, fin),
        )
        behind = self.stream(
            *(6000, 8080),
            Segment(1.0, True, 0, syn),
            Segment(2.001, False, 0, fin),
            Segment(2.0015, True, 90, ()),
        )
        answered = self.stream(
            *(6001, 8080),
            Segment(2.0, True, 90, ()),
            Segment(2.001, False, 200, ()),
            Segment(2.002, False, 0, fin),
        )
        failure = Failure("GET no answer", 2.0045, 0.005, 5000)
        lines = explanation(failure, [before, behind, answered], {80: {8080}})
        self.assertEqual(
            lines.splitlines(),
            [
                "GET no answer, at 2.005, 0.005 s;"
                " a request without an answer 0.500 ms after the FIN",
                " -1000.000 ms   5000-80 -> SYN",
                " -1000.000 ms   6000-8080 -> SYN",
                "     0.000 ms   5000-80 -> 90 bytes",
                "     1.000 ms   6000-8080 <- FIN",
                "     1.500 ms   6000-8080 -> 90 bytes",
                "     4.000 ms   5000-80 <- FIN",
            ],
        )

    def test_unknown(self) -> None:
        """
        A connection that was not captured is said to be so.
        """
        failure = Failure("GET no answer", 2.0, 0.5, 5000)
        self.assertEqual(
            explanation(failure, [], {80: {8080}}),
            "GET no answer, at 2.000, 0.500 s: not in the capture",
        )


class KeptTests(SynchronousTestCase):
    """
    The rows of several runs.
    """

    def row(self, front: str, answers: int) -> Row:
        """
        A row.
        """
        counts = {"GET": answers}, {}, {"POST no answer": 1}
        names = front, "SIGTERM", "term"
        return Row(*names, *counts, 1.0, {"0": 2}, [1.0, 2.0], {}, [0.5], ["why"])

    def test_kept(self) -> None:
        """
        A row replaces the one of an earlier run, and the order is the table's.
        """
        path = Path(mkdtemp()) / "rows.json"
        first, second = self.row("nginx", 1), self.row("haproxy", 2)
        self.assertEqual(kept(path, [first]), [first])
        self.assertEqual(kept(path, [second]), [second, first])
        again = self.row("nginx", 3)
        self.assertEqual(kept(path, [again]), [second, again])
        self.assertEqual(kept(path, []), [second, again])
        self.assertEqual(kept(None, [first]), [first])
