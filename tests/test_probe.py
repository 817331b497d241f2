"""
term-probe, against servers that are made to be judged, and against
twisted.web, bare and behind C{term:}.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any, Callable
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.probe import _command
from twisted_term.probe._answers import BadAnswer, readHTTP
from twisted_term.probe._client import Address, Client
from twisted_term.probe._sides import TimeWait

from .processes import TWISTD, Server
from .support import SECONDS, once

_SIZE = 3_000_000
_BODY = os.urandom(_SIZE)
_HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)


class Scripted:
    """
    A server that does as the test says, each connection in a thread.
    """

    def __init__(self, test: Any, script: Callable[[socket.socket], None]) -> None:
        self._script = script
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        test.addCleanup(self._stop)

    def stopListening(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)

    def _stop(self) -> None:
        self.stopListening()
        for thread in self._threads:
            thread.join(SECONDS)
        self.listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self._threads.append(
                threading.Thread(target=self._serve, args=[connection])
            )
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        with connection, contextlib.suppress(OSError):
            self._script(connection)


def requests(connection: socket.socket) -> Any:
    """
    The requests, until the last one, or the client's FIN.
    """
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(9999)
            if not more:
                return
            data += more
        request, _, data = data.partition(b"\r\n\r\n")
        yield request
        if b"Connection: close" in request:
            return


def linger(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(0.3)
    while connection.recv(1 << 18):
        pass


def clean(connection: socket.socket) -> None:
    for _ in requests(connection):
        connection.sendall(_HEADER % _SIZE + _BODY)
    linger(connection)


class ProbeTestCase(SynchronousTestCase):
    def probe(self, *arguments: str) -> tuple[int, str, str]:
        """
        @return: exit status, standard output, standard error.
        """
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "argv", ["term-probe", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            end = self.assertRaises(SystemExit, _command.main)
        return end.code, out.getvalue(), err.getvalue()

    def judge(self, port: int, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        """
        @return: exit status, the document, and the worst round of each case.
        """
        options = ["--json", "--rounds=1", *arguments]
        status, out, err = self.probe(f"http://127.0.0.1:{port}/x", *options)
        self.assertEqual(err, "")
        document = json.loads(out)
        return status, document, {c["name"]: c["rounds"][-1] for c in document["cases"]}


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
        self.assertEqual(list(rounds), [case.name for case in _command.CASES])
        self.assertEqual(rounds["pipeline"]["received"], 2 * _SIZE)
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
            connection.sendall(_HEADER % _SIZE + _BODY)

        status, document, rounds = self.served(script, "--case=upload")
        self.assertEqual((status, document["verdict"]), (1, "loses data"))
        upload = rounds["upload"]
        self.assertEqual((upload["end"], upload["timeWait"]), ("RST", "none"))
        self.assertEqual(upload["expected"], _SIZE)
        self.assertLess(upload["received"], _SIZE)

    def test_resets(self) -> None:
        """
        A RST behind the whole answer.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(_HEADER % 3 + b"abc")
            time.sleep(0.1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

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
            connection.sendall(_HEADER % _SIZE + _BODY[:1000])

        status, document, rounds = self.served(script, "--case=polite")
        self.assertEqual((status, document["verdict"]), (1, "loses data"))
        polite = rounds["polite"]
        self.assertEqual((polite["expected"], polite["received"]), (_SIZE, 1000))
        self.assertEqual(polite["end"], "FIN")
        self.assertEqual(polite["note"], f"{_SIZE - 1000} bytes missing")

    def test_neverCloses(self) -> None:
        """
        The answer is whole, and has no end.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            connection.sendall(_HEADER % 3 + b"abc")
            connection.recv(1)

        status, document, rounds = self.served(
            script, "--case=polite", "--patience=0.3", "--rounds=3"
        )
        self.assertEqual((status, document["verdict"]), (0, "hangs"))
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
            connection.sendall(_HEADER % 3 + b"abc")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

        cases = ("--case=polite", "--case=never-closes", "--patience=0.5")
        status, _, rounds = self.served(script, *cases)
        self.assertEqual(rounds["polite"]["verdict"], "clean")
        self.assertEqual(rounds["never-closes"]["verdict"], "hangs")
        self.assertEqual(rounds["never-closes"]["end"], "FIN")
        self.assertEqual(status, 0)

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
            connection.sendall(_HEADER % 3 + b"abc")

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
            connection.sendall(_HEADER % 3 + (b"abc" if number < 3 else b"abd"))

        status, _, rounds = self.served(script, "--case=polite")
        self.assertEqual(rounds["polite"]["received"], 3)
        self.assertEqual(
            rounds["polite"]["note"], "other bytes than the polite client's"
        )
        self.assertEqual(status, 1)

    def test_varies(self) -> None:
        """
        An answer that varies is judged by its own framing.
        """
        numbers = count(1000)

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            size = next(numbers)
            connection.sendall(_HEADER % size + bytes(size))

        status, document, rounds = self.served(script, "--case=polite")
        self.assertFalse(document["reference"]["static"])
        self.assertEqual(rounds["polite"]["verdict"], "clean")
        self.assertGreater(rounds["polite"]["expected"], 1001)
        self.assertEqual(status, 0)

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
        self.assertIn("3 of 3", lines[1])
        self.assertEqual(lines[-1], f"{url}: clean")
        self.assertEqual((status, err), (0, ""))

    def test_progress(self) -> None:
        """
        A bar, on a terminal only, and then nothing is left of it.
        """
        with mock.patch.object(sys, "stderr", mock.Mock(wraps=io.StringIO())) as err:
            err.isatty = lambda: True
            progress = _command._Progress(2)
            progress.show("one")
            progress.show("two")
            progress.clear()
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
            connection.sendall(_BODY)
            linger(connection)

        status, document = self.send(script)
        self.assertTrue(document["reference"]["serverEnds"])
        names = {case.name for case in _command.CASES} - {"pipeline"}
        self.assertEqual({case["name"] for case in document["cases"]}, names)
        self.assertEqual((status, document["verdict"]), (0, "clean"), document)

    def test_clientEnds(self) -> None:
        """
        A server that waits for the client's FIN is not blamed for it.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9)
            connection.sendall(_BODY)
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
            connection.sendall(_BODY)

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
        self.client = Client(Address(socket.AF_INET, listening.getsockname()), 5.0)
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
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
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
        Where there is no table, a byte draws a RST from who has let go.
        """
        for close, held in ((self.server.close, True), (lambda: None, False)):
            self.setUp()
            self.client._patience = 0.2
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
            (["https://a/"], "'https://a/': must be http://host:port/path"),
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
        for name in ("'foo'", *(case.name for case in _command.CASES)):
            self.assertIn(name, err)

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
        Path(directory.name, "file").write_bytes(_BODY)
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
        self.assertEqual(len(document["cases"]), len(_command.CASES))
