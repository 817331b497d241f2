"""
RFC 9112, section 9.6: a server answers early and closes, while the client is
still uploading.  How much of the answer arrives, from bare Twisted and from
L{twisted_term}, on the same script?

For each size of the answer, for a client that reads fast and for one that
reads slowly: the bytes lost, the answers that arrived whole, and those that
ended with FIN and not with a reset.

    python benchmarks/early_answer.py [rounds]
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
import threading
import time
from typing import Any

SIZES = (1 << 10, 64 << 10, 1_000_000, 5_000_000, 20_000_000)
UPLOAD = 4 << 20
_SECONDS = 60


def _upload(client: socket.socket, resets: list[OSError]) -> None:
    block = bytes(64 << 10)
    try:
        for _ in range(UPLOAD // len(block)):
            client.sendall(block)
            time.sleep(0.0005)
    except OSError as error:
        resets.append(error)


def fetch(port: int, slow: bool) -> tuple[int, str]:
    """
    Upload 4 MiB and receive the answer at the same time.

    @param slow: a small receive buffer, and a pause before the first read
        and between the later ones: the tail of the answer has to wait in the
        server's socket.
    @return: how many bytes arrived; and C{"RST"} if receiving or sending
        failed, else C{"FIN"}.
    """
    resets: list[OSError] = []
    with socket.socket() as client:
        client.settimeout(_SECONDS)
        if slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.connect(("127.0.0.1", port))
        sender = threading.Thread(target=_upload, args=(client, resets))
        sender.start()
        count = 0
        try:
            if slow:
                time.sleep(0.1)
            while data := client.recv(256 << 10):
                count += len(data)
                if slow:
                    time.sleep(0.0002)
        except OSError as error:
            resets.append(error)
        sender.join(_SECONDS)
        return count, "RST" if resets else "FIN"


def _serve(wrap: bool, pipe: Any) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    from twisted_term import TerminatingFactory

    class EarlyAnswer(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(bytes(self.factory.size))
            self.transport.loseConnection()

    ports = []
    for size in SIZES:
        factory = Factory.forProtocol(EarlyAnswer)
        factory.size = size
        wrapped = TerminatingFactory(factory) if wrap else factory
        port = reactor.listenTCP(0, wrapped, interface="127.0.0.1")
        ports.append(port.getHost().port)
    pipe.send(ports)
    reactor.run()


def main() -> None:
    """
    Run both servers in turn, and print the table.
    """
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    context = multiprocessing.get_context("spawn")
    servers, ports = [], {}
    for name in ("bare", "twisted_term"):
        ours, theirs = context.Pipe()
        server = context.Process(
            target=_serve, args=(name != "bare", theirs), daemon=True
        )
        server.start()
        servers.append(server)
        ports[name] = ours.recv()
    print(f"{'answer':>10} {'reader':6} {'server':12}   lost  whole  FIN  of {rounds}")
    try:
        for index, size in enumerate(SIZES):
            for slow in (False, True):
                for name in ports:
                    found = [fetch(ports[name][index], slow) for _ in range(rounds)]
                    lost = 1 - sum(count for count, _ in found) / (size * rounds)
                    whole = sum(count == size for count, _ in found)
                    fins = sum(end == "FIN" for _, end in found)
                    print(
                        f"{size:>10} {'slow' if slow else 'fast':6} {name:12}"
                        f" {lost:6.1%} {whole:>6} {fins:>4}",
                        flush=True,
                    )
    finally:
        for server in servers:
            server.kill()


if __name__ == "__main__":
    main()
