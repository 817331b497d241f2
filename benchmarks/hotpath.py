"""
What the wrapper costs: bulk, request/response and connection rate, and memory
per idle connection, with bare Twisted and
L{twisted.protocols.policies.WrappingFactory} in the same run.

Prints, for each rate, the median of the ratios to bare Twisted (more is
better), and the server's CPU seconds as a ratio (less is better).  The rivals
take turns in short slices, because a machine's speed drifts; a second bare
Twisted, C{again}, shows what is left of that.  Clients are blocking sockets in
a process of their own.

    python benchmarks/hotpath.py [rounds]
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import statistics
import sys
import time
from typing import Any, Callable

_CHUNK = b"x" * 65536
_BULK = 512 * len(_CHUNK)
_REQUESTS = 1_000
_CONNECTIONS = 250
_IDLE = 4_000
_TICKS = os.sysconf("SC_CLK_TCK")


def _bulk(port: int) -> float:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"B")
        start, left = time.perf_counter(), _BULK
        while left:
            left -= len(client.recv(1 << 20))
        return 1 / (time.perf_counter() - start)


def _requests(port: int) -> float:
    with socket.create_connection(("127.0.0.1", port)) as client:
        start = time.perf_counter()
        for _ in range(_REQUESTS):
            client.sendall(b"r")
            client.recv(100)
        return _REQUESTS / (time.perf_counter() - start)


def _connections(port: int) -> float:
    start = time.perf_counter()
    for _ in range(_CONNECTIONS):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"C")
            while client.recv(100):
                pass
    return _CONNECTIONS / (time.perf_counter() - start)


def _serve(kind: str, pipe: Any) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from twisted.protocols.policies import WrappingFactory

    from twisted_term import TerminatingFactory

    class Server(Protocol):
        left = 0

        def dataReceived(self, data: bytes) -> None:
            if data == b"B":
                self.left = _BULK // len(_CHUNK)
                self.transport.registerProducer(self, False)
            else:
                self.transport.write(b"answer")
                if data == b"C":
                    self.transport.loseConnection()

        def resumeProducing(self) -> None:
            self.transport.write(_CHUNK)
            self.left -= 1
            if not self.left:
                self.transport.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    wrap: dict[str, Callable[[Any], Any]] = {
        "bare": lambda factory: factory,
        "again": lambda factory: factory,
        "wrapping": WrappingFactory,
        "term": TerminatingFactory,
    }
    factory = wrap[kind](Factory.forProtocol(Server))
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    pipe.send(port.getHost().port)
    reactor.run()


def _memory(port: int, pid: int) -> float:
    """
    Bytes that an idle connection adds to the server's resident set.
    """
    clients: list[socket.socket] = []
    used = []
    # The first ones fill what the process had to spare.
    for count in (_IDLE // 4, _IDLE):
        for _ in range(count):
            clients.append(socket.create_connection(("127.0.0.1", port)))
        # Once the last one is answered, all are accepted.
        clients[-1].sendall(b"r")
        clients[-1].recv(100)
        used.append(_resident(pid))
    for client in clients:
        client.close()
    return (used[1] - used[0]) / _IDLE


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processor(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    """
    Run the rivals in turn, and print the table.
    """
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    context = multiprocessing.get_context("spawn")
    ports, servers = {}, {}
    for kind in ("bare", "again", "wrapping", "term"):
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(kind, theirs), daemon=True)
        server.start()
        servers[kind] = server
        ports[kind] = ours.recv()
    try:
        memory = {kind: _memory(ports[kind], servers[kind].pid) for kind in ports}
        for measure in (_bulk, _requests, _connections):
            rates: dict[str, list[float]] = {kind: [] for kind in ports}
            cpu = dict.fromkeys(ports, 0.0)
            order = list(ports)
            for _ in range(rounds):
                order.append(order.pop(0))
                for kind in order:
                    start = _processor(servers[kind].pid)
                    rates[kind].append(measure(ports[kind]))
                    cpu[kind] += _processor(servers[kind].pid) - start
            row = "   ".join(
                f"{kind} {statistics.median(ratios):.3f}"
                f" (cpu {cpu[kind] / cpu['bare']:.3f})"
                for kind in ("again", "wrapping", "term")
                if (ratios := [a / b for a, b in zip(rates[kind], rates["bare"])])
            )
            print(f"{measure.__name__[1:]:<12} {row}", flush=True)
        row = "   ".join(f"{kind} {used:.0f}" for kind, used in memory.items())
        print(f"memory       {row} bytes per idle connection")
    finally:
        for server in servers.values():
            server.kill()


if __name__ == "__main__":
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    main()
