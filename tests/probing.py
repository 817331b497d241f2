"""
What the tests of C{term-probe} share: servers that do as a test says, and the
command, run in this process.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import socket
import struct
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, Callable, Optional
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.probe import command

from .support import SECONDS

SIZE = 3_000_000
BODY = os.urandom(SIZE)
HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
RESET = struct.pack("ii", 1, 0)
_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@cache
def benchmark() -> Any:
    """
    The module that makes the table of servers, and knows them.
    """
    with mock.patch.object(sys, "path", [str(_BENCHMARKS), *sys.path]):
        return importlib.import_module("probe_servers")


class Scripted:
    """
    A server that does as the test says, each connection in a thread.
    """

    def __init__(
        self,
        test: Any,
        script: Callable[[socket.socket], None],
        path: Optional[str] = None,
    ) -> None:
        """
        @param path: of a UNIX socket.
        """
        self._script = script
        if path is None:
            self.listening = socket.create_server(("127.0.0.1", 0))
            self.port = self.listening.getsockname()[1]
        else:
            self.listening = socket.socket(socket.AF_UNIX)
            self.listening.bind(path)
            self.listening.listen()
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        test.addCleanup(self._stop)

    def stopListening(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)

    def _stop(self) -> None:
        self.stopListening()
        for thread in self._threads:
            thread.join(SECONDS)
        self.listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(
                threading.Thread(target=self._serve, args=[connection])
            )
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        with connection, contextlib.suppress(OSError):
            self._script(connection)


def requests(connection: socket.socket) -> Any:
    """
    The requests, until the last one, or the client's FIN.
    """
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(9999)
            if not more:
                return
            data += more
        request, _, data = data.partition(b"\r\n\r\n")
        yield request
        if b"Connection: close" in request:
            return


def linger(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(0.3)
    while connection.recv(1 << 18):
        pass


def clean(connection: socket.socket) -> None:
    for _ in requests(connection):
        connection.sendall(HEADER % SIZE + BODY)
    linger(connection)


class ProbeTestCase(SynchronousTestCase):
    maxDiff = None

    def probe(self, *arguments: str) -> tuple[int, str, str]:
        """
        @return: exit status, standard output, standard error.
        """
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "argv", ["term-probe", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            end = self.assertRaises(SystemExit, command.main)
        return end.code, out.getvalue(), err.getvalue()

    def judge(self, port: int, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        """
        @return: exit status, the document, and the worst round of each case.
        """
        return self.judgeURL(f"http://127.0.0.1:{port}/x", *arguments)

    def judgeURL(self, url: str, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        """
        @return: as L{judge}.
        """
        status, out, err = self.probe(url, "--json", "--rounds=1", *arguments)
        self.assertEqual(err, "")
        document = json.loads(out)
        return status, document, {c["name"]: c["rounds"][-1] for c in document["cases"]}
