"""
What SIGTERM costs a server full of idle keep-alive connections: twisted.web
without and with twisted_term, aiohttp (C{web.run_app}) on asyncio and uvloop,
Go's net/http (C{Server.Shutdown}) and nginx (SIGQUIT), in one run.

Each server is a process of its own.  The clients open so many connections to
it, each has one complete GET answered and stays open; then the server gets
the signal.  Printed are, for each number of connections and as the median of
the rounds,

    - C{clients}: seconds from the signal until the last client saw its end,
      FIN or RST, and C{exit}: until the process was gone,
    - C{cpu}: the server's CPU seconds from the signal on,
    - C{bytes/conn}: what a connection adds to the resident set,
    - C{growth}: the peak of the resident set during the drain, less the
      resident set before it, in KiB,
    - in parentheses, the ratio to twisted_term (less is better, as everywhere),
    - C{FIN}, C{RST}, C{none}: how many clients saw which end, and C{early}: how
      many saw one before the signal; of all rounds together.

Where a process may not have as many files, so many processes as are needed
share the connections, and get the signal at the same time.

A rival that is not installed is skipped, with the reason.  All have the
defaults that they come with, with their access logs off.

    python benchmarks/drain.py [connections ...]
"""

from __future__ import annotations

import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from typing import Optional

from load import Load
from processes import Rival, Server, raiseFiles
from rivals import commands

_ROUNDS = 3
#: So many connections are opened before the resident set is first read.
_WARM = 100
#: Each process has files other than its connections.
SPARE = 100
#: At most so many connections are one client's: below 5,000 for each of the
#: addresses 127.0.x.1 to 127.0.x.254, and a share of the opening for each.
_PER_CLIENT = 10_000
_DRAIN = 60.0
#: Seconds that pass before the resident set is read, and before the signal:
#: twisted_term counts a connection as new for half a second.
_SETTLE, _IDLE = 0.1, 0.6


@dataclass
class Drained:
    """
    One drain: of C{servers} processes.
    """

    connections: int
    servers: int
    clients: float
    exit: float
    cpu: float
    memory: float
    growth: float
    ends: Counter[str]
    statuses: set[Optional[int]]


#: The columns with ratios: attribute, title, unit, format.
_COLUMNS = (
    ("clients", "clients s", 1, ".3f"),
    ("exit", "exit s", 1, ".3f"),
    ("cpu", "cpu s", 1, ".2f"),
    ("memory", "bytes/conn", 1, ".0f"),
    ("growth", "growth KiB", 1024, ".0f"),
)


def shares(count: int, most: int) -> list[int]:
    """
    C{count}, in as few and as equal parts as there can be, none above C{most}.
    """
    parts = -(-count // most)
    return [count // parts + (part < count % parts) for part in range(parts)]


class Idle:
    """
    Idle connections, of several clients to several servers.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._clients: list[subprocess.Popen[str]] = []

    def open(self, servers: list[Server], counts: list[int]) -> None:
        """
        Open so many more to each, all at the same time.

        @raise RuntimeError: if one cannot be opened.
        """
        opening = []
        for server, count in zip(servers, counts):
            for share in shares(count, _PER_CLIENT):
                first = len(self._clients) + 1
                opening.append(self._load.idle(server.port, share, first))
                self._clients.append(opening[-1])
        for client in opening:
            assert client.stdout is not None
            if client.stdout.readline() != "ready\n":
                raise RuntimeError("a connection cannot be opened")
        time.sleep(_SETTLE)

    def ended(self) -> int:
        """
        How many have ended so far.
        """
        ended = 0
        for client in self._clients:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write("\n")
            client.stdin.flush()
            ended += int(client.stdout.readline().split()[0])
        return ended

    def running(self) -> bool:
        """
        Is one of them waiting for its end?
        """
        return any(client.poll() is None for client in self._clients)

    def close(self) -> tuple[int, int, float]:
        """
        Close what is left.

        @return: how many saw FIN, how many RST, and when the last did.
        """
        fin, rst, last = 0, 0, 0.0
        for client in self._clients:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.close()
            client.wait(_DRAIN)
            # communicate() would not see what readline() has read ahead.
            words = client.stdout.read().split()[-3:]
            fin, rst = fin + int(words[0]), rst + int(words[1])
            last = max(last, float(words[2]))
        return fin, rst, last

    def kill(self) -> None:
        """
        End the clients.
        """
        for client in self._clients:
            client.kill()
            client.wait()
            assert client.stdin is not None and client.stdout is not None
            client.stdin.close()
            client.stdout.close()


def measure(load: Load, rival: Rival, connections: int, files: int) -> Drained:
    """
    Drain once.

    @param files: how many files a process may have.
    @raise RuntimeError: if a server or a client fails.
    """
    parts = shares(connections, files - SPARE)
    warm = [min(_WARM, part // 2) for part in parts]
    idle = Idle(load)
    with ExitStack() as stack:
        servers = []
        for _ in parts:
            servers.append(Server(rival))
            stack.callback(servers[-1].kill)
        stack.callback(idle.kill)
        idle.open(servers, warm)
        before = sum(server.resident() for server in servers)
        idle.open(servers, [part - few for part, few in zip(parts, warm)])
        time.sleep(_IDLE)
        resident = sum(server.resident() for server in servers)
        early = idle.ended()
        for server in servers:
            server.forgetPeak()
        cpu = sum(server.processor() for server in servers)
        start = time.monotonic()
        for server in servers:
            server.drain()
        gone, peak = _watch(servers, idle, start)
        cpu = sum(server.processor() for server in servers) - cpu
        fin, rst, last = idle.close()
        ends = {"FIN": fin - early, "RST": rst, "early": early}
        ends["none"] = connections - fin - rst
        return Drained(
            connections,
            len(parts),
            inf if ends["none"] else last - start,
            gone,
            cpu,
            (resident - before) / (connections - sum(warm)),
            max(0, peak - resident),
            Counter(ends),
            {server.process.poll() for server in servers},
        )


def _watch(servers: list[Server], idle: Idle, start: float) -> tuple[float, int]:
    """
    Wait for the end.

    @return: seconds until all processes were gone, infinite if that took too
        long, and the peak of the resident set.
    """
    left, gone, peak, elapsed = len(servers), inf, 0, 0.0
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for server in servers:
            process = os.pidfd_open(server.pid)
            stack.callback(os.close, process)
            selector.register(process, selectors.EVENT_READ)
        while (left or idle.running()) and elapsed < _DRAIN:
            for key, _ in selector.select(0.01):
                selector.unregister(key.fileobj)
                left -= 1
            elapsed = time.monotonic() - start
            if not left:
                gone = min(gone, elapsed)
            peak = max(peak, sum(server.peak() for server in servers))
    return gone, peak


def measureAll(
    load: Load, rivals: dict[str, Rival], connections: int, rounds: int, files: int
) -> dict[str, list[Drained]]:
    """
    Drain the rivals in turn.

    @return: for each the rounds; none for one that has failed, which is told
        on stderr.
    """
    drained: dict[str, list[Drained]] = {name: [] for name in rivals}
    failed = set()
    for _ in range(rounds):
        for name, rival in rivals.items():
            if name in failed:
                continue
            try:
                drained[name].append(measure(load, rival, connections, files))
            except (RuntimeError, OSError, ValueError) as error:
                print(f"{name}, {connections}: {error}", file=sys.stderr)
                failed.add(name)
                drained[name] = []
    return drained


def _ratio(value: float, ours: float) -> str:
    return f"({value / ours:.2f})" if ours else "(-)"


def _table(connections: int, drained: dict[str, list[Drained]]) -> None:
    servers = {one.servers for rounds in drained.values() for one in rounds}
    share = "".join(f", {count} processes each" for count in servers if count > 1)
    print(f"\n{connections} connections, {_ROUNDS} rounds{share}")
    titles = "".join(f"{title:>12}{'':8}" for _, title, _, _ in _COLUMNS)
    ends = ("FIN", "RST", "none", "early")
    print(f"{'':<13}{titles}" + "".join(f"{end:>7}" for end in ends))
    ours = drained["twisted_term"]
    for kind, rounds in drained.items():
        if not rounds:
            continue
        row = f"{kind:<13}"
        for name, _, unit, form in _COLUMNS:
            value, own = (
                statistics.median(getattr(one, name) for one in some) / unit
                for some in (rounds, ours or rounds)
            )
            row += f"{value:>12{form}} {_ratio(value, own):<7}"
        total = sum((one.ends for one in rounds), Counter())
        row += "".join(f"{total[end]:>7}" for end in ends)
        statuses = set().union(*(one.statuses for one in rounds)) - {0}
        print(row + (f"  exit status {statuses}" if statuses else ""), flush=True)


def main(arguments: list[str]) -> None:
    """
    Run the rivals in turn, and print the tables.
    """
    counts = [int(count) for count in arguments] or [100, 1_000, 10_000, 50_000]
    if min(counts) < 2:
        sys.exit(f"connections={min(counts)}: must be 2 or more")
    files = raiseFiles(max(counts) + 2 * SPARE)
    with tempfile.TemporaryDirectory() as directory:
        rivals = {}
        for name, found in commands("web", directory).items():
            if isinstance(found, Rival):
                rivals[name] = found
            else:
                print(f"{name}: skipped, {found}")
        load = Load(directory)
        for connections in counts:
            _table(connections, measureAll(load, rivals, connections, _ROUNDS, files))


if __name__ == "__main__":
    main(sys.argv[1:])
