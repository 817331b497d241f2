"""
Stopping a server: SIGTERM to real processes, bare Twisted beside them, and the
drain's times under a Clock.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_term import DrainingService, IDrainable, Outcome
from twisted_term.termserver.demo import payload

from .doubles import Wire
from .processes import (
    BARE,
    LISTEN,
    TERMSERVER,
    TWIST,
    TWISTD,
    Server,
    connect,
    environment,
    receiveAll,
)
from .support import REPEATED, SECONDS

_SIZE = 5_000_000
_PUSH = b"PUSH %d\n" % _SIZE
_RESTARTS = 5 if REPEATED else 20


class SignalTests(SynchronousTestCase):
    """
    SIGTERM to C{twistd termserver}, and to the same service of bare Twisted.
    """

    def drain(
        self, command: tuple[str, ...], pushing: int, idle: int
    ) -> tuple[Server, list[Any], list[Any]]:
        """
        SIGTERM while so many connections receive, and so many are idle.
        """
        server = Server(self, command)
        port = server.port()
        busy = [connect(port, _PUSH) for _ in range(pushing)]
        quiet = [connect(port, b"ECHO x\n") for _ in range(idle)]
        for client in busy:
            client.recv(1, socket.MSG_PEEK)  # it has begun
        for client in quiet:
            client.recv(2)
        server.terminate()
        results = receiveAll(busy + quiet)
        return server, results[:pushing], results[pushing:]

    def test_nothingIsLost(self) -> None:
        """
        200 connections in mid-C{PUSH} get every byte, 800 idle ones see FIN,
        the exit status is 0, and one line reports.
        """
        # How long the client takes for its gigabyte is not the question here.
        patient = ("--linger-idle=none", "--drain-timeout=none")
        server, busy, quiet = self.drain((*TERMSERVER, LISTEN, *patient), 200, 800)
        expected = payload(0, _SIZE)
        self.assertEqual(Counter(end for _, end in busy), {"FIN": 200})
        self.assertTrue(all(data == expected for data, _ in busy))
        self.assertEqual(Counter(quiet), {(b"", "FIN"): 800})
        self.assertEqual(server.end(), 0)
        self.assertRegex(server.log, r"drained 1000 connections in .* 1000 clean;")

    def test_twist(self) -> None:
        """
        SIGINT to C{twist} does the same.
        """
        server = Server(self, (*TWIST, "termserver", LISTEN))
        client = connect(server.port(), b"ECHO x\nWAIT 0.5\n" + _PUSH)
        client.recv(2)
        server.process.send_signal(signal.SIGINT)
        ((data, end),) = receiveAll([client])
        self.assertEqual((len(data), end), (_SIZE + 5, "FIN"))
        self.assertEqual(server.end(), 0)
        self.assertIn("drained 1 connections", server.log)

    def test_bare(self) -> None:
        """
        Bare Twisted loses what is in flight.
        """
        server, busy, _ = self.drain(BARE, 20, 0)
        self.assertTrue(any(len(data) < _SIZE for data, _ in busy))
        server.end()

    def test_neverRead(self) -> None:
        """
        Peers that never read are aborted at the deadline; the others get all.
        """
        server = Server(self, (*TERMSERVER, LISTEN, "--drain-timeout=2"))
        port = server.port()
        stuck = [connect(port, b"PUSH 50000000\n", small=True) for _ in range(20)]
        busy = [connect(port, _PUSH) for _ in range(20)]
        for client in stuck + busy:
            client.recv(1, socket.MSG_PEEK)
        server.terminate()
        results = receiveAll(busy)
        self.assertEqual(
            Counter((len(data), end) for data, end in results), {(_SIZE, "FIN"): 20}
        )
        self.assertEqual(server.end(), 0)
        self.assertIn("20 clean", server.log)
        self.assertIn("20 aborted", server.log)
        self.assertEqual({end for _, end in receiveAll(stuck)}, {"RST"})

    def test_secondSignal(self) -> None:
        """
        A second signal aborts at once.
        """
        server = Server(self, (*TERMSERVER, LISTEN, "--drain-timeout=none"))
        client = connect(server.port(), b"ECHO x\nWAIT 600\n")
        client.recv(2)
        server.terminate()
        server.wait(r"draining, 1 connections left, 1 flushing")
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(receiveAll([client]), [(b"", "RST")])
        self.assertEqual(server.end(), 0)

    def queued(self, command: tuple[str, ...]) -> Counter[tuple[bytes, str]]:
        """
        500 connections wait in the accept queue when the signal comes: the
        server is stopped meanwhile.
        """
        server = Server(self, command)
        port = server.port()
        server.process.send_signal(signal.SIGSTOP)
        clients = [connect(port, b"ECHO x\n") for _ in range(500)]
        server.terminate()
        server.process.send_signal(signal.SIGCONT)
        results = receiveAll(clients)
        server.end()
        self.assertRaises(ConnectionRefusedError, connect, port)
        return Counter(results)

    def test_acceptQueue(self) -> None:
        """
        An established connection is accepted, answered and closed, not reset.
        """
        self.assertEqual(self.queued((*TERMSERVER, LISTEN)), {(b"x\n", "FIN"): 500})
        self.assertTrue(any(end == "RST" for _, end in self.queued(BARE)))

    def test_refused(self) -> None:
        """
        A client that goes on connecting while the server stops is answered or
        refused, and never reset.
        """
        server = Server(self, (*TERMSERVER, LISTEN))
        port = server.port()
        found: Counter[str] = Counter()
        deadline = time.monotonic() + SECONDS

        def loop() -> None:
            while time.monotonic() < deadline:
                try:
                    ((data, end),) = receiveAll([connect(port, b"ECHO x\nCLOSE\n")])
                except OSError as error:
                    found[type(error).__name__] += 1
                    return
                found[
                    "answered" if (data, end) == (b"x\n", "FIN") else f"{data!r} {end}"
                ] += 1

        threads = [threading.Thread(target=loop) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        server.terminate()
        for thread in threads:
            thread.join()
        self.assertEqual(server.end(), 0)
        self.assertEqual(set(found), {"answered", "ConnectionRefusedError"})


class SystemdTests(SynchronousTestCase):
    """
    What systemd does and hears.
    """

    def notified(self) -> socket.socket:
        """
        The socket that systemd would listen on.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        self.address = tempfile.mkdtemp() + "/notify"
        listener.bind(self.address)
        listener.settimeout(SECONDS)
        return listener

    def test_notify(self) -> None:
        """
        READY, STOPPING, and how many are left while it makes progress.
        """
        listener = self.notified()
        server = Server(
            self, (*TERMSERVER, LISTEN), env=environment(NOTIFY_SOCKET=self.address)
        )
        port = server.port()
        self.assertEqual(listener.recv(1000), b"READY=1")
        clients = [connect(port, b"ECHO x\nWAIT 1.5\n"), connect(port, b"ECHO x\n")]
        for client in clients:
            client.recv(2)
        server.terminate()
        receiveAll(clients)
        self.assertEqual(server.end(), 0)
        listener.setblocking(False)
        said = []
        while True:
            try:
                said.append(listener.recv(1000).decode())
            except BlockingIOError:
                break
        self.assertEqual(
            said[:4],
            [
                "STOPPING=1",
                "STATUS=draining, 2 connections left",
                "EXTEND_TIMEOUT_USEC=10000000",
                "STATUS=draining, 1 connections left",
            ],
        )

    def test_restarts(self) -> None:
        """
        A new process takes over the listening socket, and the old one drains:
        clients that connect in a loop see no refused and no reset connection.
        """
        listener = self.notified()
        shared = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.addCleanup(shared.close)
        port = shared.getsockname()[1]
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            " os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        command = (
            *(sys.executable, "-c", script, str(shared.fileno())),
            *TERMSERVER[1:],
            "--listen=term:systemd:domain=INET:index=0",
        )

        def start() -> Server:
            server = Server(
                self,
                command,
                pass_fds=[shared.fileno(), 3],
                env=environment(
                    NOTIFY_SOCKET=self.address,
                    LISTEN_FDS="1",
                    LISTEN_FDNAMES="term",
                ),
            )
            while listener.recv(1000) != b"READY=1":
                pass
            return server

        found: Counter[str] = Counter()
        done = threading.Event()

        def loop() -> None:
            while not done.is_set():
                try:
                    ((data, end),) = receiveAll([connect(port, b"ECHO x\nCLOSE\n")])
                    found["answered" if data == b"x\n" else repr(data), end] += 1
                except OSError as error:
                    found[repr(error), ""] += 1

        threads = [threading.Thread(target=loop) for _ in range(2)]
        server = start()
        for thread in threads:
            thread.start()
        try:
            for _ in range(_RESTARTS):
                old, server = server, start()
                old.terminate()
                self.assertEqual(old.end(), 0)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertEqual(set(found), {("answered", "FIN")}, found)
        self.assertGreater(found["answered", "FIN"], _RESTARTS)


class UnchangedTests(SynchronousTestCase):
    """
    C{term:} alone, before an application that knows nothing of it.
    """

    def test_twistdWeb(self) -> None:
        """
        C{twistd web} finishes a response, closes an idle keep-alive connection
        at once, and ends with status 0.
        """
        folder = Path(tempfile.mkdtemp())
        body = os.urandom(8_000_000)
        folder.joinpath("file").write_bytes(body)
        server = Server(
            self,
            (
                *(*TWISTD, "web", "--listen", "term:tcp:0:interface=127.0.0.1"),
                *("--path", str(folder)),
            ),
        )
        port = server.port()
        request = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
        busy = connect(port, request % b"file", small=True)
        idle = connect(port, request % b"none")
        for client in (busy, idle):
            client.recv(1, socket.MSG_PEEK)
        time.sleep(0.2)
        server.terminate()
        (data, end), (_, idleEnd) = receiveAll([busy, idle])
        self.assertEqual(data.partition(b"\r\n\r\n")[2], body)
        self.assertEqual((end, idleEnd), ("FIN", "FIN"))
        self.assertEqual(server.end(), 0)


class Port:
    """
    Listens to nothing.
    """

    def stopListening(self) -> None:
        pass


class Endpoint:
    """
    Gives the test the factory.
    """

    def listen(self, factory: Any) -> Any:
        self.factory = factory
        return succeed(Port())


class ClockTests(SynchronousTestCase):
    """
    The drain's times.
    """

    def serve(self, factory: Any = None, **options: Any) -> None:
        self.clock: Any = Clock()
        self.endpoint = Endpoint()
        self.service = DrainingService(
            self.endpoint,
            factory or Factory.forProtocol(Protocol),
            reactor=self.clock,
            **options,
        )
        self.service.startService()
        self.reports: list[Any] = []

    def connect(self) -> Wire:
        protocol = self.endpoint.factory.buildProtocol(None)
        wire = Wire(self.clock)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        self.clock.advance(1)
        return wire

    def drain(self) -> None:
        self.service.drain().addCallback(self.reports.append)

    def test_nobody(self) -> None:
        """
        With no connection it is over at once, and leaves no call behind.
        """
        self.serve()
        self.drain()
        self.assertEqual(self.reports[0].outcomes, {})
        self.assertIs(self.reports[0].slowest, None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """
        What is left at the deadline is aborted, and counted.
        """
        self.serve(drainTimeout=5)
        wire = self.connect()
        wire.protocol.transport.hold()
        self.drain()
        self.clock.pump([0, 0, 4.9])
        self.assertNotIn("abortConnection", wire.calls)
        self.clock.advance(0.1)
        self.assertEqual(wire.calls.count("abortConnection"), 1)
        wire.protocol.connectionLost(None)
        (report,) = self.reports
        self.assertEqual(report.outcomes, {Outcome.ABORTED: 1})
        self.assertEqual(report.slowest, ("peer", 5.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRegex(str(report), r"drained 1 connections in 5\.000 s; 1 aborted")

    def test_new(self) -> None:
        """
        A connection that has just been made may still send its first request.
        """
        self.serve()
        self.connect()
        protocol = self.endpoint.factory.buildProtocol(None)
        wire = Wire(self.clock)
        wire.protocol = protocol  # as a port's
        protocol.makeConnection(wire)
        self.drain()
        self.clock.pump([0, 0, 0.4])
        self.assertEqual(wire.calls, [])
        self.clock.advance(0.1)
        self.assertEqual(wire.calls, ["loseWriteConnection"])

    def test_drainRaises(self) -> None:
        """
        A factory that fails to drain one connection harms no other; that one
        is closed.
        """

        @implementer(IDrainable)
        class Drainable(Factory):
            protocol = Protocol  # type: ignore[assignment]

            def drain(self, transport: Any) -> None:
                raise ValueError("cannot drain")

        self.serve(factory=Drainable())
        wires = [self.connect() for _ in range(3)]
        self.drain()
        self.clock.pump([0, 0])
        for wire in wires:
            self.assertEqual(wire.calls.count("loseWriteConnection"), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)

    def test_readiness(self) -> None:
        """
        C{draining} is true before listening stops and connections end.
        """
        self.serve(readinessDelay=3)
        wire = self.connect()
        self.drain()
        self.assertTrue(self.service.draining)
        self.clock.advance(2.9)
        self.assertNotIn("loseWriteConnection", wire.calls)
        self.clock.pump([0.1, 0, 0])
        self.assertIn("loseWriteConnection", wire.calls)

    def test_twice(self) -> None:
        """
        Each caller gets the report, also after the drain; a service that is
        started again drains anew.
        """
        self.serve()
        self.drain()
        self.drain()
        self.drain()
        self.assertEqual(len(self.reports), 3)
        self.service.startService()
        self.assertFalse(self.service.draining)
        self.connect()
        self.drain()
        self.assertEqual(len(self.reports), 3)

    def test_badTimes(self) -> None:
        """
        A bad time is named, with what is allowed.
        """
        for name in ("drainTimeout", "readinessDelay"):
            error = self.assertRaises(ValueError, self.serve, **{name: -1})
            self.assertEqual(str(error), f"{name}=-1: must be 0 seconds or more")
