"""
term-probe, against servers that are made to be judged, and against
twisted.web, bare and behind C{term:}.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, cast
from unittest import mock
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.probe import command
from twisted_term.probe.answers import BadAnswer, readHTTP
from twisted_term.probe.cases import Played, Probe
from twisted_term.probe.client import Address, Client, Limits
from twisted_term.probe.proc_net import TimeWait
from twisted_term.probe.progress import Progress
from twisted_term.probe.targets import HTTPTarget
from twisted_term.probe.verdicts import Verdict, judge

from .probing import (
    BODY,
    HEADER,
    RESET,
    SIZE,
    ProbeTestCase,
    Scripted,
    clean,
    linger,
    requests,
)
from .processes import TWISTD, Server
from .support import SECONDS, once


@once
class VerdictTests(ProbeTestCase):
    """
    Each verdict, from a server that deserves it.
    """

    def served(
        self, script: Callable[[socket.socket], None], *arguments: str
    ) -> tuple[int, Any, dict[str, Any]]:
        return self.judge(Scripted(self, script).port, *arguments)

    def test_clean(self) -> None:
        """
        A server that lingers is clean in all cases.
        """
        status, document, rounds = self.served(clean, "--patience=5")
        self.assertEqual({r["verdict"] for r in rounds.values()}, {"clean"}, rounds)
        self.assertEqual((status, document["verdict"]), (0, "clean"))
        names = [case.name for case in command.CASES if case.name != "bare-fin"]
        self.assertEqual(list(rounds), names)
        self.assertEqual(rounds["pipeline"]["received"], 2 * SIZE)
        self.assertEqual(rounds["half-close"]["closedFirst"], "client")
        self.assertEqual(rounds["half-close"]["timeWait"], "client")
        self.assertEqual(rounds["polite"]["closedFirst"], "server")
        self.assertEqual(rounds["polite"]["timeWait"], "server")
        self.assertGreater(rounds["never-closes"]["held"], 0.2)

    def test_closesWhileUploading(self) -> None:
        """
        close() with unread bytes in the socket: RST, and the tail is lost.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % SIZE + BODY)

        status, document, rounds = self.served(script, "--case=upload")
        self.assertEqual((status, document["verdict"]), (1, "loses data"))
        upload = rounds["upload"]
        self.assertEqual((upload["end"], upload["timeWait"]), ("RST", "none"))
        self.assertEqual(upload["expected"], SIZE)
        self.assertLess(upload["received"], SIZE)

    def test_resets(self) -> None:
        """
        A RST behind the whole answer.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % 3 + b"abc")
            time.sleep(0.1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

        status, document, rounds = self.served(script, "--case=polite")
        self.assertEqual((status, document["verdict"]), (0, "resets"))
        self.assertEqual(
            (rounds["polite"]["end"], rounds["polite"]["lost"]), ("RST", 0)
        )

    def test_truncates(self) -> None:
        """
        Even the polite client's answer is cut short, with a FIN.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % SIZE + BODY[:1000])

        status, document, rounds = self.served(script, "--case=polite")
        self.assertEqual((status, document["verdict"]), (1, "loses data"))
        polite = rounds["polite"]
        self.assertEqual((polite["expected"], polite["received"]), (SIZE, 1000))
        self.assertEqual(polite["end"], "FIN")
        self.assertEqual(polite["note"], f"{SIZE - 1000} bytes missing")

    def test_neverCloses(self) -> None:
        """
        The answer is whole, and has no end.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % 3 + b"abc")
            connection.recv(1)

        status, document, rounds = self.served(
            script, "--case=polite", "--patience=0.3", "--rounds=3"
        )
        self.assertEqual((status, document["verdict"]), (3, "hangs"))
        polite = rounds["polite"]
        self.assertEqual((polite["end"], polite["closedFirst"]), ("none", None))
        self.assertEqual(polite["note"], "no end within 0.3 s")
        self.assertEqual(document["cases"][0]["counts"], {"hangs": 1})

    def test_neverLetsGo(self) -> None:
        """
        FIN, and then the connection is kept as long as the client's is.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % 3 + b"abc")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

        cases = ("--case=polite", "--case=never-closes", "--patience=0.5")
        status, _, rounds = self.served(script, *cases)
        self.assertEqual(rounds["polite"]["verdict"], "clean")
        self.assertEqual(rounds["never-closes"]["verdict"], "hangs")
        self.assertEqual(rounds["never-closes"]["end"], "FIN")
        self.assertEqual(status, 3)

    def test_dropsHalfClosers(self) -> None:
        """
        No answer to a client whose FIN is behind its request.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.settimeout(0.2)
            with contextlib.suppress(socket.timeout):
                connection.recv(1)
                return
            connection.settimeout(SECONDS)
            connection.sendall(HEADER % 3 + b"abc")

        status, _, rounds = self.served(script, "--case=polite", "--case=half-close")
        self.assertEqual(rounds["polite"]["verdict"], "clean")
        halfClose = rounds["half-close"]
        self.assertEqual(halfClose["verdict"], "loses data")
        self.assertEqual((halfClose["note"], halfClose["received"]), ("no answer", 0))
        self.assertEqual(status, 1)

    def test_otherBytes(self) -> None:
        """
        As many bytes as expected, but not the same.
        """
        numbers = count()

        def script(connection: socket.socket) -> None:
            number = next(numbers)  # 0 is the look at the address
            connection.recv(9999)
            connection.sendall(HEADER % 3 + (b"abd" if number == 3 else b"abc"))

        status, _, rounds = self.served(script, "--case=polite")
        self.assertEqual(rounds["polite"]["received"], 3)
        self.assertEqual(
            rounds["polite"]["note"], "other bytes than the polite client's"
        )
        self.assertEqual(status, 1)

    def test_clock(self) -> None:
        """
        An answer that varies now and then, as one that holds a clock, is judged
        by its own framing from then on: no bytes are missing.
        """
        numbers = count()

        def script(connection: socket.socket) -> None:
            number = next(numbers)  # 0 is the look at the address
            connection.recv(9999)
            connection.sendall(HEADER % 3 + (b"abc" if number < 3 else b"abd"))

        status, document, rounds = self.served(script, "--case=polite")
        self.assertEqual((status, rounds["polite"]["verdict"]), (0, "clean"), rounds)
        self.assertFalse(document["reference"]["static"])

    def test_varies(self) -> None:
        """
        An answer that varies is judged by its own framing.
        """
        numbers = count(1000)

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            size = next(numbers)
            connection.sendall(HEADER % size + bytes(size))

        status, document, rounds = self.served(script, "--case=polite")
        self.assertFalse(document["reference"]["static"])
        self.assertEqual(rounds["polite"]["verdict"], "clean")
        self.assertGreater(rounds["polite"]["expected"], 1001)
        self.assertEqual(status, 0)

    def test_lastAnswer(self) -> None:
        """
        Behind an answer with C{Connection: close} no other is due: a server
        that answers the first of two pipelined requests so loses nothing.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            header = (
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
            )
            connection.sendall(header + b"abc")
            linger(connection)

        status, _, rounds = self.served(script, "--case=pipeline")
        pipeline = rounds["pipeline"]
        self.assertEqual((status, pipeline["verdict"]), (0, "clean"), pipeline)
        self.assertEqual((pipeline["expected"], pipeline["received"]), (3, 3))

    def test_endless(self) -> None:
        """
        A stream that does not end is nothing to compare with; and where only
        an upload gets one, it is called endless, and nothing is lost.
        """

        def endless(connection: socket.socket) -> None:
            header = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(header)
            while True:
                connection.sendall(b"1\r\na\r\n")
                time.sleep(0.05)

        def script(connection: socket.socket) -> None:
            if connection.recv(9999).startswith(b"POST"):
                endless(connection)
            connection.sendall(HEADER % 3 + b"abc")

        limits = ("--longest=1", "--upload=9")
        status, document, rounds = self.served(script, "--case=upload", *limits)
        self.assertEqual((status, document["lost"]), (0, False))
        self.assertEqual(rounds["upload"]["verdict"], "endless")
        server = Scripted(self, lambda skt: skt.recv(9999) and endless(skt))
        status, _, err = self.probe(f"http://127.0.0.1:{server.port}/", *limits)
        self.assertEqual(status, 2)
        self.assertIn("must have one within 1 s", err)

    def test_stalls(self) -> None:
        """
        A server that stops in the midst of an announced answer hangs, and the
        rest is lost.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % 3 + b"ab")
            connection.recv(1)

        status, _, rounds = self.served(script, "--case=polite", "--patience=0.3")
        self.assertEqual(
            rounds["polite"]["note"], "no end within 0.3 s, 1 bytes missing"
        )
        self.assertEqual((status, rounds["polite"]["verdict"]), (1, "hangs"))

    def test_acceptsCut(self) -> None:
        """
        A server that answers half an upload with success, once it has seen
        its end.
        """
        wanted = {"answer": b"200 OK", "verdict": "accepts cut", "status": 1}
        for want in (
            wanted,
            {**wanted, "answer": b"400 No", "verdict": "clean", "status": 0},
        ):

            def script(connection: socket.socket, want: Any = want) -> None:
                upload = connection.recv(9999).startswith(b"POST")
                while upload and connection.recv(1 << 18):
                    pass
                answer = want["answer"] if upload else b"200 OK"
                connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % answer)

            status, _, rounds = self.served(script, "--case=cut-upload")
            self.assertEqual(rounds["cut-upload"]["verdict"], want["verdict"])
            self.assertEqual(status, want["status"])

    def test_brokenFraming(self) -> None:
        """
        A broken chunk size is an error in one line, and no loss.
        """
        header = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(header + b"-1FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n")

        server = Scripted(self, script)
        status, out, err = self.probe(f"http://127.0.0.1:{server.port}/")
        self.assertEqual((status, out, err.count("\n")), (2, "", 1))
        self.assertIn("chunk size b'-1FFFFFFFFFFFFFFFFF\\r': must be hexadecimal", err)

    def test_summary(self) -> None:
        """
        Each verdict has its own cases, and the status is shown.
        """
        numbers = count()

        def script(connection: socket.socket) -> None:
            number = next(numbers)  # 0 is the look at the address
            connection.recv(9999)
            size = 3 if number < 4 else 4
            connection.sendall(
                b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\nabc" % size
            )
            if number == 4:
                server.stopListening()

        server = Scripted(self, script)
        url = f"http://127.0.0.1:{server.port}/"
        cases = ("--case=polite", "--case=half-close", "--case=slow-reader")
        status, out, _ = self.probe(url, "--rounds=1", *cases)
        lines = out.splitlines()
        self.assertEqual(status, 1)
        self.assertEqual(
            lines[-1], f"{url}: loses data (half-close); error (slow-reader)"
        )
        self.assertIn(
            "  The polite client, too, got 404: that answer is judged.", lines
        )
        self.assertIn("404", lines[1])

    def test_doesNotSurvive(self) -> None:
        """
        A server that a reset kills.
        """

        def script(connection: socket.socket) -> None:
            try:
                clean(connection)
            except ConnectionResetError:
                server.stopListening()

        server = Scripted(self, script)
        status, document, rounds = self.judge(server.port, "--case=reset")
        self.assertEqual(rounds["reset"]["verdict"], "error")
        self.assertIn("refused", rounds["reset"]["note"])
        self.assertEqual((status, document["lost"]), (2, False))

    def test_table(self) -> None:
        """
        For people, with a line for each case, and the overall verdict.
        """
        port = Scripted(self, clean).port
        url = f"http://127.0.0.1:{port}/"
        status, out, err = self.probe(url, "--case=polite", "--case=half-close")
        lines = out.splitlines()
        self.assertEqual(
            [line.split()[0] for line in lines[1:3]], ["polite", "half-close"]
        )
        self.assertIn("3/3", lines[1])
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(lines[-1], f"{url}: clean")
        self.assertEqual((status, err), (0, ""))

    def test_progress(self) -> None:
        """
        A bar, on a terminal only, and then nothing is left of it.
        """
        with mock.patch.object(sys, "stderr", mock.Mock(wraps=io.StringIO())) as err:
            err.isatty = lambda: True
            progress = Progress(2)
            progress.show("one")
            progress.show("two")
            progress.stop()
            shown = "".join(call.args[0] for call in err.write.call_args_list)
        bars = shown.split("\r\x1b[K")
        full, empty = "#" * 10, "." * 10
        expected = ["", f"[{2 * empty}] 0/2 one", f"[{full}{empty}] 1/2 two", ""]
        self.assertEqual(bars, expected)


@once
class RawTests(ProbeTestCase):
    """
    C{--send}.
    """

    def send(
        self, script: Callable[[socket.socket], None], *cases: str
    ) -> tuple[int, Any]:
        server = Scripted(self, script)
        path = self.mktemp()
        Path(path).write_bytes(b"question\n")
        options = ["--json", "--rounds=1", "--patience=1", f"--send={path}"]
        options += [f"--case={case}" for case in cases]
        status, out, _ = self.probe(f"127.0.0.1:{server.port}", *options)
        return status, json.loads(out)

    def test_serverEnds(self) -> None:
        """
        All until the server's end is the answer.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9)
            connection.sendall(BODY)
            linger(connection)

        status, document = self.send(script)
        self.assertTrue(document["reference"]["serverEnds"])
        names = {case.name for case in command.CASES}
        names -= {"pipeline", "bare-fin", "cut-upload"}
        self.assertEqual({case["name"] for case in document["cases"]}, names)
        self.assertEqual((status, document["verdict"]), (0, "clean"), document)

    def test_clientEnds(self) -> None:
        """
        A server that waits for the client's FIN is not blamed for it.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9)
            connection.sendall(BODY)
            while connection.recv(1 << 18):
                pass

        status, document = self.send(
            script, "polite", "upload", "half-close", "never-closes"
        )
        self.assertFalse(document["reference"]["serverEnds"])
        names = [case["name"] for case in document["cases"]]
        self.assertNotIn("never-closes", names)
        polite = document["cases"][0]["rounds"][0]
        self.assertEqual(
            (polite["verdict"], polite["closedFirst"]), ("clean", "client")
        )
        self.assertEqual(status, 0, document)

    def test_loses(self) -> None:
        """
        close() with unread bytes in the socket.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9)
            connection.sendall(BODY)

        status, document = self.send(script, "polite", "upload")
        verdicts = {case["name"]: case["verdict"] for case in document["cases"]}
        self.assertEqual(verdicts["polite"], "clean")
        self.assertEqual(verdicts["upload"], "loses data")
        self.assertEqual(status, 1)


@once
class ClientTests(SynchronousTestCase):
    """
    What the kernel tells a client.
    """

    def setUp(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.client = Client(
            Address(socket.AF_INET, listening.getsockname()), Limits(5.0)
        )
        self.server, _ = listening.accept()
        self.server.settimeout(SECONDS)
        self.addCleanup(self.server.close)

    def ended(self) -> tuple[int, bool, bool]:
        self.client.close()
        return len(self.client.data), self.client.fin, self.client.reset

    def test_fin(self) -> None:
        """
        The server closes first, and has TIME_WAIT.
        """
        self.server.sendall(b"abc")
        self.server.close()
        self.client.receive()
        self.assertEqual(self.ended(), (3, True, False))
        self.assertEqual(self.client.closedFirst, "server")
        self.assertEqual(self.client.timeWait, TimeWait.SERVER)

    def test_halfClose(self) -> None:
        """
        The client closes first, and has TIME_WAIT.
        """
        self.client.send(b"abc")
        self.client.halfClose()

        def answer() -> None:
            while self.server.recv(3):
                pass
            self.server.close()

        server = threading.Thread(target=answer)
        server.start()
        self.client.receive()
        server.join()
        self.assertEqual(self.ended(), (0, True, False))
        self.assertEqual(self.client.closedFirst, "client")
        self.assertEqual(self.client.timeWait, TimeWait.CLIENT)

    def test_resetIsNoFin(self) -> None:
        """
        When a send has met the RST, the end of file that follows is no FIN,
        and what had arrived is kept.
        """
        self.server.sendall(b"abc")
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.server.close()
        self.client.send(b"x")
        self.client.push()
        self.client.receive()
        self.assertEqual(self.ended(), (3, False, True))
        self.assertEqual(self.client.timeWait, TimeWait.NONE)

    def test_resetBehindFin(self) -> None:
        """
        A server that has closed answers more bytes with RST.
        """
        self.server.sendall(b"abc")
        self.server.close()
        self.client.send(b"x", b"y", 1000)
        self.client.receive()
        self.client.overrun()
        self.assertEqual(self.ended(), (3, True, True))

    def test_letGo(self) -> None:
        """
        How long the server holds on is seen.
        """
        self.server.shutdown(socket.SHUT_WR)
        self.client.receive()
        closer = threading.Timer(0.2, self.server.close)
        closer.start()
        self.client.hold()
        closer.join()
        assert self.client.held is not None
        self.assertGreater(self.client.held, 0.1)
        self.ended()

    def test_letGoAfar(self) -> None:
        """
        Without the kernel's table, a server that has let go answers a byte with RST.
        """
        for close, held in ((self.server.close, True), (lambda: None, False)):
            self.setUp()
            self.client._limits = Limits(0.2)
            self.client._sides.visible = False
            if held:
                self.server.close()
            else:
                self.server.shutdown(socket.SHUT_WR)
            self.patch(sys.modules[Client.__module__], "_ROUND_TRIP", 0.3)
            self.client.receive()
            self.client.hold()
            self.assertEqual(self.client.held is not None, held, close)
            self.client.close()


@once
class AnswerTests(SynchronousTestCase):
    """
    Complete answers, and others.
    """

    def test_cut(self) -> None:
        """
        An answer that lacks its last byte, or more, is not complete.
        """
        for data, body in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                b"abc",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\na\r\n0\r\nX: y\r\n\r\n",
                b"a",
            ),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ):
            whole = readHTTP(data)
            self.assertEqual((whole.body, whole.complete), (body, True), data)
            self.assertEqual(whole.expected, len(body))
            for end in range(len(data)):
                cut = readHTTP(data[:end])
                self.assertIs(cut.complete, False, data[:end])
                self.assertTrue(body.startswith(cut.body))
            two = readHTTP(data + data, 2)
            self.assertEqual((two.body, two.complete), (body + body, True))
            self.assertIs(readHTTP(data + data[:-1], 2).complete, False)
            self.assertIs(readHTTP(data, 2).complete, False)

    def test_untilTheEnd(self) -> None:
        """
        Without a length nothing tells.
        """
        answer = readHTTP(b"HTTP/1.0 404 Not Found\r\n\r\nabc")
        self.assertEqual((answer.body, answer.status), (b"abc", 404))
        self.assertEqual((answer.complete, answer.expected), (None, None))

    def test_continued(self) -> None:
        """
        An interim answer is none.
        """
        final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        answer = readHTTP(b"HTTP/1.1 100 Continue\r\n\r\n" + final)
        self.assertEqual((answer.status, answer.complete), (200, True))

    def test_other(self) -> None:
        """
        Another protocol is none.
        """
        for data in (b"SSH-2.0-x\r\n", b"\x15\x03", b"HTTP/1.1 x y\r\n\r\n"):
            self.assertRaises(BadAnswer, readHTTP, data)


@once
class GeneratedTests(SynchronousTestCase):
    """
    Answers of all sorts, whole, cut and broken, against what is known of them.
    """

    #: So many; C{TEST_ANSWERS} asks for another number.
    answers = int(os.environ.get("TEST_ANSWERS", 20_000))

    def test_generated(self) -> None:
        """
        A whole answer is read as such, a cut one is never taken for whole, and
        a broken one is never worse than a L{BadAnswer}.
        """
        chance = random.Random(15)
        seen: Counter[str] = Counter()
        for _ in range(self.answers):
            ones = [generate(chance, last) for last in (False, True)]
            count = chance.choice((1, 2))
            data = b"".join(raw for raw, _, _ in ones[2 - count :])
            body = b"".join(body for _, body, _ in ones[2 - count :])
            delimited = ones[-1][2]
            fate = chance.choice(("whole", "cut", "broken"))
            seen[fate] += 1
            if fate == "whole":
                answer = readHTTP(data, count)
                self.assertEqual(answer.body, body, data)
                self.assertEqual(answer.complete, True if delimited else None, data)
            elif fate == "cut":
                cut = data[: chance.randrange(len(data))]
                answer = readHTTP(cut, count)
                self.assertTrue(body.startswith(answer.body), cut)
                headless = len(cut) < len(data) - len(ones[-1][1])
                if delimited or headless:
                    self.assertIs(answer.complete, False, cut)
            else:
                broken = bytearray(data)
                for _ in range(chance.randint(1, 3)):
                    broken[chance.randrange(len(broken))] = chance.randrange(256)
                with contextlib.suppress(BadAnswer):
                    readHTTP(bytes(broken), count)
        self.assertGreater(min(seen.values()), self.answers // 4)

    def test_verdicts(self) -> None:
        """
        With each answer, and each way to end, one verdict: nothing that is whole
        is called lost, and nothing that is cut is called clean.
        """
        chance = random.Random(16)
        target = HTTPTarget("http://a/")
        case = next(one for one in command.CASES if one.name == "half-close")
        seen: Counter[Verdict] = Counter()
        for _ in range(self.answers):
            data = generate(chance, True)[0]
            probe = Probe(target, Address(0, None), Limits(1), 0)
            probe.learn(lambda probe, data=data: replayed(data, "FIN"))
            cut = data[: chance.randrange(len(data))]
            for sent in (data, cut):
                for end in ("FIN", "RST", "none"):
                    one = judge(case, probe, replayed(sent, end))
                    seen[one.verdict] += 1
                    whole = {"FIN": "CLEAN", "RST": "RESETS", "none": "HANGS"}
                    broken = {"none": "HANGS"}
                    names = whole if sent is data else broken
                    expected = Verdict[names.get(end, "LOSES")]
                    self.assertIs(one.verdict, expected, (sent, end))
                    if sent is data:
                        self.assertFalse(one.lost, (sent, end))
        self.assertEqual(len(seen), 4)


def replayed(data: bytes, end: str) -> Played:
    """
    A connection on which these bytes came, and then FIN, RST or nothing.
    """
    client = SimpleNamespace(
        data=data,
        over=end != "none",
        fin=end == "FIN",
        reset=end == "RST",
        endless=False,
        closeNotify=None,
        held=None,
        closedFirst="server",
        seconds=0.0,
        timeWait=TimeWait.NONE,
    )
    return Played(cast(Client, client), readHTTP(data))


def generate(chance: random.Random, last: bool) -> tuple[bytes, bytes, bool]:
    """
    @param last: its end may be the end of the stream.
    @return: an answer, its body, and whether it says where it ends.
    """
    end = chance.choice((b"\r\n", b"\n"))
    body = chance.randbytes(chance.choice((0, 1, 2, 10, 300)))
    fields = [b"X-%d: %d" % (n, n) for n in range(chance.randrange(4))]
    framing = chance.choice(("length", "chunks", "none", "end" if last else "length"))
    payload = b""
    status = b"200 OK"
    if framing == "none":
        body = b""
        status = chance.choice((b"204 No Content", b"304 Not Modified"))
    elif framing == "length":
        payload = body
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        fields.append(
            chance.choice((b"Transfer-Encoding", b"transfer-encoding")) + b": chunked"
        )
        left = body
        while left:
            size = chance.randint(1, len(left))
            extension = chance.choice((b"", b";a=b", b" ;c"))
            payload += b"%x%s%s%s%s" % (size, extension, end, left[:size], end)
            left = left[size:]
        trailer = b"T: v" + end if chance.random() < 0.3 else b""
        payload += b"0" + end + trailer + end
    else:
        payload = body
    if last and framing != "end":
        fields.append(b"Connection: close")
    chance.shuffle(fields)
    interim = b"HTTP/1.1 103 Early Hints" + end + b"Link: x" + end + end
    head = end.join([b"HTTP/1.1 " + status, *fields]) + end + end
    before = interim if chance.random() < 0.1 else b""
    return before + head + payload, body, framing != "end"


@once
class OptionTests(ProbeTestCase):
    """
    One line for what is wrong, and exit status 2.
    """

    def test_wrong(self) -> None:
        """
        It names the value and what is allowed.
        """
        url = "http://127.0.0.1:1/"
        empty = self.mktemp()
        Path(empty).touch()
        port = "must be host:port, with a port of 1 to 65535"
        ascii = "must be ASCII without blanks, %-encoded"
        times = "must be a number of seconds from 0.001 to 300"
        for arguments, problem in (
            (
                ["x"],
                "'x': must be http://host:port/path, or host:port with --send FILE",
            ),
            (
                ["h2://a/"],
                "'h2://a/': the scheme must be http, https, ws or wss; "
                "perhaps https with --http2",
            ),
            (
                ["smtp://a/"],
                "'smtp://a/': the scheme must be http, https, ws or wss; "
                "for other protocols, host:port with --send FILE",
            ),
            (["ws://a/", "--method=PUT"], "--method 'PUT': is for HTTP/1.1 or HTTP/2"),
            ([url, "--message=x"], "--message 'x': is for WebSocket"),
            (
                [url, "--method=a b"],
                "argument --method: 'a b': must be a method, and not CONNECT",
            ),
            (
                [url, "--header=Connection: x"],
                "argument --header: 'Connection: x': must be 'Name: value', and none"
                " of connection, content-length, transfer-encoding",
            ),
            (
                ["https://a/", "--ca=/nothing"],
                "--ca '/nothing': must be a file of certificates: "
                "No such file or directory",
            ),
            (
                [url, "--unix=/nothing"],
                f"{url!r}: --unix '/nothing': No such file or directory",
            ),
            (
                [url, "--sni=a..b"],
                "argument --sni: 'a..b': must be the name of a host",
            ),
            (
                ["http://a..b/"],
                "'http://a..b/': 'a..b': must be the name of a host",
            ),
            (["http://a/b\nc"], f"'http://a/b\\nc': {ascii}"),
            (["http://"], "'http://': must be http://host:port/path"),
            (["http://[::1/"], "'http://[::1/': must be http://host:port/path"),
            (["http://a:0/"], "'http://a:0/': must be http://host:port/path"),
            (["http://a:x/"], "'http://a:x/': must be http://host:port/path"),
            (["http://a/b c"], f"'http://a/b c': {ascii}"),
            (["http://a/\xe4"], f"'http://a/\xe4': {ascii}"),
            (["a:0", "--send", __file__], f"'a:0': {port}"),
            (["a:65536", "--send", __file__], f"'a:65536': {port}"),
            ([":1", "--send", __file__], f"':1': {port}"),
            (["http://a/", "--send", __file__], f"'http://a/': {port}"),
            (
                ["a:1", "--send", "/nothing"],
                "--send '/nothing': must be a readable file: No such file or directory",
            ),
            (
                ["a:1", "--send", empty],
                f"--send {empty!r}: must have 1 to 268435456 bytes",
            ),
            (
                ["--rounds", "0", url],
                "argument --rounds: '0': must be a whole number from 1 to 1000",
            ),
            (
                [url, "--rounds", "1_0"],
                "argument --rounds: '1_0': must be a whole number from 1 to 1000",
            ),
            ([url, "--patience=nan"], f"argument --patience: 'nan': {times}"),
            ([url, "--patience=0"], f"argument --patience: '0': {times}"),
            (
                [url, "--upload=1e3"],
                "argument --upload: '1e3': must be a whole number from 1 to 1073741824",
            ),
            ([url, "--foo"], "unrecognized arguments: --foo"),
            ([], "the following arguments are required: target"),
        ):
            self.assertEqual(
                self.probe(*arguments), (2, "", f"term-probe: {problem}\n")
            )
        status, _, err = self.probe(url, "--case=foo")
        self.assertEqual((status, err.count("\n")), (2, 1))
        for name in ("'foo'", *(case.name for case in command.CASES)):
            self.assertIn(name, err)

    def test_fields(self) -> None:
        """
        The user's fields and method are what the polite client sends.
        """
        seen: list[bytes] = []

        def script(connection: socket.socket) -> None:
            for request in requests(connection):
                seen.append(request)
                connection.sendall(HEADER % 3 + b"abc"[: 3 * (request[:1] != b"H")])

        url = f"http://127.0.0.1:{Scripted(self, script).port}/"
        more = ("--header=X-One: 1", "--header", "host: other", "--method=HEAD")
        status, _, err = self.probe(url, "--case=polite", "--rounds=1", *more)
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(seen[-1].startswith(b"HEAD / HTTP/1.1\r\n"), seen[-1])
        self.assertIn(b"\r\nX-One: 1\r\n", seen[-1])
        self.assertEqual(seen[-1].lower().count(b"\r\nhost:"), 1)

    def test_version(self) -> None:
        """
        C{--version} says which one it is.
        """
        status, out, _ = self.probe("--version")
        self.assertEqual((status, out), (0, f"term-probe {version('twisted_term')}\n"))

    def test_closedPipe(self) -> None:
        """
        A reader that has seen enough is no reason for a traceback.
        """
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as out:
            done = subprocess.run(
                [sys.executable, "-m", "twisted_term.probe", url, "--case=polite"],
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=SECONDS,
            )
        self.assertEqual((done.returncode, done.stderr), (2, b""))

    def test_noOutput(self) -> None:
        """
        Standard output that is closed, and one that is full.
        """
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        probe = f"{sys.executable} -m twisted_term.probe {url} --case=polite"
        full = b"term-probe: standard output: No space left on device\n"
        for where, status, said in (
            (">&-", 0, b""),
            (">/dev/full", 2, full),
            ("--json >/dev/full", 2, full),
        ):
            done = subprocess.run(
                f"{probe} {where}", shell=True, stderr=subprocess.PIPE, timeout=SECONDS
            )
            self.assertEqual((done.returncode, done.stderr), (status, said), where)

    def test_reportFirst(self) -> None:
        """
        Whether the report can be written is known before a case is played.
        """
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        problem = "must be a file that can be written"
        for path, why, played in (
            ("/nothing/x", "No such file or directory", False),
            ("/dev/full", "No space left on device", True),
        ):
            status, out, err = self.probe(url, "--case=polite", f"--junit={path}")
            self.assertEqual(err, f"term-probe: --junit {path!r}: {problem}: {why}\n")
            self.assertEqual((status, "polite" in out), (2, played))

    def test_junit(self) -> None:
        """
        A case is a test case; what loses data fails, and says why.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % SIZE + BODY)

        path = self.mktemp()
        url = f"http://127.0.0.1:{Scripted(self, script).port}/"
        cases = ("--case=polite", "--case=upload", "--explain", "--rounds=1")
        status, out, _ = self.probe(url, f"--junit={path}", *cases)
        self.assertLessEqual(max(map(len, out.splitlines())), 80)
        suite = ElementTree.parse(path).getroot()
        self.assertEqual(
            [suite.get(name) for name in ("tests", "failures", "errors")],
            ["2", "1", "0"],
        )
        polite, upload = suite
        self.assertEqual((polite.get("name"), len(polite)), ("polite", 0))
        (failure,) = upload
        self.assertEqual(failure.tag, "failure")
        self.assertTrue(failure.get("message", "").startswith("loses data: "))
        for text in (out, failure.text or ""):
            self.assertIn("RFC 9112, section 9.6", " ".join(text.split()))
            self.assertIn("reset by the server", text)
            self.assertIn("server: ESTABLISHED", text)
            self.assertIn("sent: b'POST / HTTP/1.1", text)
        self.assertEqual(status, 1)

    def test_unreachable(self) -> None:
        """
        Nobody listens.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        status, out, err = self.probe(url)
        self.assertEqual((status, out), (2, ""))
        self.assertEqual(err, f"term-probe: {url!r}: [Errno 111] Connection refused\n")

    def test_noHTTP(self) -> None:
        """
        Another protocol, or nothing, is nothing to compare with.
        """
        for data, problem in (
            (b"SSH-2.0-x\r\n", "b'SSH-2'...: must be an HTTP answer"),
            (b"", "no answer to a polite client"),
        ):
            server = Scripted(self, lambda skt, data=data: skt.sendall(data))
            url = f"http://127.0.0.1:{server.port}/"
            status, _, err = self.probe(url)
            self.assertEqual((status, err), (2, f"term-probe: {url!r}: {problem}\n"))

    def test_silent(self) -> None:
        """
        A server that never answers, and one that speaks no TLS.
        """
        port = Scripted(self, lambda skt: skt.recv(9999) and skt.recv(1)).port
        url = f"http://127.0.0.1:{port}/"
        status, _, err = self.probe(url, "--patience=0.5")
        problem = "no answer to a polite client within 0.5 s"
        self.assertEqual((status, err), (2, f"term-probe: {url!r}: {problem}\n"))
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        port = Scripted(self, lambda skt: skt.recv(9999) and skt.sendall(answer)).port
        url = f"https://127.0.0.1:{port}/"
        status, _, err = self.probe(url)
        problem = "must speak TLS, and does not"
        self.assertEqual((status, err), (2, f"term-probe: {url!r}: {problem}\n"))


class TwistedTests(SynchronousTestCase):
    """
    The point of it all: processes, and the command as a user has it.
    """

    def verdict(self, listen: str, *arguments: str) -> tuple[int, Any]:
        """
        @return: the exit status, and what was printed.
        """
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        Path(directory.name, "file").write_bytes(BODY)
        web = ("web", "--path", directory.name, "--listen")
        port = Server(self, (*TWISTD, *web, listen)).port()
        url = f"http://127.0.0.1:{port}/file"
        done = subprocess.run(
            [sys.executable, "-m", "twisted_term.probe", url, "--json", *arguments],
            stdout=subprocess.PIPE,
            timeout=3 * SECONDS,
        )
        return done.returncode, json.loads(done.stdout)

    def test_bare(self) -> None:
        """
        Bare twisted.web loses data.
        """
        cases = ("--case=polite", "--case=pipeline", "--case=half-close")
        status, document = self.verdict("tcp:0:interface=127.0.0.1", *cases)
        verdicts = {case["name"]: case["verdict"] for case in document["cases"]}
        self.assertEqual(verdicts["polite"], "clean")
        self.assertEqual(verdicts["half-close"], "loses data")
        self.assertEqual((status, document["verdict"]), (1, "loses data"))

    def test_term(self) -> None:
        """
        Behind C{term:} it is clean.
        """
        listen = "term:tcp:0:interface=127.0.0.1:lingerIdle=0.5"
        status, document = self.verdict(listen, "--rounds=1")
        self.assertEqual((status, document["verdict"]), (0, "clean"), document)
        self.assertEqual(len(document["cases"]), len(command.CASES) - 1)
