"""
What is done on a wire with faults: the same scripts for the tests, which
assert, and for C{benchmarks/faults.py}, which counts.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable

from twisted_term.termserver.demo import payload

from .network import SERVER, Link, Weather
from .processes import TERMSERVER, Server
from .support import SECONDS

_PORT = 8023
_LISTEN = f"tcp:{_PORT}:interface={SERVER}:backlog=1000"
#: Seconds: all limits of the policy in the cases where the link is cut, and the time
#: that a busy machine may add.
LIMIT, SLACK = 3.0, 10.0
OURS = (*TERMSERVER, f"--listen={_LISTEN}", "--linger-idle=30")
_LIMITED = (f"--flush-timeout={LIMIT}", f"--linger-idle={LIMIT}")
#: The same commands from bare Twisted, as far as the scripts use them.
BARE = (
    sys.executable,
    "-c",
    f"""
import sys
from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.log import startLogging
from twisted_term.termserver.demo import payload

startLogging(sys.stdout)

class Server(LineReceiver):
    delimiter = b"\\n"
    MAX_LENGTH = 1 << 30
    def connectionMade(self):
        self.last = succeed(None)
    def lineReceived(self, line):
        name, _, text = line.decode().partition(" ")
        self.last.addCallback(lambda _: getattr(self, name)(text))
    def PUSH(self, text):
        self.transport.write(payload(0, int(text)))
    def WAIT(self, text):
        return deferLater(reactor, float(text), self.transport.write, b"DONE\\n")
    def SHUTDOWN(self, text):
        self.transport.loseWriteConnection()
    def CLOSE(self, text):
        self.transport.loseConnection()
    def connectionLost(self, reason):
        print(f"{{self.transport.getPeer()}}: {{reason.type.__name__}}", flush=True)

serverFromString(reactor, "{_LISTEN}").listen(Factory.forProtocol(Server))
reactor.run()
""",
)


@dataclass
class Exchange:
    """
    What one client got.

    @ivar port: the client's port, by which the server's log names it.
    @ivar asked: how many bytes the client asked for.
    @ivar got: how many bytes have arrived.
    @ivar intact: are they the bytes that were asked for?
    @ivar end: C{FIN}, C{RST}, or C{none}.
    """

    port: int
    asked: int
    got: int
    intact: bool
    end: str


class Client:
    """
    One client, with a script.
    """

    def __init__(self, wire: Link, rendezvous: threading.Barrier) -> None:
        self._wire = wire
        self.socket = wire.connect(_PORT)
        self.port = self.socket.getsockname()[1]
        self._meet = rendezvous
        self._got = bytearray()
        self._refused = False

    def meet(self) -> None:
        """
        Wait until all clients have come to this point, and the fault has happened.
        """
        self._meet.wait(SECONDS)

    def ask(self, count: int, before: str = "", after: str = "") -> bytes:
        """
        Send commands.

        @return: the answer to C{before} and to the C{PUSH} behind it.
        """
        self.socket.sendall(f"{before}PUSH {count}\n{after}".encode())
        return (b"DONE\n" if before else b"") + payload(0, count)

    def upload(self, count: int) -> threading.Thread:
        """
        Send bytes that the server does not wait for, in the background.
        """

        def run() -> None:
            try:
                for _ in range(count // 8192):
                    self.socket.sendall(b"u" * 8192)
            except OSError:
                self._refused = True

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def some(self) -> None:
        """
        Receive a little.
        """
        self._got += self.socket.recv(1000)

    def rest(self, answer: bytes) -> Exchange:
        """
        Receive until the end; nothing comes from a wire that is cut.
        """
        self.socket.settimeout(0.5 if self._wire.isCut else SECONDS)
        end = "FIN"
        try:
            while data := self.socket.recv(1 << 16):
                self._got += data
        except ConnectionError:
            end = "RST"
        except TimeoutError:
            end = "none"
        got = len(self._got)
        intact = answer.startswith(bytes(self._got))
        return Exchange(self.port, len(answer), got, intact, end)

    def refused(self) -> bool:
        """
        Has sending failed?
        """
        return self._refused


# The scripts.


def whole(client: Client) -> Exchange:
    """
    Ask for an answer and for the end.
    """
    return client.rest(client.ask(200_000, after="CLOSE\n"))


def early(client: Client) -> Exchange:
    """
    Ask for both, and upload on and on, RFC 9112, section 9.6.
    """
    answer = client.ask(100_000, after="CLOSE\n")
    uploading = client.upload(400_000)
    exchange = client.rest(answer)
    uploading.join(SECONDS)
    if client.refused():
        exchange.end = "RST"
    return exchange


def clientHalfCloses(client: Client) -> Exchange:
    """
    Half-close behind the request.
    """
    answer = client.ask(100_000)
    client.socket.shutdown(1)
    return client.rest(answer)


def serverHalfCloses(client: Client) -> Exchange:
    """
    Let the server half-close, and send on before the own end.
    """
    exchange = client.rest(client.ask(100_000, after="SHUTDOWN\n"))
    client.upload(100_000).join(SECONDS)
    if client.refused():
        exchange.end = "RST"
    return exchange


def interrupted(client: Client) -> Exchange:
    """
    In the midst of the answer, which the server is flushing, something happens.
    """
    answer = client.ask(2_000_000, after="CLOSE\n")
    client.some()
    client.meet()
    return client.rest(answer)


def beforeTheLast(client: Client) -> Exchange:
    """
    Before the server sends, and then lingers, something happens.
    """
    answer = client.ask(1000, "WAIT 2\n", "CLOSE\n")
    time.sleep(0.3)
    client.meet()
    return client.rest(answer)


def afterTheLast(client: Client) -> Exchange:
    """
    After all has arrived, while the server lingers, something happens.
    """
    exchange = client.rest(client.ask(1000, after="CLOSE\n"))
    time.sleep(0.3)
    client.meet()
    return exchange


# What happens in the midst.


def undisturbed(wire: Link, server: Server) -> None:
    pass


def cut(wire: Link, server: Server) -> None:
    wire.cut()


def cutAndMend(wire: Link, server: Server) -> None:
    wire.cut()
    time.sleep(1)
    wire.mend()


def drain(wire: Link, server: Server) -> None:
    server.terminate()


_BAD = Weather(delay=0.005, loss=0.05, reorder=0.25)


@dataclass(frozen=True)
class Case:
    """
    @ivar clients: how many, at the same time.
    """

    weather: Weather
    script: Callable[[Client], Exchange]
    midst: Callable[[Link, Server], None] = undisturbed
    clients: int = 10

    @property
    def lives(self) -> bool:
        """
        Does the link work in the end?  Its losses alone may stop all progress
        for seconds, as the kernel doubles its pauses between retransmissions,
        and the policy is then the default one.
        """
        return self.midst is not cut


CASES = {
    "20 ms": Case(Weather(delay=0.02), whole),
    "5 % lost": Case(Weather(delay=0.005, loss=0.05), whole),
    "25 % reordered": Case(Weather(delay=0.01, reorder=0.25), whole),
    "all, early answer": Case(_BAD, early),
    "all, client half-closes": Case(_BAD, clientHalfCloses),
    "all, server half-closes": Case(_BAD, serverHalfCloses),
    "all, SIGTERM": Case(_BAD, interrupted, drain, 3),
    "cut in a flush": Case(Weather(0.005), interrupted, cut),
    "cut before the last bytes": Case(Weather(0.005), beforeTheLast, cut),
    "cut after the last bytes": Case(Weather(0.005), afterTheLast, cut),
    "cut and mended": Case(Weather(0.005), interrupted, cutAndMend, 3),
}


@dataclass
class Result:
    """
    @ivar reports: by client, what the server's log says of its end.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    reports: dict[int, str] = field(default_factory=dict)
    packets: Counter[str] = field(default_factory=Counter)

    def add(self, other: Result) -> None:
        """
        One more round.
        """
        self.exchanges += other.exchanges
        self.packets += other.packets
        start = len(self.reports)
        self.reports.update(enumerate(other.reports.values(), start))

    @property
    def asked(self) -> int:
        return sum(one.asked for one in self.exchanges)

    @property
    def got(self) -> int:
        return sum(one.got for one in self.exchanges)

    @property
    def ends(self) -> Counter[str]:
        return Counter(one.end for one in self.exchanges)

    @property
    def undelivered(self) -> int:
        return sum("NOT delivered" in report for report in self.reports.values())


def perform(test: Any, case: Case, command: tuple[str, ...], seed: int) -> Result:
    """
    One round: a wire, a server, and so many clients at once.

    @param test: whose C{addCleanup} is called.
    @raise SkipTest: as from L{Link}.
    """
    wire = Link(test, seed, case.weather)
    if command is OURS and not case.lives:
        command += _LIMITED
    server = Server(test, wire.command(*command))
    server.wait("starting on")
    rendezvous = threading.Barrier(case.clients, lambda: case.midst(wire, server))

    def run(_: int) -> tuple[Client, Exchange]:
        client = Client(wire, rendezvous)
        return client, case.script(client)

    with ThreadPoolExecutor(case.clients) as pool:
        done = list(pool.map(run, range(case.clients)))
    for client, _ in done:
        client.socket.close()
    exchanges = [exchange for _, exchange in done]
    deadline = time.monotonic() + LIMIT + SLACK
    reports: dict[int, str] = {}
    while len(reports) < case.clients and time.monotonic() < deadline:
        time.sleep(0.05)
        found = re.findall(r"\d:(\d+): (.*)", server.log)
        reports = {int(port): report for port, report in found}
    return Result(exchanges, reports, wire.packets)


__all__ = ["BARE", "CASES", "OURS", "Case", "Exchange", "Result", "perform"]
