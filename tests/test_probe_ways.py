"""
term-probe over TLS and UNIX sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from .certificates import IGNORE_UNEXPECTED_EOF, VERSIONS, certificateFile, isTruncation
from .probing import BODY, HEADER, SIZE, ProbeTestCase, Scripted, clean, requests
from .processes import TWISTD, Server
from .support import REPEATED, SECONDS, once


def folder(test: Any) -> str:
    """
    A folder for as long as the test runs; its path is short.
    """
    directory = tempfile.TemporaryDirectory()
    test.addCleanup(directory.cleanup)
    return directory.name


@once
class TLSTests(ProbeTestCase):
    """
    Servers that are made of Python's C{ssl}.
    """

    def setUp(self) -> None:
        self.path = certificateFile(self)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.path)
        self.context.options &= ~IGNORE_UNEXPECTED_EOF

    def url(self, script: Any) -> str:
        def wrapped(connection: socket.socket) -> None:
            secured = self.context.wrap_socket(
                connection, server_side=True, suppress_ragged_eofs=False
            )
            with secured:
                script(secured)

        return f"https://localhost:{Scripted(self, wrapped).port}/"

    def test_bareFIN(self) -> None:
        """
        All bytes, and then FIN without close_notify.
        """

        def script(connection: Any) -> None:
            for _ in requests(connection):
                connection.sendall(HEADER % SIZE + BODY)

        url = self.url(script)
        case = ("--case=polite", f"--ca={self.path}")
        status, _, rounds = self.judgeURL(url, *case)
        polite = rounds["polite"]
        self.assertEqual((status, polite["verdict"]), (0, "bare FIN"), polite)
        self.assertEqual((polite["end"], polite["closeNotify"]), ("FIN", False))

    def test_closeNotify(self) -> None:
        """
        close_notify and then FIN; the server waits for the client's.
        """

        def script(connection: Any) -> None:
            for _ in requests(connection):
                connection.sendall(HEADER % 3 + b"abc")
            connection.unwrap()

        for version in ("1.2", "1.3"):
            url = self.url(script)
            arguments = ("--case=polite", f"--ca={self.path}", f"--tls={version}")
            status, _, rounds = self.judgeURL(url, *arguments)
            polite = rounds["polite"]
            self.assertEqual((status, polite["verdict"]), (0, "clean"), polite)
            self.assertEqual((polite["end"], polite["closeNotify"]), ("FIN", True))
            self.assertEqual(polite["closedFirst"], "server")

    def test_halfClose(self) -> None:
        """
        The client's half-close is close_notify and FIN; its bare FIN has none.
        """
        ends: list[str] = []

        def script(connection: Any) -> None:
            connection.recv(9999)
            connection.sendall(HEADER % 3 + b"abc")
            try:
                while connection.recv(9999):
                    pass
                ends.append("close_notify")
            except ssl.SSLError as error:
                if isTruncation(error):
                    ends.append("FIN")

        cases = ("--case=half-close", "--case=bare-fin", f"--ca={self.path}")
        self.judgeURL(self.url(script), *cases)
        self.assertEqual(ends[-2:], ["close_notify", "FIN"])

    def test_alert(self) -> None:
        """
        A server that answers a bare FIN in mid-upload with a fatal alert has
        not taken it for the end of the upload.
        """

        def script(connection: Any) -> None:
            if connection.recv(9999).startswith(b"POST"):
                with contextlib.suppress(OSError):
                    while connection.recv(9999):
                        pass
            else:
                connection.sendall(HEADER % 3 + b"abc")
                connection.unwrap()

        url = self.url(script)
        for version in ("1.2", "1.3"):
            case = ("--case=cut-upload", f"--ca={self.path}", f"--tls={version}")
            status, _, rounds = self.judgeURL(url, *case)
            self.assertEqual((status, rounds["cut-upload"]["verdict"]), (0, "clean"))

    def test_untrusted(self) -> None:
        """
        A certificate that is not trusted is an error, unless C{--insecure}
        says that it does not matter; SNI has the name that was given.
        """
        names: list[Any] = []
        self.context.sni_callback = lambda skt, name, context: names.append(name)
        url = self.url(clean)
        status, _, err = self.probe(url, "--case=polite")
        self.assertEqual((status, err.count("\n")), (2, 1))
        self.assertIn("certificate verify failed", err)
        more = ("--insecure", "--sni=elsewhere.example", "--case=polite", "--rounds=1")
        status, _, err = self.probe(url, *more)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(names[-1], "elsewhere.example")

    def test_noTLS(self) -> None:
        """
        A server without TLS is an error in one line.
        """
        port = Scripted(self, lambda skt: skt.sendall(b"220 hello\r\n")).port
        status, _, err = self.probe(f"https://127.0.0.1:{port}/", "--insecure")
        self.assertEqual((status, err.count("\n")), (2, 1))


@once
class UNIXTests(ProbeTestCase):
    """
    All cases over a UNIX socket.
    """

    def test_clean(self) -> None:
        """
        A server that lingers is clean in all of them, and lets go.
        """
        path = os.path.join(folder(self), "socket")
        Scripted(self, clean, path)
        status, document, rounds = self.judgeURL("http://x/", f"--unix={path}")
        self.assertEqual((status, document["verdict"]), (0, "clean"), document)
        self.assertIn("never-closes", rounds)
        self.assertEqual({r["timeWait"] for r in rounds.values()}, {"unknown"})

    def test_loses(self) -> None:
        """
        close() with unread bytes in the socket.
        """

        def script(connection: socket.socket) -> None:
            connection.recv(9999)
            with contextlib.suppress(OSError):
                connection.sendall(HEADER % 3 + b"ab")

        path = os.path.join(folder(self), "socket")
        Scripted(self, script, path)
        status, _, rounds = self.judgeURL(
            "http://x/", f"--unix={path}", "--case=half-close"
        )
        self.assertEqual((status, rounds["half-close"]["verdict"]), (1, "loses data"))


@once
class AddressTests(ProbeTestCase):
    """
    Nothing is sent to any other address, whatever the server says.
    """

    def test_redirect(self) -> None:
        """
        A redirect is an answer, and not followed; nor is a proxy asked that
        the environment names.
        """
        other = Scripted(self, clean)
        field = f"Location: http://127.0.0.1:{other.port}/".encode()
        answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n%s\r\n\r\n" % field

        def script(connection: socket.socket) -> None:
            for _ in requests(connection):
                connection.sendall(answer)

        for name in ("http_proxy", "https_proxy", "all_proxy"):
            self.patch(
                os, "environ", {**os.environ, name: f"http://127.0.0.1:{other.port}"}
            )
        server = Scripted(self, script)
        _, _, rounds = self.judge(server.port, "--patience=2")
        self.assertEqual({r["status"] for r in rounds.values()} - {None}, {302})
        self.assertGreater(server.connections, 10)
        self.assertEqual(other.connections, 0)

    def test_connections(self) -> None:
        """
        Each C{connect} of the process goes to the address that was named.
        """
        port = Scripted(self, clean).port
        script = (
            "import sys\n"
            "def hook(event, values):\n"
            "    if event in ('socket.connect', 'socket.sendto', 'socket.sendmsg'):\n"
            "        print(values[-1], file=sys.stderr)\n"
            "sys.addaudithook(hook)\n"
            "from twisted_term.probe.command import main\n"
            "main()\n"
        )
        url = f"http://127.0.0.1:{port}/"
        done = subprocess.run(
            [sys.executable, "-c", script, url, "--rounds=1", "--json"],
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual({*done.stderr.splitlines()}, {f"('127.0.0.1', {port})"})


@once
class CaptureTests(ProbeTestCase):
    """
    C{--pcap}.
    """

    def test_packets(self) -> None:
        """
        The file has the packets of the cases.
        """
        if os.geteuid() != 0:
            raise SkipTest("to capture needs root")
        if not (shutil.which("tcpdump") or shutil.which("dumpcap")):
            raise SkipTest("tcpdump and dumpcap are not installed")
        reader = shutil.which("tshark")
        if reader is None:
            raise SkipTest("tshark is not installed")
        path = os.path.join(folder(self), "packets.pcap")
        port = Scripted(self, clean).port
        url = f"http://127.0.0.1:{port}/"
        status, _, err = self.probe(
            url, f"--pcap={path}", "--case=half-close", "--rounds=1"
        )
        self.assertEqual((status, err), (0, ""))
        done = subprocess.run(
            [reader, "-r", path, "-d", f"tcp.port=={port},http", "-T", "fields"]
            + ["-e", "http.request.method", "-Y", "http.request"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual({*done.stdout.split()}, {"GET"}, done.stderr)

    def test_none(self) -> None:
        """
        Without the two commands it says what it needs.
        """
        from twisted_term.probe import capture

        self.patch(capture, "_PATH", "/nowhere")
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        status, _, err = self.probe(url, "--pcap=x")
        self.assertEqual(status, 2)
        self.assertEqual(
            err, f"term-probe: {url!r}: --pcap: needs tcpdump or dumpcap\n"
        )

    def test_fails(self) -> None:
        """
        What the command has said is shown, in one line.
        """
        if not (shutil.which("tcpdump") or shutil.which("dumpcap")):
            raise SkipTest("tcpdump and dumpcap are not installed")
        url = f"http://127.0.0.1:{Scripted(self, clean).port}/"
        status, out, err = self.probe(url, "--pcap=/nothing/x")
        self.assertEqual((status, out, err.count("\n")), (2, "", 1), err)
        self.assertIn("--pcap '/nothing/x': ", err)


class TwistedTests(SynchronousTestCase):
    """
    twisted.web, as processes.
    """

    def verdict(
        self, prefix: str, limits: str, *arguments: str
    ) -> tuple[int, dict[str, Any]]:
        """
        @return: the exit status, and the worst round of each case.
        """
        certificate = certificateFile(self)
        place = folder(self)
        Path(place, "file").write_bytes(BODY)
        listen = f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate}"
        listen += f":certKey={certificate}{limits}"
        web = ("web", "--path", place, "--listen")
        port = Server(self, (*TWISTD, *web, listen)).port()
        done = subprocess.run(
            [sys.executable, "-m", "twisted_term.probe", "--json", "--rounds=1"]
            + [f"--ca={certificate}", f"https://localhost:{port}/file", *arguments],
            stdout=subprocess.PIPE,
            timeout=3 * SECONDS,
        )
        document = json.loads(done.stdout)
        return done.returncode, {c["name"]: c["rounds"][-1] for c in document["cases"]}

    def test_term(self) -> None:
        """
        Behind C{term:} all cases are clean, over TLS 1.2 and 1.3.
        """
        for version in VERSIONS[REPEATED:]:
            number = version.replace("TLSv", "").replace("_", ".")
            status, rounds = self.verdict("term:", ":lingerIdle=0.5", f"--tls={number}")
            verdicts = {one["verdict"] for one in rounds.values()}
            self.assertEqual((status, verdicts), (0, {"clean"}), rounds)
            self.assertIn("bare-fin", rounds)

    def test_bare(self) -> None:
        """
        Bare twisted.web drops the answer to a client that half-closes.
        """
        status, rounds = self.verdict(
            "", "", "--case=polite", "--case=half-close", "--patience=10"
        )
        self.assertEqual(rounds["polite"]["verdict"], "clean", rounds)
        self.assertEqual(rounds["half-close"]["verdict"], "loses data")
        self.assertEqual(status, 1)
