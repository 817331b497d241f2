"""
The demo server: every command, what is malformed, and every way to end.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import struct
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import State, TerminatingFactory, TerminationPolicy
from twisted_term.termserver.demo import DemoFactory, payload

from .processes import LISTEN, TERMSERVER, Server, connect, receiveAll
from .support import SECONDS, SocketTestCase, receive

_LIMIT = 16 * 1024
_RESET = struct.pack("ii", 1, 0)


class DemoTransport(StringTransport):
    """
    Tells the demo its time.

    @ivar deaf: does the peer read nothing?
    """

    deaf = False

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.reactor = clock

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.deaf:
            self.producer.pauseProducing()


class LineTests(SynchronousTestCase):
    """
    Lines in, answers out, without sockets.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = DemoFactory(self.clock)
        self.demo = self.factory.buildProtocol(None)
        self.below = DemoTransport(self.clock)
        self.demo.makeConnection(self.below)

    def send(self, data: bytes) -> bytes:
        """
        What the demo answers at once.
        """
        self.below.clear()
        self.demo.dataReceived(data)
        return self.below.value()

    def lose(self) -> None:
        self.demo.transport.abortConnection()
        self.assertIn(self.demo, self.factory.connections)
        self.demo.connectionLost()
        self.assertNotIn(self.demo, self.factory.connections)

    def test_lineEnds(self) -> None:
        """
        LF and CRLF end a line, wherever the segments are cut.
        """
        request = b"ECHO one\nECHO  two \r\nECHO\nECHO t\xc3\xbcr\r\nSEND 5\n"
        answer = b"one\n two \n\nt\xc3\xbcr\nabcde"
        self.assertEqual(self.send(request), answer)
        for size in (1, 2, 3, 7):
            pieces = range(0, len(request), size)
            got = [self.send(request[start : start + size]) for start in pieces]
            self.assertEqual(b"".join(got), answer)

    def test_help(self) -> None:
        """
        One line names every command.
        """
        answer = self.send(b"HELP\n").decode()
        self.assertEqual(answer.count("\n"), 1)
        commands = {name[3:] for name in dir(self.demo) if name.startswith("do_")}
        self.assertEqual({part.split()[0] for part in answer.split("|")}, commands)

    def test_status(self) -> None:
        """
        One line of JSON counts connections, and how the others ended.
        """
        self.factory.outcomes["clean"] = 7
        answer = self.send(b"STATUS\n")
        self.assertEqual(answer.count(b"\n"), 1)
        status = {"connections": 1, "states": {"open": 1}, "ended": {"clean": 7}}
        self.assertEqual(json.loads(answer), status)

    def test_errors(self) -> None:
        """
        An error names what is wrong, in one line, and the connection goes on.
        """
        number = "must be a whole number from 0 to 1073741824"
        atOnce = "must be a whole number from 0 to 67108864"
        seconds = "must be a number of seconds from 0 to 86400"
        for line, error in (
            (b"", "'': unknown command, try HELP"),
            (b" ", "'': unknown command, try HELP"),
            (b"FOO 1", "'FOO': unknown command, try HELP"),
            (b"echo x", "'echo': unknown command, try HELP"),
            (b"__init__", "'__init__': unknown command, try HELP"),
            (b"\0", "'\\x00': unknown command, try HELP"),
            (b"\0TOOLONG", "'\\x00TOOLONG': unknown command, try HELP"),
            (b"\x1b[2J\r\r", "'\\x1b[2J\\r': unknown command, try HELP"),
            (b"ECHO \xff", "b'ECHO \\xff': must be UTF-8"),
            (b"SEND", f"SEND '': {atOnce}"),
            (b"SEND x", f"SEND 'x': {atOnce}"),
            (b"SEND -1", f"SEND '-1': {atOnce}"),
            (b"SEND +1", f"SEND '+1': {atOnce}"),
            (b"SEND 1_0", f"SEND '1_0': {atOnce}"),
            (b"SEND  1", f"SEND ' 1': {atOnce}"),
            (b"SEND 1e3", f"SEND '1e3': {atOnce}"),
            (b"SEND 67108865", f"SEND '67108865': {atOnce}"),
            (b"PUSH 1073741825", f"PUSH '1073741825': {number}"),
            (b"PULL 99999999999", f"PULL '99999999999': {number}"),
            (b"SEND " + b"9" * 9999, f"SEND '{'9' * 40}': {atOnce}"),
            ("SEND ²".encode(), f"SEND '²': {atOnce}"),
            (b"WAIT", f"WAIT '': {seconds}"),
            (b"WAIT nan", f"WAIT 'nan': {seconds}"),
            (b"WAIT inf", f"WAIT 'inf': {seconds}"),
            (b"WAIT -1", f"WAIT '-1': {seconds}"),
            (b"WAIT 86401", f"WAIT '86401': {seconds}"),
            (b"CLOSE now", "CLOSE 'now': CLOSE takes no argument"),
            (b"ABORT 1", "ABORT '1': ABORT takes no argument"),
            (b"CLOSENOW 1", "CLOSENOW '1': CLOSENOW takes no argument"),
        ):
            answer = self.send(line + b"\nECHO on\n").decode()
            self.assertEqual(answer, f"ERROR {error}\non\n")

    def test_garbage(self) -> None:
        """
        A stream of garbage gets one error for each line, and goes on.
        """
        chance = random.Random(2016)
        for _ in range(100):
            garbage = bytes(chance.choices(range(256), k=5000)) + b"\n"
            answer = self.send(garbage)
            lines = answer.splitlines()
            self.assertEqual(len(lines), garbage.count(b"\n"))
            self.assertTrue(all(line.startswith(b"ERROR ") for line in lines))
        self.assertEqual(self.send(b"ECHO on\n"), b"on\n")

    def test_longestLine(self) -> None:
        """
        A line of 16 KiB is served, whatever ends it and however it is cut.
        """
        text = b"x" * (_LIMIT - 5)
        for end in (b"\n", b"\r\n"):
            for cut in (0, 5, _LIMIT, _LIMIT + 1):
                line = b"ECHO " + text + end
                got = self.send(line[:cut]) + self.send(line[cut:] + b"ECHO on\n")
                self.assertEqual(got, text + b"\non\n", (end, cut))

    def test_sendNothing(self) -> None:
        """
        No bytes are no error.
        """
        self.assertEqual(self.send(b"SEND 0\nPUSH 0\nWAIT x\n")[:5], b"ERROR")

    def test_order(self) -> None:
        """
        A command starts when the one before it is done.
        """
        self.assertEqual(self.send(b"ECHO a\nWAIT 5\nECHO b\nFOO\nWAIT 2.5\n"), b"a\n")
        self.assertEqual(self.send(b"ECHO c\n"), b"")
        self.clock.advance(4.9)
        self.assertEqual(self.below.value(), b"")
        self.clock.advance(0.1)
        self.assertTrue(self.below.value().startswith(b"DONE\nb\nERROR 'FOO'"))
        self.below.clear()
        self.clock.advance(2.5)
        self.assertEqual(self.below.value(), b"DONE\nc\n")

    def test_many(self) -> None:
        """
        However many commands are pipelined, the stack does not grow.
        """
        count = 5000
        answer = self.send(b"PUSH 0\nPUSH 3\nSEND 0\n" * count)
        self.assertEqual(answer, b"abc" * count)
        self.send(b"WAIT 0\n" * count)
        self.clock.pump([0] * count)
        self.assertEqual(self.below.value(), b"DONE\n" * count)

    def test_backPressure(self) -> None:
        """
        While work is running, only so much is read ahead.
        """
        self.send(b"WAIT 60\n")
        for _ in range(1000):
            self.send(b"ECHO x\n")
            if self.below.producerState == "paused":
                break
        self.assertEqual(self.below.producerState, "paused")
        self.clock.advance(60)
        self.assertEqual(self.below.producerState, "producing")
        self.assertEqual(self.below.value(), b"DONE\n" + b"x\n" * 17)

    def test_readAhead(self) -> None:
        """
        Behind a SHUTDOWN that waits no more is read ahead either.
        """
        self.send(b"WAIT 60\nSHUTDOWN\n" + b"ECHO x\n" * 20)
        self.assertEqual(self.below.producerState, "paused")

    def test_paused(self) -> None:
        """
        While the peer does not read, nothing more is built for it, and then
        the rest comes in order.
        """
        self.assertEqual(self.send(b"WAIT 1\nECHO a\nECHO b\nPUSH 200000\n"), b"")
        self.below.producer.pauseProducing()
        self.clock.advance(1)
        self.assertEqual(self.below.value(), b"DONE\n")
        self.below.producer.resumeProducing()
        self.assertEqual(self.below.value(), b"DONE\na\nb\n" + payload(0, 200_000))
        self.assertIs(self.below.producer, None)

    def test_sendTogether(self) -> None:
        """
        All that SENDs keep in memory is bounded, also of several connections;
        one that is lost leaves its share to others.
        """
        count = 40 << 20
        self.send(b"WAIT 1\n" + b"SEND %d\n" % count)
        other = self.factory.buildProtocol(None)
        below = DemoTransport(self.clock)
        other.makeConnection(below)
        self.below.deaf = True
        self.clock.advance(1)
        self.below.producer.resumeProducing()
        other.dataReceived(b"SEND 30000000\nSEND 5\n")
        self.assertEqual(
            below.value(),
            b"ERROR SEND '30000000': 41943040 bytes of SENDs are not sent yet, of"
            b" 67108864 at most; try PUSH\nabcde",
        )
        self.lose()
        below.clear()
        other.dataReceived(b"SEND 30000000\n")
        self.assertEqual(len(below.value()), 30_000_000)

    def test_afterClose(self) -> None:
        """
        What comes behind CLOSE, or behind a line too long, is not answered.
        """
        for end, answer in (
            (b"CLOSE\n", b""),
            (b"ABORT\n", b""),
            (b"CLOSENOW\n", b""),
            (b"x" * (_LIMIT + 1) + b"\n", b"ERROR"),
        ):
            self.setUp()
            got = self.send(b"ECHO a\n" + end + b"ECHO b\nWAIT 9\n")
            self.assertEqual(got[:2], b"a\n")
            self.assertEqual(got[2:7], answer)
            self.assertEqual(got.count(b"\n"), 2 if answer else 1)
            self.clock.advance(9)
            self.assertEqual(self.below.value(), got)

    def test_tooLong(self) -> None:
        """
        More than 16 KiB without a line end is an error as soon as it is seen,
        behind what came before.
        """
        for junk in (b"x" * (_LIMIT + 1), b"x" * _LIMIT + b"\r\r", b"\xff" * 99999):
            self.setUp()
            self.assertEqual(self.send(b"WAIT 1\nECHO b\n" + junk), b"")
            self.assertTrue(self.demo.transport.disconnecting)
            self.clock.advance(1)
            done, echo, error, rest = self.below.value().split(b"\n")
            self.assertEqual((done, echo, rest), (b"DONE", b"b", b""))
            self.assertIn(b"...: line too long, at most 16384 bytes", error)
            self.assertTrue(self.below.disconnecting)

    def test_afterShutdown(self) -> None:
        """
        What comes behind SHUTDOWN is not answered, and is no failure.
        """
        got = self.send(b"ECHO a\nSHUTDOWN\nECHO b\nPUSH 9\nPULL 9\nWAIT 1\nSTATUS\n")
        self.assertEqual(got, b"a\n")
        self.clock.advance(1)
        self.assertEqual(self.below.value(), b"a\n")

    def test_shutdownBehindWork(self) -> None:
        """
        The answers behind a SHUTDOWN do not depend on when it is done.
        """
        self.assertEqual(self.send(b"WAIT 1\nECHO a\nSHUTDOWN\nECHO b\n"), b"")
        self.assertIs(self.demo.transport.state, State.FLUSHING)
        self.clock.advance(1)
        self.assertEqual(self.below.value(), b"DONE\na\n")

    def test_closeBehindWork(self) -> None:
        """
        CLOSE behind running work is asked for at once, and waits for it.
        """
        self.assertEqual(self.send(b"WAIT 1\nECHO a\nCLOSE\nECHO b\n"), b"")
        self.assertIs(self.demo.transport.state, State.FLUSHING)
        self.assertFalse(self.below.disconnecting)
        self.clock.advance(1)
        self.assertEqual(self.below.value(), b"DONE\na\n")
        self.assertTrue(self.below.disconnecting)

    def test_lostWhileWorking(self) -> None:
        """
        A connection that is lost leaves nothing behind.
        """
        for request in (b"WAIT 9\n", b"WAIT 9\nWAIT 9\n", b"PUSH 9\nWAIT 9\nPUSH 9\n"):
            self.setUp()
            self.send(request)
            self.lose()
            self.assertEqual(self.clock.getDelayedCalls(), [])


def converse(port: int, request: bytes, halfClose: bool = False) -> tuple[bytes, str]:
    """
    Send a request, and receive all bytes until the end.
    """
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(SECONDS)
        client.sendall(request)
        if halfClose:
            client.shutdown(socket.SHUT_WR)
        try:
            while data := client.recv(65536):
                got += data
        except ConnectionResetError:
            return bytes(got), "RST"
    return bytes(got), "FIN"


def flood(port: int, request: bytes) -> tuple[int, str]:
    """
    Send a request and then go on sending, and receive until the end.
    """
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(SECONDS)
        client.sendall(request)
        over = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.001):
                    client.sendall(b"y" * 9999)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return receive(client)
        finally:
            over.set()
            sender.join(SECONDS)


class SocketTests(SocketTestCase):
    """
    The same over TCP, in the factory that C{term:} puts around.
    """

    def setUp(self) -> None:
        self.demo = DemoFactory(reactor)
        self.port = self.listen(TerminatingFactory(self.demo))

    @inlineCallbacks
    def ended(self, count: int) -> Any:
        """
        Wait until so many connections have ended.
        """
        deadline = reactor.seconds() + SECONDS
        while sum(self.demo.outcomes.values()) < count:
            self.assertLess(reactor.seconds(), deadline, self.demo.status())
            yield deferLater(reactor, 0.01)
        self.assertEqual(self.demo.connections, set())

    @inlineCallbacks
    def test_everyCommand(self) -> Any:
        """
        A pipeline of everything is answered whole and in order.
        """
        some, many = payload(0, 1000), payload(0, 3_000_000)
        for newline in (b"\n", b"\r\n"):
            commands = (
                b"ECHO hello|SEND 1000|PUSH 3000000|ECHO|PULL 3000000|WAIT 0.05"
                b"|SEND 0|PUSH 0|PULL 0|FOO|SEND 3000000|ECHO bye|"
            ).replace(b"|", newline)
            error = b"ERROR 'FOO': unknown command, try HELP\n"
            expected = b"".join(
                (b"hello\n", some, many, b"\n", many, b"DONE\n", error, many, b"bye\n")
            )
            for end, halfClose in (
                (b"CLOSE", False),
                (b"SHUTDOWN", False),
                (b"", True),
                (b"CLOSE", True),
                (b"SHUTDOWN", True),
            ):
                got = yield deferToThread(
                    converse, self.port, commands + end + newline, halfClose
                )
                if not end:
                    wrong = b"ERROR '': unknown command, try HELP\n"
                    got = got[0].removesuffix(wrong), got[1]
                self.assertEqual(got, (expected, "FIN"), (end, halfClose))
        yield self.ended(10)

    @inlineCallbacks
    def test_status(self) -> Any:
        """
        STATUS tells ended connections apart.
        """
        yield deferToThread(converse, self.port, b"CLOSE\n")
        yield self.ended(1)
        got = yield deferToThread(converse, self.port, b"ECHO x\nABORT\n")
        self.assertEqual(got[1], "RST")
        yield self.ended(2)
        answer, end = yield deferToThread(converse, self.port, b"STATUS\nCLOSE\n")
        self.assertEqual(end, "FIN")
        status = json.loads(answer)
        self.assertEqual(status["ended"], {"clean": 1, "aborted": 1})
        self.assertEqual(status["states"], {"open": 1})
        yield self.ended(3)

    @inlineCallbacks
    def test_tooLong(self) -> Any:
        """
        What came before a line too long is answered whole, then comes the
        error, then FIN and not RST, although the client goes on sending.
        """
        for before, count in (
            (b"", 0),
            (b"SEND 4000000\n", 4_000_000),
            (b"PUSH 4000000\nWAIT 0.05\n", 4_000_005),
        ):
            for end in (b"", b"\n", b"\r\n"):
                request = before + b"x" * (_LIMIT + 1) + end
                got = yield deferToThread(flood, self.port, request)
                error = len("ERROR b'xxxxxxxxxxxxxxxxxxxx'...: line too long, ")
                error += len("at most 16384 bytes\n")
                self.assertEqual(got, (count + error, "FIN"))
        yield self.ended(9)

    @inlineCallbacks
    def test_afterShutdown(self) -> Any:
        """
        Commands behind SHUTDOWN are read, in whatever segments they come.
        """

        def script() -> tuple[bytes, str]:
            with socket.create_connection(("127.0.0.1", self.port)) as client:
                client.settimeout(SECONDS)
                client.sendall(b"ECHO a\nSHUTDOWN\nECHO b\nPUSH 9\n")
                got = client.recv(100) + client.recv(100)
                client.sendall(b"ECHO c\nPULL 9\nWAIT 0\nABORT\n")
                end = receive(client)[1]
                # Closing before the reset would end the connection cleanly.
                poll = select.poll()
                poll.register(client, 0)
                poll.poll(SECONDS * 1000)
                return got, end

        got = yield deferToThread(script)
        self.assertEqual(got, (b"a\n", "FIN"))
        yield self.ended(1)
        self.assertEqual(self.demo.outcomes, {"aborted": 1})

    @inlineCallbacks
    def test_resetWhileWorking(self) -> Any:
        """
        A peer's reset is noticed at once, and leaves no delayed call.
        """

        def script(request: bytes) -> None:
            with socket.create_connection(("127.0.0.1", self.port)) as client:
                client.settimeout(SECONDS)
                client.sendall(b"ECHO go\n" + request)
                client.recv(3)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

        for number, request in enumerate(
            (
                b"WAIT 3600\n",
                b"WAIT 3600\nCLOSE\n",
                b"PUSH 1000000000\nWAIT 3600\n",
                b"PULL 1000000000\nWAIT 3600\nSHUTDOWN\n",
                b"SEND 60000000\nWAIT 3600\n",
            )
        ):
            yield deferToThread(script, request)
            yield self.ended(number + 1)
        self.assertEqual(set(self.demo.outcomes), {"reset by peer"})

    @inlineCallbacks
    def test_closeBehindStuckWork(self) -> Any:
        """
        The policy bounds a CLOSE behind a PUSH whose peer reads nothing.
        """
        policy = TerminationPolicy(flushTimeout=0.3)
        port = self.listen(TerminatingFactory(self.demo, policy))
        for number, command in enumerate((b"PUSH 50000000\n", b"SEND 50000000\n")):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(command + b"CLOSE\n")
                yield self.ended(number + 1)
        self.assertEqual(self.demo.outcomes, {"flush expired": 2})


def memory(process: int) -> int:
    """
    The most bytes that a process has had in memory so far.
    """
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


class MemoryTests(SynchronousTestCase):
    """
    Peers that ask for much and read nothing, and a server in a process of its
    own.
    """

    def test_greedy(self) -> None:
        """
        Whatever the clients ask for, the server's memory does not grow, others are
        served, and a client that reads in the end gets everything.
        """
        server = Server(self, (*TERMSERVER, LISTEN))
        port = server.port()
        before = memory(server.process.pid)
        text = b"ECHO " + b"x" * 16000 + b"\n"
        greedy = []
        for request in (
            b"SEND 1073741824\n" * 3,
            b"HELP\n" * 2_000_000,
            text * 2000,
            b"PUSH 100000000\n" * 10_000,
            b"PULL 65536\n" * 10_000,
            b"STATUS\n" * 100_000,
        ):
            client = connect(port)
            self.addCleanup(client.close)
            client.settimeout(0.5)
            with contextlib.suppress(socket.timeout):
                client.sendall(request)
            greedy.append(client)
            with connect(port, b"ECHO on\nCLOSE\n") as other:
                self.assertEqual(receiveAll([other]), [(b"on\n", "FIN")])
        grown = memory(server.process.pid) - before
        self.assertLess(grown, 16 << 20)
        with connect(port, text * 40 + b"CLOSE\n", small=True) as late:
            self.assertEqual(receiveAll([late]), [(text[5:] * 40, "FIN")])
