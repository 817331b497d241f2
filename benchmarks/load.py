"""
The client of the measurements, C{load.c}: built once, the same for all.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from processes import REQUEST, Server
from rivals import build

_LIMIT = 300.0
#: How long a server may take to finish with the last connection.
_SETTLE = 30.0
KEEP, CLOSE, UPLOAD = "keep", "close", "upload"


def _request(line: str, *headers: str) -> str:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *headers, "", ""])


class Done(NamedTuple):
    """
    What one run came to: elapsed seconds, exchanges, bytes, and the CPU
    seconds of the server and of the client.
    """

    seconds: float
    exchanges: int
    bytes: int
    server: float
    client: float


class Load:
    """
    The client.
    """

    def __init__(self, directory: str) -> None:
        """
        @param directory: where it is built.
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            sys.exit("the client, load.c, needs a C compiler (Debian: gcc)")
        self._program = build([compiler, "-O2"], "load.c", directory)

    def _rate(
        self, server: Server, mode: str, count: int, seconds: float, *more: str
    ) -> Done:
        before, files = server.processor(), server.files()
        arguments = [mode, str(server.port), str(count), str(seconds), *more]
        run = subprocess.run(
            [self._program, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=_LIMIT,
        )
        # What has been uploaded may still have to be read.
        start = time.perf_counter()
        while server.files() > files and time.perf_counter() < start + _SETTLE:
            time.sleep(0.001)
        elapsed, exchanges, size, client = run.stdout.split()
        return Done(
            float(elapsed) + time.perf_counter() - start,
            int(exchanges),
            int(size),
            server.processor() - before,
            float(client),
        )

    def bulk(self, server: Server, seconds: float) -> Done:
        """
        One download after the other.
        """
        request = _request("GET /b", "Connection: close")
        return self._rate(server, CLOSE, 1, seconds, request)

    def requests(self, server: Server, seconds: float) -> Done:
        """
        Requests on 16 connections that stay open.
        """
        return self._rate(server, KEEP, 16, seconds, REQUEST)

    def connections(self, server: Server, seconds: float) -> Done:
        """
        A connection for each request, 16 at a time.
        """
        request = _request("GET /c", "Connection: close")
        return self._rate(server, CLOSE, 16, seconds, request)

    def discard(self, server: Server, seconds: float, size: int) -> Done:
        """
        Uploads that are answered early.
        """
        length = f"Content-Length: {size}"
        request = _request("POST /u", "Connection: close", length)
        return self._rate(server, UPLOAD, 1, seconds, request, str(size))

    def idle(self, port: int, count: int, first: int) -> subprocess.Popen[str]:
        """
        Open connections that stay idle after one answer.

        @param first: the third number of their addresses.
        """
        arguments = ["idle", str(port), str(count), str(first), REQUEST]
        return subprocess.Popen(
            [self._program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
