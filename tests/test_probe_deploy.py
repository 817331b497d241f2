"""
C{term-probe deploy}: what is lost when a server is told to stop.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.processes import freePort

from .certificates import certificateFile, needs
from .probing import (
    BODY,
    HEADER,
    SIZE,
    ProbeTestCase,
    Scripted,
    clean,
    linger,
    requests,
)
from .processes import TWISTD, Server
from .support import once

#: Answers each request, and accepts each WebSocket.
_ASGI = """
async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"abc"})
"""
_SORTS = {"download", "upload", "idle", "next", "queue", "late"}


class DeployTestCase(ProbeTestCase):
    def deploy(self, url: str, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        """
        @return: exit status, the document, and the fates of each sort of client
            in the first round.
        """
        options = ("--json", "--connections=2", "--patience=8", *arguments)
        status, out, err = self.probe("deploy", url, *options)
        self.assertEqual(err, "")
        document = json.loads(out)
        cases = document["rounds"][0]["cases"]
        fates = {name: [one["fate"] for one in ones] for name, ones in cases.items()}
        return status, document, fates

    def folder(self, body: bytes = BODY) -> str:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        Path(directory.name, "file").write_bytes(body)
        return directory.name


class TwistedTests(DeployTestCase):
    """
    twisted.web, which the command starts.
    """

    def web(self, listen: str, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        port = freePort()
        listen = listen.format(port)
        # More than the buffers on the way can hold.
        folder = self.folder(6 * BODY)
        command = (*TWISTD, "web", "--path", folder, "--listen", listen)
        url = f"http://127.0.0.1:{port}/file"
        return self.deploy(url, *arguments, "--", *command)

    def test_bare(self) -> None:
        """
        Bare, it loses what is in flight.
        """
        status, document, fates = self.web("tcp:{}:interface=127.0.0.1")
        self.assertEqual(status, 1)
        self.assertEqual({*fates}, _SORTS)
        self.assertEqual(fates["download"], ["truncated"] * 2)
        self.assertNotIn("whole", fates["upload"])
        self.assertEqual(fates["idle"], ["ended"] * 2)
        self.assertGreaterEqual(document["lost"], 4)

    def test_term(self) -> None:
        """
        Behind C{term:} nothing is lost, and the exit status is 0.
        """
        status, document, fates = self.web(
            "term:tcp:{}:interface=127.0.0.1", "--rounds=2"
        )
        self.assertEqual((status, document["lost"]), (0, 0), document)
        self.assertEqual(
            [one["end"] for one in document["rounds"]], ["exit status 0"] * 2
        )
        for name in ("download", "upload", "next", "queue"):
            self.assertEqual(fates[name], ["whole"] * 2, name)
        self.assertEqual(fates["idle"], ["ended"] * 2)

    def tls(self, prefix: str, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        """
        The same over TLS.
        """
        pem, port = certificateFile(self), freePort()
        files = f"privateKey={pem}:certKey={pem}"
        listen = f"{prefix}ssl:{port}:interface=127.0.0.1:{files}"
        command = (*TWISTD, "web", "--path", self.folder(6 * BODY), "--listen", listen)
        url = f"https://localhost:{port}/file"
        return self.deploy(url, f"--ca={pem}", *arguments, "--", *command)

    def test_tls(self) -> None:
        """
        Over TLS, and over HTTP/2, bare loses, and behind C{term:} nothing is lost.
        A client in the accept queue has not even begun with TLS.
        """
        needs("h2", "priority")
        for more in ((), ("--http2",)):
            status, document, fates = self.tls("term:", *more)
            self.assertEqual((status, document["lost"]), (0, 0), document)
            for name in ("download", "upload", "next", "queue"):
                self.assertEqual(fates[name], ["whole"] * 2, name)
            self.assertEqual(fates["idle"], ["ended"] * 2)
            status, document, fates = self.tls("", *more)
            self.assertEqual(status, 1)
            # It closes with FIN, and resets if something comes then.
            self.assertLessEqual({*fates["download"]}, {"truncated", "reset"})
            self.assertNotIn("whole", fates["queue"])

    def test_termWebSocket(self) -> None:
        """
        A WebSocket of Daphne, behind C{term:}, gets its Close frame, beside all
        others, and alone.
        """
        needs("daphne", "wsproto")
        folder, port = self.folder(), freePort()
        Path(folder, "echo.py").write_text(_ASGI)
        listen = f"term:tcp:{port}:interface=127.0.0.1:drainTimeout=3"
        run = (
            f"import sys; sys.path.insert(0, {folder!r});"
            "from daphne.cli import CommandLineInterface as c; c.entrypoint()"
        )
        command = (sys.executable, "-c", run, "-v0", "-e", listen, "echo:application")
        where = f"127.0.0.1:{port}"
        for arguments, sorts in (
            ([f"http://{where}/", "--websocket=/socket"], {"websocket", *_SORTS}),
            ([f"ws://{where}/socket"], {"websocket"}),
        ):
            status, document, fates = self.deploy(*arguments, "--", *command)
            self.assertEqual({*fates}, sorts)
            self.assertEqual(fates["websocket"], ["ended"] * 2)
            self.assertEqual((status, document["lost"]), (0, 0), document)

    def test_pid(self) -> None:
        """
        A process that runs already.
        """
        listen = "term:tcp:0:interface=127.0.0.1"
        server = Server(
            self, (*TWISTD, "web", "--path", self.folder(), "--listen", listen)
        )
        url = f"http://127.0.0.1:{server.port()}/file"
        status, document, _ = self.deploy(
            url, f"--pid={server.process.pid}", "--connections=1"
        )
        self.assertEqual((status, document["rounds"][0]["end"]), (0, "ended"), document)


#: One that answers the first request of each connection, and keeps it; what a
#: SIGTERM does is its argument.
_SERVER = textwrap.dedent(
    """
    import os, signal, socket, sys, threading, time
    port, end, stream = int(sys.argv[1]), sys.argv[2], b"Transfer-Encoding: chunked"
    listening = socket.create_server(("127.0.0.1", port))
    ending = threading.Event()
    def serve(connection):
        data = b""
        while True:
            while b"\\r\\n\\r\\n" not in data:
                more = connection.recv(9999)
                if not more:
                    return
                data += more
            request, _, data = data.partition(b"\\r\\n\\r\\n")
            if request.startswith(b"GET /events"):
                connection.sendall(b"HTTP/1.1 200 OK\\r\\n%s\\r\\n\\r\\n" % stream)
                while not ending.is_set():
                    connection.sendall(b"1\\r\\ne\\r\\n")
                    time.sleep(0.05)
                if end == "well":
                    connection.sendall(b"0\\r\\n\\r\\n")
                connection.shutdown(socket.SHUT_WR)
                return
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nabc")
            if b"Connection: close" in request:
                connection.shutdown(socket.SHUT_WR)
    def stop(*ignored):
        ending.set()
        if end == "never":
            return
        listening.close()
        time.sleep(0.5)
        os._exit(7)
    signal.signal(signal.SIGTERM, stop)
    def accept():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    while True:
        time.sleep(0.05)  # any thread may get the signal; this one runs the handler
    """
)


@once
class FateTests(DeployTestCase):
    """
    Servers that do as they are told.
    """

    def served(self, end: str, *arguments: str) -> tuple[int, Any, dict[str, Any]]:
        port = freePort()
        command = ("--", sys.executable, "-c", _SERVER, str(port), end)
        url = f"http://127.0.0.1:{port}/"
        return self.deploy(url, "--stream=/events", *arguments, *command)

    def test_stream(self) -> None:
        """
        A stream that comes to its end, and one that is cut.
        """
        _, document, fates = self.served("well")
        self.assertEqual(fates["stream"], ["whole"] * 2)
        self.assertEqual(document["rounds"][0]["end"], "exit status 7")
        status, _, fates = self.served("badly")
        self.assertEqual((status, fates["stream"]), (1, ["truncated"] * 2))

    def test_doesNotEnd(self) -> None:
        """
        A server that does not end within the limit is killed.
        """
        status, document, fates = self.served("never", "--limit=1", "--patience=1")
        self.assertIs(document["rounds"][0]["end"], None)
        self.assertEqual(fates["download"], ["whole"] * 2)
        self.assertIn(status, (1, 3))

    def test_reload(self) -> None:
        """
        A command reloads it, and it goes on: nothing is lost.
        """
        path = self.mktemp()
        command = shlex.join([sys.executable, "-c", f"open({path!r}, 'w').close()"])

        def patient(connection: socket.socket) -> None:
            for request in requests(connection):
                if request.startswith(b"POST"):
                    left = 2 << 20  # and what has come with the header
                    while left > 1 << 16:
                        left -= len(connection.recv(1 << 16))
                connection.sendall(HEADER % SIZE + BODY)
            linger(connection)

        url = f"http://127.0.0.1:{Scripted(self, patient).port}/"
        status, document, fates = self.deploy(
            url, f"--reload={command}", "--patience=2", "--rounds=2"
        )
        self.assertTrue(os.path.exists(path))
        self.assertEqual((status, document["lost"]), (0, 0), document)
        self.assertEqual(fates["late"], ["whole"] * 2)

    def test_through(self) -> None:
        """
        What clients of a balancer see is counted: answers, and its failures.
        """
        reloaded = self.mktemp()

        def balancer(connection: socket.socket) -> None:
            for _ in requests(connection):
                if os.path.exists(reloaded):
                    connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
                else:
                    connection.sendall(HEADER % SIZE + BODY)

        command = shlex.join([sys.executable, "-c", f"open({reloaded!r}, 'w').close()"])
        front = f"http://127.0.0.1:{Scripted(self, balancer).port}/"
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        arguments = (f"--reload={command}", f"--through={front}", "--patience=2")
        status, _, fates = self.deploy(url, *arguments)
        self.assertEqual({*fates["through"]}, {"whole", "failed"})
        self.assertEqual(status, 1)

    def test_table(self) -> None:
        """
        For people, in 80 columns.
        """
        port = freePort()
        command = ("--", sys.executable, "-c", _SERVER, str(port), "well")
        url = f"http://127.0.0.1:{port}/"
        status, out, err = self.probe("deploy", url, *command)
        lines = out.splitlines()
        self.assertEqual(err, "")
        self.assertEqual(
            [line.split()[0] for line in lines[:-2]],
            ["client", "download", "upload", "idle", "next", "queue", "late"],
        )
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertTrue(lines[-2].startswith("exit status 7, "), lines[-2])
        self.assertTrue(lines[-1].startswith(url), lines[-1])
        self.assertIn(status, (0, 1))


@once
class OptionTests(DeployTestCase):
    """
    One line for what is wrong, and exit status 2.
    """

    def test_wrong(self) -> None:
        """
        It names the value and what is allowed.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
            ways = "needs one of: -- COMMAND, --pid PID, --reload COMMAND"
            for arguments, problem in (
                ([url], ways),
                ([url, "--pid=9", "--", "x"], ways),
                (
                    [url, "--pid=9", "--rounds=2"],
                    "--rounds 2: a process can be stopped once",
                ),
                (
                    [url, "--signal=FOO", "--", "x"],
                    "argument --signal: 'FOO': must be the name of a signal, as TERM,"
                    " HUP or QUIT",
                ),
                (
                    [url, "--reload='"],
                    'argument --reload: "\'": must be a command: No closing quotation',
                ),
                (
                    ["ws://a/", "--http2", "--", "x"],
                    "--http2 True: is for HTTP/2",
                ),
                (
                    [url, "--through=ws://a/", "--", "x"],
                    "'ws://a/': the scheme must be http or https here",
                ),
                (
                    [url, "--stream=x", "--", "x"],
                    "'x': must be a path that starts with /",
                ),
                (
                    [url, "--", "x"],
                    f"{url!r}: something listens there before the command is started",
                ),
            ):
                self.assertEqual(
                    self.probe("deploy", *arguments),
                    (2, "", f"term-probe: {problem}\n"),
                )

    def test_doesNotStart(self) -> None:
        """
        What the command has said is shown.
        """
        url = f"http://127.0.0.1:{freePort()}/"
        command = ("--", sys.executable, "-c", "raise SystemExit('no way')")
        status, out, err = self.probe("deploy", url, *command)
        self.assertEqual((status, out), (2, ""))
        self.assertIn("the command must listen: it ends", err)
        self.assertTrue(err.endswith("no way\n"), err)


@once
class FrozenTests(SynchronousTestCase):
    """
    A server that stands still while it is told.
    """

    def test_tree(self) -> None:
        """
        The process and its children are stopped, and go on.
        """
        from twisted_term.probe.stopping import ProcessStop, _state, _tree

        script = (
            "import subprocess, sys; child = ['-c', 'import time; time.sleep(60)'];"
            "process = subprocess.Popen([sys.executable, *child]);"
            "print(process.pid, flush=True); process.wait()"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            try:
                stop = ProcessStop(parent.pid, signal.SIGTERM)
                self.assertEqual(_tree(parent.pid), [parent.pid, child])
                with stop.frozen():
                    self.assertEqual(_state(child), "T")
                    self.assertEqual(_state(parent.pid), "T")
                self.assertNotEqual(_state(child), "T")
            finally:
                os.kill(child, signal.SIGKILL)
