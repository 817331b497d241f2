"""
What SIGTERM costs a server full of idle keep-alive connections: twisted_term,
Go's net/http (C{Server.Shutdown}) and aiohttp (C{web.run_app}), in one run.

Each server is a process of its own.  The client opens so many connections to
it, each has one complete GET answered and stays open; then the server gets
SIGTERM.  Printed are, for each number of connections and as the median of the
rounds,

    - C{clients}: seconds from SIGTERM until the last client saw its end, FIN or
      RST, and C{exit}: until the process was gone,
    - C{cpu}: the server's CPU seconds from SIGTERM on,
    - C{bytes/conn}: what a connection adds to the resident set,
    - C{growth}: the peak of the resident set during the drain, less the
      resident set before it, in KiB,
    - in parentheses, the ratio to twisted_term (less is better, as everywhere),
    - C{FIN}, C{RST}, C{none}: how many clients saw which end, and C{early}: how
      many saw one before SIGTERM; of all rounds together.

A rival that is not installed is skipped, with the reason.  All have the
defaults that they come with, with their access logs off.

    python benchmarks/drain.py [connections ...]
"""

from __future__ import annotations

import importlib.util
import os
import resource
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Optional

_ROUNDS = 3
#: So many connections are opened before the resident set is first read.
_WARM = 100
#: So many requests are on their way at a time; Twisted's backlog is 50.
_AT_ONCE = 32
#: A source address has 28000 ports, and the sockets of the last round are in
#: TIME-WAIT.
_PER_ADDRESS = 5_000
#: Each process has files other than its connections.
_SPARE = 100
#: Limits of all waits, in seconds.
_START, _OPEN, _DRAIN, _BUILD = 30.0, 120.0, 60.0, 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: linux/in.h: the port is chosen by connect(), when the destination is known.
_IP_BIND_ADDRESS_NO_PORT = 24

_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_BODY = b"hello\n"

_GO = """\
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	handle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("hello\\n"))
	}
	server := &http.Server{Handler: http.HandlerFunc(handle)}
	go server.Serve(listener)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	<-term
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""


def _serveTwisted() -> None:
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.web.resource import Resource

    from twisted_term import DrainingService
    from twisted_term.web import DrainingSite

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            request.setHeader(b"content-type", b"text/plain")
            return _BODY

    class Told:
        """
        An endpoint that prints its port.
        """

        def listen(self, factory: Any) -> Any:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            return endpoint.listen(factory).addCallback(self._print)

        def _print(self, port: Any) -> Any:
            print(port.getHost().port, flush=True)
            return port

    service = DrainingService(Told(), DrainingSite(Hello()))
    reactor.callWhenRunning(service.startService)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def _serveAiohttp() -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=_BODY, content_type="text/plain")

    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    application = web.Application()
    application.router.add_get("/", hello)

    async def started(application: web.Application) -> None:
        # What connects from here on waits in the backlog.
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()

    application.on_startup.append(started)
    quiet: Callable[..., None] = lambda *args, **kwargs: None  # noqa: E731
    web.run_app(application, sock=listening, access_log=None, print=quiet)


_SERVERS = {"twisted_term": _serveTwisted, "aiohttp": _serveAiohttp}


@dataclass
class Drained:
    """
    One drain of one server.
    """

    clients: float
    exit: float
    cpu: float
    memory: float
    growth: float
    ends: Counter[str]
    code: Optional[int]


#: The columns with ratios: attribute, title, unit, format.
_COLUMNS = (
    ("clients", "clients s", 1, ".3f"),
    ("exit", "exit s", 1, ".3f"),
    ("cpu", "cpu s", 1, ".2f"),
    ("memory", "bytes/conn", 1, ".0f"),
    ("growth", "growth KiB", 1024, ".0f"),
)


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * _PAGE


def _peak(pid: int) -> int:
    """
    The peak of the resident set since C{_forgetPeak}; 0 once it has exited.
    """
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _forgetPeak(pid: int) -> None:
    with open(f"/proc/{pid}/clear_refs", "w") as clear:
        clear.write("5")


def _processor(pid: int) -> float:
    """
    CPU seconds; of a zombie too.
    """
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Clients:
    """
    Idle connections to one server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._open: set[socket.socket] = set()
        self.ends: Counter[str] = Counter()

    def open(self, count: int) -> None:
        """
        Open connections until there are C{count}, and have a request answered
        on each.

        @raise RuntimeError: if that takes too long, or one fails.
        """
        deadline = time.monotonic() + _OPEN
        answers: dict[Any, bytes] = {}
        while len(self._open) < count or answers:
            while len(self._open) < count and len(answers) < _AT_ONCE:
                answers[self._connect()] = b""
            for key, _ in self._selector.select(1.0):
                client: Any = key.fileobj
                if client not in answers:
                    self._read(client, "early")
                elif key.events == selectors.EVENT_WRITE:
                    client.send(_REQUEST)  # an error if it could not connect
                    self._selector.modify(client, selectors.EVENT_READ)
                else:
                    data = client.recv(65536)
                    answers[client] += data
                    if answers[client].endswith(b"\r\n\r\n" + _BODY):
                        del answers[client]
                    elif not data:
                        raise RuntimeError(f"answered with {answers[client]!r}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self._open)} connections in {_OPEN} s")

    def _connect(self) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((f"127.0.0.{1 + len(self._open) // _PER_ADDRESS}", 0))
        client.connect_ex(("127.0.0.1", self._port))
        self._open.add(client)
        self._selector.register(client, selectors.EVENT_WRITE)
        return client

    def idle(self, seconds: float) -> None:
        """
        Let some time pass.
        """
        time.sleep(seconds)
        for key, _ in self._selector.select(0):
            self._read(key.fileobj, "early")

    def _read(self, client: Any, fin: str = "FIN") -> None:
        try:
            if client.recv(65536):
                return
            self.ends[fin] += 1
        except ConnectionError:
            self.ends["RST" if fin == "FIN" else fin] += 1
        self._selector.unregister(client)
        self._open.remove(client)
        client.close()

    def drain(self, pid: int) -> tuple[float, float, int]:
        """
        Send SIGTERM, and watch the connections and the process end.

        @return: seconds until the last client saw its end, seconds until the
            process had exited, infinite if that took too long, and the peak
            of the resident set.
        """
        process = os.pidfd_open(pid)
        self._selector.register(process, selectors.EVENT_READ)
        seen, gone, peak = 0.0, float("inf"), 0
        if not self._open:
            raise RuntimeError("no connection is left to drain")
        start = time.perf_counter()
        os.kill(pid, signal.SIGTERM)
        sampled = elapsed = 0.0
        while (self._open or gone == float("inf")) and elapsed < _DRAIN:
            events = self._selector.select(0.01)
            elapsed = time.perf_counter() - start  # it has exited before that
            for key, _ in events:
                if key.fileobj == process:
                    gone = elapsed
                    self._selector.unregister(process)
                else:
                    self._read(key.fileobj)
            # After those that are read here, not before.
            if (events and self._open) or not seen:
                elapsed = time.perf_counter() - start
            if not self._open and not seen:
                seen = elapsed
            if elapsed - sampled > 0.01:
                sampled, peak = elapsed, max(peak, _peak(pid))
        os.close(process)
        self.ends["none"] = len(self._open)
        return seen or float("inf"), gone, peak

    def close(self) -> None:
        """
        Close what is left.
        """
        for client in self._open:
            client.close()
        self._selector.close()


def _start(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """
    Start a server that prints its port.
    """
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        line = server.stdout.readline() if selector.select(_START) else ""
    if not line:
        server.kill()
        server.wait()
        raise RuntimeError(f"{command} does not listen")
    return server, int(line)


def _measure(command: list[str], connections: int) -> Drained:
    server, port = _start(command)
    clients = Clients(port)
    try:
        warm = min(_WARM, connections // 2)
        clients.open(warm)
        clients.idle(0.2)
        before = _resident(server.pid)
        clients.open(connections)
        clients.idle(0.5)
        resident, cpu = _resident(server.pid), _processor(server.pid)
        _forgetPeak(server.pid)
        seen, gone, peak = clients.drain(server.pid)
        cpu = _processor(server.pid) - cpu
        return Drained(
            seen,
            gone,
            cpu,
            (resident - before) / (connections - warm),
            max(0, peak - resident),
            clients.ends,
            server.poll(),
        )
    finally:
        server.kill()
        server.wait()
        clients.close()


def _commands(directory: str) -> dict[str, list[str]]:
    """
    How to start each server that there is.
    """
    commands = {"twisted_term": [sys.executable, __file__, "--serve", "twisted_term"]}
    go = shutil.which("go")
    if go is None:
        print("net/http: skipped, there is no `go` (Debian: golang-go)")
    else:
        source = os.path.join(directory, "server.go")
        binary = os.path.join(directory, "server")
        with open(source, "w") as file:
            file.write(_GO)
        try:
            subprocess.run(
                [go, "build", "-o", binary, source],
                cwd=directory,
                env={**os.environ, "GOCACHE": os.path.join(directory, "cache")},
                check=True,
                timeout=_BUILD,
            )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"net/http: skipped, {error}")
        else:
            commands["net/http"] = [binary]
    if importlib.util.find_spec("aiohttp") is None:
        print("aiohttp: skipped, not installed (pip install aiohttp)")
    else:
        commands["aiohttp"] = [sys.executable, __file__, "--serve", "aiohttp"]
    return commands


def _ratio(value: float, ours: float) -> str:
    return f"({value / ours:.2f})" if ours else "(-)"


def _table(connections: int, drained: dict[str, list[Drained]]) -> None:
    print(f"\n{connections} connections, {_ROUNDS} rounds")
    titles = "".join(f"{title:>12}{'':8}" for _, title, _, _ in _COLUMNS)
    ends = ("FIN", "RST", "none", "early")
    print(f"{'':<13}{titles}" + "".join(f"{end:>7}" for end in ends))
    ours: dict[str, float] = {}
    for kind, rounds in drained.items():
        row = f"{kind:<13}"
        for name, _, unit, form in _COLUMNS:
            value = statistics.median(getattr(one, name) for one in rounds) / unit
            row += f"{value:>12{form}} {_ratio(value, ours.setdefault(name, value)):<7}"
        total = sum((one.ends for one in rounds), Counter())
        row += "".join(f"{total[end]:>7}" for end in ends)
        codes = {one.code for one in rounds} - {0}
        print(row + (f"  exit status {codes}" if codes else ""), flush=True)


def main(arguments: list[str]) -> None:
    """
    Run the rivals in turn, and print the tables.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if arguments[:1] == ["--serve"]:
        _SERVERS[arguments[1]]()
        return
    counts = [int(count) for count in arguments] or [1_000, 10_000]
    if min(counts) < 2 or 0 <= files < max(counts) + _SPARE:
        sys.exit(f"2 to {files - _SPARE} connections, by RLIMIT_NOFILE")
    with tempfile.TemporaryDirectory() as directory:
        commands = _commands(directory)
        for connections in counts:
            drained: dict[str, list[Drained]] = {kind: [] for kind in commands}
            for _ in range(_ROUNDS):
                for kind, command in commands.items():
                    drained[kind].append(_measure(command, connections))
            _table(connections, drained)


if __name__ == "__main__":
    main(sys.argv[1:])
