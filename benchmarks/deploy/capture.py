"""
A packet capture before and behind the balancer: what happened to each request that
failed?
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Optional
from unittest import SkipTest

from .load import Failure
from .restarts import Address

_FLAGS = ("fin", "reset", "syn")
_FIELDS = (
    *("tcp.stream", "frame.time_epoch", "tcp.srcport", "tcp.dstport", "tcp.len"),
    *(f"tcp.flags.{name}" for name in _FLAGS),
)
#: What is inside of TCP is not needed, and takes the most time.
_QUICK = [
    *("-o", "tcp.desegment_tcp_streams:FALSE"),
    *("-o", "tcp.analyze_sequence_numbers:FALSE"),
    *(
        word
        for name in ("http", "http2", "tls")
        for word in ("--disable-protocol", name)
    ),
]
_SECONDS = 120
#: Lines of each connection.
_LINES = 8
#: How long before a request a server's FIN may be its reason, in seconds.
_BEFORE = 0.1


class Segment(NamedTuple):
    """
    One packet.

    @ivar flags: those of C{_FLAGS} that it has.
    """

    at: float
    toServer: bool
    length: int
    flags: tuple[str, ...]

    def __str__(self) -> str:
        what = [f"{self.length} bytes"] * bool(self.length)
        names = {"fin": "FIN", "reset": "RST", "syn": "SYN"}
        what += [names[flag] for flag in self.flags]
        return f"{'->' if self.toServer else '<-'} {' '.join(what) or 'ACK'}"


class Stream:
    """
    One connection.

    @ivar port: the client's.
    @ivar server: the port of the side that was connected to.
    """

    def __init__(self, port: int, server: int) -> None:
        self.port = port
        self.server = server
        self.segments: list[Segment] = []

    def ended(self) -> Optional[float]:
        """
        When the server sent FIN or RST first.
        """
        for one in self.segments:
            if not one.toServer and {"fin", "reset"} & set(one.flags):
                return one.at
        return None

    def said(self, toServer: bool, until: float) -> float:
        """
        When one side sent bytes last; 0 for never.
        """
        times = (
            one.at
            for one in self.segments
            if one.length and one.toServer is toServer and one.at <= until
        )
        return max(times, default=0.0)

    def lines(self, zero: float, end: float) -> list[str]:
        """
        The last that happened before C{end}, in milliseconds from C{zero}.
        """
        told = [one for one in self.segments if one.at <= end]
        return [
            f"{(one.at - zero) * 1000:10.3f} ms  {self.port:5}-{self.server} {one}"
            for one in [one for one in told if one.length or one.flags][-_LINES:]
        ]


class Capture:
    """
    Captures what goes to and comes from the balancer and the processes.
    """

    def __init__(
        self, owner: Any, folder: Path, front: Address, servers: list[Address]
    ) -> None:
        """
        @raise SkipTest: where there is no tshark.
        """
        tshark = shutil.which("tshark")
        if tshark is None:
            raise SkipTest("needs tshark: apt-get install tshark")
        self._tshark = tshark
        self._plain = {server.plain for server in servers}
        #: The processes' ports, by the balancer's, if there is one.
        self._behind: dict[int, set[int]] = {
            front.plain: self._plain - {front.plain},
            front.tls: {server.tls for server in servers} - {front.tls},
        }
        self._ports = {port for address in (front, *servers) for port in address}
        self._file = folder / "capture.pcapng"
        self._process = subprocess.Popen(
            [
                *(tshark, "-q", "-i", "lo", "-s", "80", "-w", str(self._file)),
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

    @cached_property
    def _streams(self) -> list[Stream]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_SECONDS)
        fields = [word for name in _FIELDS for word in ("-e", name)]
        text = subprocess.run(
            [self._tshark, "-r", str(self._file), *_QUICK, "-T", "fields", *fields],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS,
            check=True,
        ).stdout
        streams: dict[str, Stream] = {}
        for line in text.splitlines():
            number, at, source, target, length, *flags = line.split("\t")
            toServer = int(target) in self._ports
            ends = (source, target) if toServer else (target, source)
            stream = streams.setdefault(number, Stream(*map(int, ends)))
            has = [name for name, is_ in zip(_FLAGS, flags) if is_ in ("1", "True")]
            stream.segments.append(
                Segment(float(at), toServer, int(length), tuple(has))
            )
        return list(streams.values())

    def crossed(self) -> list[float]:
        """
        End the capture.

        @return: for each connection to a plain port with a request behind which the
            server has sent nothing but FIN, how many milliseconds after the FIN it
            was sent.
        """
        found = []
        for stream in self._streams:
            fin = stream.ended()
            asked = stream.said(True, float("inf"))
            answered = stream.said(False, float("inf"))
            if stream.server in self._plain and fin is not None and asked > answered:
                found.append(round((asked - fin) * 1000, 3))
        return found

    def explained(self, failures: Iterable[Failure], most: int) -> list[str]:
        """
        End the capture.

        @param most: how many of each client and reason.
        @return: for each failure a time line: its last request, and what ended behind
            the balancer at that time.
        """
        shown: dict[str, int] = defaultdict(int)
        found = []
        for failure in failures:
            shown[failure.name] += 1
            if shown[failure.name] <= most:
                found.append(explanation(failure, self._streams, self._behind))
        return found


def explanation(
    failure: Failure, streams: Sequence[Stream], behind: dict[int, set[int]]
) -> str:
    """
    @param behind: the ports of the processes, by the balancer's.
    @return: the last request of the client's connection, and the connections behind
        the balancer that the server ended at that time with a request unanswered.
    """
    head = f"{failure.name}, at {failure.at:.3f}, {failure.seconds:.3f} s"
    own = [
        one
        for one in streams
        if one.port == failure.port
        and one.server in behind
        and one.segments[0].at <= failure.at
    ]
    if not own:
        return f"{head}: not in the capture"
    begun = own[-1].said(True, failure.at)
    end = failure.at + 0.001
    lines = own[-1].lines(begun, end)
    for stream in streams:
        fin = stream.ended()
        if (
            stream is own[-1]
            or stream.server not in behind[own[-1].server]
            or fin is None
            or not begun - _BEFORE <= fin <= end
        ):
            continue
        asked = stream.said(True, end)
        if begun <= asked > stream.said(False, end):
            ms = (asked - fin) * 1000
            head += f"; a request without an answer {ms:.3f} ms after the FIN"
            lines += stream.lines(begun, end)
    return "\n".join([head, *sorted(lines, key=lambda one: float(one.split()[0]))])


__all__ = ["Capture", "explanation"]
