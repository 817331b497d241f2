"""
What the wrapper costs: bulk, request/response and connection rate, with bare
Twisted and L{twisted.protocols.policies.WrappingFactory} in the same run.

Prints, for each, the median of the ratios to bare Twisted (more is better).
Clients are blocking sockets in a process of their own.

    python benchmarks/hotpath.py [rounds]
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import time
from typing import Any, Callable

_CHUNK = b"x" * 65536


def _bulk(port: int) -> float:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"B")
        start, left = time.perf_counter(), 200 * 1024 * 1024
        while left:
            left -= len(client.recv(1 << 20))
        return 1 / (time.perf_counter() - start)


def _requests(port: int) -> float:
    with socket.create_connection(("127.0.0.1", port)) as client:
        start = time.perf_counter()
        for _ in range(10_000):
            client.sendall(b"r")
            client.recv(100)
        return 10_000 / (time.perf_counter() - start)


def _connections(port: int) -> float:
    start = time.perf_counter()
    for _ in range(2_000):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"C")
            while client.recv(100):
                pass
    return 2_000 / (time.perf_counter() - start)


def _serve(kind: str, pipe: Any) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from twisted.protocols.policies import WrappingFactory

    from twisted_term import TerminatingFactory

    class Server(Protocol):
        left = 0

        def dataReceived(self, data: bytes) -> None:
            if data == b"B":
                self.left = 200 * 16
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
        "wrapping": WrappingFactory,
        "term": TerminatingFactory,
    }
    factory = wrap[kind](Factory.forProtocol(Server))
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    pipe.send(port.getHost().port)
    reactor.run()


def main() -> None:
    """
    Run the rivals in turn, and print the table.
    """
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    context = multiprocessing.get_context("spawn")
    ports, servers = {}, []
    for kind in ("bare", "wrapping", "term"):
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(kind, theirs), daemon=True)
        server.start()
        servers.append(server)
        ports[kind] = ours.recv()
    try:
        for measure in (_bulk, _requests, _connections):
            ratios: dict[str, list[float]] = {"wrapping": [], "term": []}
            for _ in range(rounds):
                found = {kind: measure(port) for kind, port in ports.items()}
                for kind in ratios:
                    ratios[kind].append(found[kind] / found["bare"])
            row = "  ".join(
                f"{kind} {statistics.median(values):.3f}"
                for kind, values in ratios.items()
            )
            print(f"{measure.__name__[1:]:<12} {row}", flush=True)
    finally:
        for server in servers:
            server.kill()


if __name__ == "__main__":
    main()
