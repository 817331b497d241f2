"""
What the policy's C{linger} saves, and what it costs.

Clients that have their answer and keep the connection, as those of HTTP do: how
long does the server keep each socket after its FIN, and how many are there at
once?  And clients that are still uploading when the answer comes: how many are
reset?  The server is told beforehand which of them uploads, as HTTP tells, so that
C{on} knows.

    python benchmarks/linger.py [clients]
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
import time
from typing import Any, Callable

WORDS = ("always", "on", "off")
_UPLOAD = 1 << 20
_SECONDS = 30


def _serve(word: str, pipe: Any) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from twisted.python.components import registerAdapter

    from twisted_term import State, TerminationMixin, TerminationPolicy
    from twisted_term.applications import Conversation
    from twisted_term.interfaces import IConversation

    class Answer(TerminationMixin, Protocol):
        terminationPolicy = TerminationPolicy(linger=word)
        live = most = 0
        lingered = 0.0

        def dataReceived(self, data: bytes) -> None:
            self.uploads = data.startswith(b"POST")
            Answer.live += 1
            Answer.most = max(Answer.most, Answer.live)
            self.transport.write(bytes(10_000))
            self.transport.loseConnection()

        def terminated(self, report: Any) -> None:
            Answer.live -= 1
            Answer.lingered += report.seconds.get(State.LINGERING, 0.0)

    class AnswerConversation(Conversation):
        def expectsMore(self, transport: Any) -> bool:
            return bool(self.protocol.uploads)

    registerAdapter(AnswerConversation, Answer, IConversation)

    def tell() -> None:
        if pipe.poll():
            pipe.recv()
            pipe.send((Answer.live, Answer.most, Answer.lingered))
        reactor.callLater(0.02, tell)

    tell()
    factory = Factory.forProtocol(Answer)
    port = reactor.listenTCP(0, factory, 1000, interface="127.0.0.1")
    pipe.send(port.getHost().port)
    reactor.run()


def _keep(client: socket.socket) -> str:
    client.sendall(b"GET")
    return _receive(client)


def _upload(client: socket.socket) -> str:
    client.sendall(b"POST")
    try:
        for _ in range(16):
            client.sendall(bytes(_UPLOAD // 16))
            time.sleep(0.001)
    except OSError:
        return "RST"
    end = _receive(client)
    client.close()
    return end


def _receive(client: socket.socket) -> str:
    try:
        while client.recv(1 << 16):
            pass
    except OSError:
        return "RST"
    return "FIN"


def measure(
    word: str, behave: Callable[[socket.socket], str], clients: int
) -> tuple[int, float, int]:
    """
    @return: the most connections that the server had at once, the seconds for
        which it has lingered with each, and how many clients were reset.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(word, theirs), daemon=True)
    server.start()
    try:
        port, kept, resets = ours.recv(), [], 0
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", port), _SECONDS)
            kept.append(client)
            resets += behave(client) == "RST"
        deadline = time.monotonic() + _SECONDS
        while True:
            ours.send(None)
            live, most, lingered = ours.recv()
            if not live:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{live} connections do not end")
            time.sleep(0.1)
        for client in kept:
            client.close()
        return most, lingered / clients, resets
    finally:
        server.kill()
        server.join()


def main() -> None:
    """
    Measure, and print the table.
    """
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{clients} clients   at once  s lingering   uploads that are reset")
    for word in WORDS:
        most, lingered, _ = measure(word, _keep, clients)
        *_, resets = measure(word, _upload, clients)
        print(f"{word:12} {most:>9,} {lingered:>12.4f} {resets:>24,}", flush=True)


if __name__ == "__main__":
    main()
