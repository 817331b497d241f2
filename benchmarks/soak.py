"""
A soak: many connections at once, through all commands of the demo, to endings
of all kinds, for minutes.  Are descriptors, memory and delayed calls at its end
what they were before?

One server process has all the connections; the clients are in processes of
their own, and whenever one has ended the next one starts.  The seed says what
each does: it idles for a while, sends a few commands, and

    - C{CLOSE}, C{SHUTDOWN}, C{half-close}: reads to the end and closes; each
      byte of the answers must arrive, and then FIN,
    - C{ABORT}: reads until it is reset,
    - C{reset}, C{close}: resets, or just closes, with answers on their way,
    - C{never reads}: asks for more than the kernels hold, for the server to
      give up,
    - C{never closes}: keeps its socket open behind the server's FIN.

A first wave of the same number, which goes before, shows what the allocator
keeps for good.  Printed are samples of the server all along, what the clients
have seen, and the verdict.  The exit status is 1 if anything has grown, a byte
is lost, or an end has failed to come.

    python benchmarks/soak.py [--connections 10000] [--seconds 120]
        [--first-wave 60] [--limit 16] [--seed 1]

C{--limit} is the policy's, in seconds; a client idles for up to twice as long,
one that never closes keeps its socket open for one and a half times as long,
and a WAIT takes a tenth of it at most.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import heapq
import itertools
import json
import multiprocessing
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Optional

_PROCESSES = 2
#: Each process has files other than its connections.
_SPARE = 200
#: So many connections are being made at a time, in each process of clients.
_AT_ONCE = 100
#: Limits of all waits, in seconds.
_START, _END = 30.0, 90.0
_SAMPLE = 10.0
#: What the blocks that Python has allocated may grow by, and what the resident
#: set may: it keeps what the worst moment has fragmented.
_BLOCKS, _RESIDENT = 1.01, 1.25
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESET = struct.pack("ii", 1, 0)
#: linux/in.h: the port is chosen by connect(), when the destination is known.
_IP_BIND_ADDRESS_NO_PORT = 24

#: How often each way to end is chosen.
_ENDINGS = {
    "CLOSE": 30,
    "SHUTDOWN": 15,
    "half-close": 15,
    "ABORT": 10,
    "reset": 10,
    "close": 10,
    "never reads": 5,
    "never closes": 5,
}
_ORDERLY = ("CLOSE", "SHUTDOWN", "half-close", "never closes")


def _serve(limit: float) -> None:
    """
    The server: the demo, and a line of JSON at each SIGUSR1.
    """
    from twisted.internet import reactor

    from twisted_term import TerminatingFactory, TerminationPolicy
    from twisted_term.termserver.demo import DemoFactory

    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)
    policy = TerminationPolicy(
        flushTimeout=limit,
        workTimeout=4 * limit,
        lingerTime=limit,
        lingerIdle=limit / 2,
        halfCloseIdle=limit,
    )
    demo = DemoFactory(reactor)
    port = reactor.listenTCP(  # type: ignore[attr-defined]
        0, TerminatingFactory(demo, policy), backlog=2000, interface="127.0.0.1"
    )

    def tell() -> None:
        gc.collect()
        trim(0)  # what is free goes back to the kernel
        blocks = sys.getallocatedblocks()
        calls = len(reactor.getDelayedCalls())  # type: ignore[attr-defined]
        told = {"calls": calls, "blocks": blocks, **demo.status()}
        print(json.dumps(told), flush=True)

    def asked(*args: object) -> None:
        reactor.callFromThread(tell)  # type: ignore[attr-defined]

    signal.signal(signal.SIGUSR1, asked)
    print(port.getHost().port, flush=True)
    reactor.run()  # type: ignore[attr-defined]


# The clients.


def _script(
    chance: random.Random, longest: float, help: int
) -> tuple[bytes, Optional[int]]:
    """
    Some commands.

    @param longest: the longest WAIT.
    @param help: how long the answer to HELP is.
    @return: them, and how long the answers are; C{None} if unknown.
    """
    request: list[str] = []
    length: Optional[int] = 0
    for _ in range(chance.randint(1, 5)):
        size = int(10 ** chance.uniform(0, 4.8))
        word = "x" * (size % 200)
        line, answer = chance.choice(
            [
                (f"ECHO {word}", len(word) + 1),
                (f"SEND {size}", size),
                (f"PUSH {size}", size),
                (f"PULL {size}", size),
                (f"WAIT {chance.uniform(0, longest):.3f}", len("DONE\n")),
                ("HELP", help),
                (f"FOO {word}", len("ERROR 'FOO': unknown command, try HELP\n")),
            ]
        )
        if chance.random() < 0.001:  # it looks at all connections
            line, answer = "STATUS", None
        request.append(f"{line}\n")
        if length is not None:
            length = None if answer is None else length + answer
    return "".join(request).encode(), length


class _Client:
    """
    One connection.
    """

    def __init__(self, clients: _Clients, chance: random.Random) -> None:
        self._clients = clients
        names = list(_ENDINGS)
        self.ending = chance.choices(names, list(_ENDINGS.values()))[0]
        self._request, self.expected = _script(chance, clients.limit / 10, clients.help)
        self._idle = chance.uniform(0, 2 * clients.limit)
        if self.ending in ("CLOSE", "SHUTDOWN", "ABORT"):
            self._request += self.ending.encode() + b"\n"
        elif self.ending == "never closes":
            self._request += b"CLOSE\n"
        elif self.ending == "never reads":
            self._request = b"PUSH 50000000\nCLOSE\n"
        self.got = 0
        self.end = ""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        if self.ending == "never reads":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # A source address has 28000 ports, and many are in TIME-WAIT.
        self.socket.bind((f"127.1.{chance.randint(0, 99)}.1", 0))
        self.socket.connect_ex(("127.0.0.1", clients.port))
        self._next: Callable[[], None] = self._connected
        clients.watch(self, select.EPOLLOUT)

    def ready(self) -> None:
        """
        The socket is.
        """
        self.attempt(self._next)

    def attempt(self, action: Callable[[], None]) -> None:
        """
        Do something, which may find the connection reset.
        """
        try:
            if self.socket.fileno() != -1:
                action()
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._over("RST")
        except OSError as error:
            self._over(type(error).__name__)

    def _connected(self) -> None:
        self.socket.getpeername()  # an error if it could not connect
        self._clients.connecting -= 1
        self._next = self._receive
        self._clients.watch(self, 0)
        self._clients.later(self._idle, self, self._send)

    def _send(self) -> None:
        self.socket.send(self._request)
        if self.ending == "half-close":
            self.socket.shutdown(socket.SHUT_WR)
        if self.ending == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if self.ending in ("reset", "close"):
            self._over("own")
        elif self.ending != "never reads":
            self._clients.watch(self, select.EPOLLIN)

    def _receive(self) -> None:
        while data := self.socket.recv(1 << 18):
            self.got += len(data)
        if self.ending == "never closes":
            self._clients.watch(self, 0)
            self._clients.later(
                1.5 * self._clients.limit, self, lambda: self._over("FIN")
            )
        else:
            self._over("FIN")

    def _over(self, end: str) -> None:
        self.end = end
        self._clients.over(self)


class _Clients:
    """
    All the clients of one process.

    @ivar limit: the policy's.
    @ivar help: how long the answer to HELP is.
    @ivar connecting: how many are being connected.
    @ivar ends: how many with which ending saw which end.
    @ivar most: the most that were connected at once.
    @ivar asked: bytes that clients with orderly endings asked for, and
        C{lost}: those that have not arrived.
    """

    def __init__(self, port: int, seed: str, limit: float) -> None:
        self.port = port
        self.limit = limit
        with socket.create_connection(("127.0.0.1", port), _START) as client:
            client.sendall(b"HELP\nSHUTDOWN\n")
            self.help = len(client.makefile("rb").read())
        self.connecting = self.most = self.asked = self.lost = 0
        self.ends: Counter[tuple[str, str]] = Counter()
        self._chance = random.Random(seed)
        self._poll = select.epoll()
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, _Client, Callable[[], None]]] = []
        self._clients: dict[int, _Client] = {}

    def watch(self, client: _Client, events: int) -> None:
        """
        Be told of C{events}, and of a hang-up and a reset in any case.
        """
        number = client.socket.fileno()
        if number in self._clients:
            self._poll.modify(number, events)
        else:
            self._clients[number] = client
            self._poll.register(number, events)

    def later(
        self, seconds: float, client: _Client, action: Callable[[], None]
    ) -> None:
        """
        Do something then, if the connection still is.
        """
        due = time.monotonic() + seconds, next(self._numbers), client, action
        heapq.heappush(self._timers, due)

    def over(self, client: _Client) -> None:
        """
        A connection has ended.
        """
        del self._clients[client.socket.fileno()]
        client.socket.close()
        self.ends[client.ending, client.end] += 1
        if client.ending in _ORDERLY and client.expected is not None:
            self.asked += client.expected
            self.lost += abs(client.expected - client.got)

    def run(self, count: int, seconds: float) -> None:
        """
        Keep so many connections for so long, and wait for their ends.
        """
        start = time.monotonic()
        while True:
            now = time.monotonic()
            new = now < start + seconds
            if now > start + seconds + _END or not (new or self._clients):
                break
            while new and self.connecting < _AT_ONCE and len(self._clients) < count:
                self.connecting += 1
                _Client(self, self._chance)
            self.most = max(self.most, len(self._clients) - self.connecting)
            left = self._timers[0][0] - now if self._timers else 1.0
            for number, _ in self._poll.poll(min(max(left, 0.0), 1.0)):
                if number in self._clients:
                    self._clients[number].ready()
            while self._timers and self._timers[0][0] <= time.monotonic():
                _, _, client, action = heapq.heappop(self._timers)
                client.attempt(action)
        for client in self._clients.values():
            self.ends[client.ending, "none"] += 1


def _clients(
    port: int, seed: str, limit: float, count: int, seconds: float, pipe: Any
) -> None:
    clients = _Clients(port, seed, limit)
    clients.run(count, seconds)
    pipe.send((clients.most, clients.asked, clients.lost, clients.ends))


# What is measured.


@dataclass
class Sample:
    """
    The server, at one moment.
    """

    connections: int
    files: int
    resident: int
    blocks: int
    calls: int

    def __str__(self) -> str:
        return (
            f"{self.connections:>12}{self.files:>8}"
            f"{self.resident / (1 << 20):>10.1f}{self.blocks:>10}{self.calls:>8}"
        )


def flat(before: Sample, after: Sample) -> bool:
    """
    Has nothing grown, memory's noise apart?
    """
    return (
        after.connections == before.connections
        and after.files <= before.files
        and after.calls <= before.calls
        and after.blocks <= before.blocks * _BLOCKS
        and after.resident <= before.resident * _RESIDENT
    )


class _Server:
    """
    The server's process.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", f"--limit={limit}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())
        self.ended: Counter[str] = Counter()

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _START)[0]:
            raise RuntimeError(f"the server says nothing for {_START} s")
        return self._process.stdout.readline()

    def sample(self) -> Sample:
        """
        Ask it, and the kernel.
        """
        pid = self._process.pid
        self._process.send_signal(signal.SIGUSR1)
        told = json.loads(self._line())
        self.ended = Counter(told["ended"])
        with open(f"/proc/{pid}/statm") as statm:
            resident = int(statm.read().split()[1]) * _PAGE
        files = len(os.listdir(f"/proc/{pid}/fd"))
        return Sample(
            told["connections"], files, resident, told["blocks"], told["calls"]
        )

    def idle(self) -> Sample:
        """
        A sample when all connections have ended, if they do.
        """
        deadline = time.monotonic() + _END
        while (sample := self.sample()).connections or sample.calls:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return sample

    def stop(self) -> None:
        """
        Kill it.
        """
        self._process.kill()
        self._process.wait()


class _Total:
    """
    What the clients of one wave have seen.
    """

    def __init__(self) -> None:
        self.most = self.asked = self.lost = 0
        self.ends: Counter[tuple[str, str]] = Counter()

    def add(self, most: int, asked: int, lost: int, ends: Counter[Any]) -> None:
        """
        The clients of one process.
        """
        self.most += most
        self.asked += asked
        self.lost += lost
        self.ends += ends


def _wave(server: _Server, seed: str, count: int, seconds: float) -> _Total:
    """
    Run the clients, and print samples on the way.
    """
    context = multiprocessing.get_context("spawn")
    running = []
    total = _Total()
    start = time.monotonic()
    for number in range(_PROCESSES):
        ours, theirs = context.Pipe()
        share = count // _PROCESSES
        arguments = (
            server.port,
            f"{seed} {number}",
            server.limit,
            share,
            seconds,
            theirs,
        )
        process = context.Process(target=_clients, args=arguments, daemon=True)
        process.start()
        theirs.close()
        running.append((process, ours))
    due = start + _SAMPLE
    while any(process.is_alive() and not pipe.poll(0.1) for process, pipe in running):
        if time.monotonic() > due:
            due += _SAMPLE
            print(f"{due - start - _SAMPLE:>13.0f} s{server.sample()}", flush=True)
    for process, pipe in running:
        total.add(*pipe.recv())
        process.join()
    return total


def _soak(count: int, seconds: float, first: float, limit: float, seed: int) -> bool:
    server = _Server(limit)
    try:
        print(
            f"{'':>15}{'connections':>12}{'files':>8}{'MiB':>10}{'blocks':>10}{'calls':>8}"
        )
        print(f"{'start':>15}{server.sample()}", flush=True)
        waves = []
        idle = []
        for name, duration in (("first wave", first), ("soak", seconds)):
            waves.append(_wave(server, f"{seed} {name}", count, duration))
            idle.append(server.idle())
            print(f"{'after the ' + name:>15}{idle[-1]}", flush=True)
        ended = server.ended
    finally:
        server.stop()
    before, after = idle
    total = waves[-1]
    print(f"\n{total.most} clients at once, {sum(total.ends.values())} in all")
    for ending in _ENDINGS:
        seen = {end: n for (kind, end), n in total.ends.items() if kind == ending}
        print(f"{ending:>15}  " + ", ".join(f"{n} {end}" for end, n in seen.items()))
    print("server, both waves: " + ", ".join(f"{n} {end}" for end, n in ended.items()))
    orderly = all(total.ends[ending, "FIN"] for ending in _ORDERLY) and not any(
        end != "FIN" for ending, end in total.ends if ending in _ORDERLY
    )
    bounded = not any(end == "none" for _, end in total.ends)
    print(f"{total.asked} bytes asked for by those that end orderly, {total.lost} lost")
    print("all of these saw FIN" if orderly else "NOT all of these saw FIN")
    print("all ended" if bounded else "NOT all ended")
    print("flat" if flat(before, after) else "NOT flat")
    return flat(before, after) and orderly and bounded and not total.lost


def main() -> None:
    """
    Run it all.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--first-wave", type=float, default=60.0)
    parser.add_argument("--limit", type=float, default=16.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if options.serve:
        _serve(options.limit)
        return
    most = files - _SPARE
    if options.connections < _PROCESSES or 0 <= most < options.connections:
        parser.error(
            f"--connections={options.connections}: must be from {_PROCESSES}"
            f" to {most}, by RLIMIT_NOFILE"
        )
    flatly = _soak(
        options.connections,
        options.seconds,
        options.first_wave,
        options.limit,
        options.seed,
    )
    sys.exit(not flatly)


if __name__ == "__main__":
    main()
