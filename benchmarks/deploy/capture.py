"""
A packet capture between the balancer and the processes: which requests had no
answer because they crossed the server's FIN?
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

from .restarts import Address

_FIELDS = ("tcp.stream", "frame.time_relative", "tcp.dstport", "tcp.len")
_FIN = "tcp.flags.fin"
_SECONDS = 60


class Segment(NamedTuple):
    """
    One packet.
    """

    at: float
    toServer: bool
    length: int
    fin: bool


class Capture:
    """
    Captures what goes to and comes from the plain ports of the processes.
    """

    def __init__(self, owner: Any, folder: Path, servers: list[Address]) -> None:
        """
        @raise SkipTest: where there is no tshark.
        """
        tshark = shutil.which("tshark")
        if tshark is None:
            raise SkipTest("needs tshark: apt-get install tshark")
        self._tshark = tshark
        self._ports = {str(server.plain) for server in servers}
        self._file = folder / "capture.pcapng"
        self._process = subprocess.Popen(
            [
                *(tshark, "-q", "-i", "lo", "-s", "200", "-w", str(self._file)),
                *("-f", " or ".join(f"tcp port {port}" for port in self._ports)),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        owner.addCleanup(self._process.wait)
        owner.addCleanup(self._process.kill)
        deadline = time.monotonic() + _SECONDS
        while not self._file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # it has the file a little before it captures

    def _streams(self) -> list[list[Segment]]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_SECONDS)
        fields = [word for name in (*_FIELDS, _FIN) for word in ("-e", name)]
        text = subprocess.run(
            [self._tshark, "-r", str(self._file), "-T", "fields", *fields],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS,
            check=True,
        ).stdout
        streams: dict[str, list[Segment]] = defaultdict(list)
        for line in text.splitlines():
            stream, at, port, length, fin = line.split("\t")
            streams[stream].append(
                Segment(
                    float(at), port in self._ports, int(length), fin in ("1", "True")
                )
            )
        return list(streams.values())

    def crossed(self) -> list[float]:
        """
        End the capture.

        @return: for each connection with a request behind which the server has sent
            nothing but FIN, how many milliseconds after the FIN it was sent.
        """
        found = []
        for segments in self._streams():
            fins = [one.at for one in segments if one.fin and not one.toServer]
            asked = [one.at for one in segments if one.length and one.toServer]
            answered = [one.at for one in segments if one.length and not one.toServer]
            if fins and asked and asked[-1] > max(answered, default=0.0):
                found.append(round((asked[-1] - fins[0]) * 1000, 3))
        return found


__all__ = ["Capture"]
