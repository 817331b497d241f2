"""
The documentation: every example is run, every picture drawn, every link
followed.
"""

from __future__ import annotations

import ast
import re
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from tempfile import mkdtemp
from typing import Any, NamedTuple, Optional
from xml.etree import ElementTree

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import Outcome, TerminationPolicy
from twisted_term.policy import limitOptions

from . import stranger
from .certificates import certificate, connectTLS, needs, receiveTLS
from .processes import PORT, TWISTD, UPGRADE, Server, connect, receiveAll
from .support import SECONDS, once, receive
from .viewers import Page, Stream, fetch

_HERE = Path(__file__).parents[1]
_DOCS = _HERE / "docs"
#: These use Sphinx' own directives, or include another file: Sphinx checks them.
_SITE = {
    _DOCS / name
    for name in (
        "changelog.rst",
        "contributing.rst",
        "explanation/theory.rst",
        "index.rst",
        "reference/api.rst",
    )
}
_DOCUMENTS = [
    *sorted(_HERE.glob("*.rst")),
    *sorted({*_DOCS.rglob("*.rst")} - _SITE),
]
_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_RUN = """
import runpy, sys
from twisted.python.log import startLogging
startLogging(sys.stdout)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

#: What stands in a literal block and is no example in Python, by its first
#: line: which test runs it, or why none does.
BLOCKS = {
    "pip install -e . && twistd -n --pidfile= termserver": (
        "tests.test_tap.TwistdTests.test_log starts it; to install is not ours"
    ),
    "twistd -n --pidfile= web --listen term:tcp:8080 --path .": (
        "tests.test_docs.ExampleTests.test_web"
    ),
    "OPEN        --> FLUSHING     loseWriteConnection()": (
        "tests.test_machine.MachineTests.test_states"
    ),
    'pip install -e ".[docs]" && python -m sphinx -W -b html docs build/site': (
        "tests.test_docs.SiteTests.test_build; to install is not ours"
    ),
    "term-probe deploy http://127.0.0.1:8080/file -- python server.py": (
        "tests.test_probe_deploy starts, signals and reloads servers by such commands"
    ),
    "term:tcp:9001:readinessDelay=2:agent=9101": (
        "tests.test_agent.StringTests.test_restart has one behind HAProxy"
    ),
    "pip install ./twisted_term-0.1.0-py3-none-any.whl": (
        "tests.stranger installs the wheel"
    ),
    "python3 -m venv .venv && . .venv/bin/activate": "to install is not ours",
    "term-probe http://127.0.0.1:8080/file": (
        "tests.test_probe.TwistedTests, tests.test_probe.RawTests, and the"
        " TwistedTests of tests.test_probe_ways, _protocols and _deploy"
    ),
    'pip install "twisted_term[probe]"': (
        "tests.test_probe_protocols.LibraryTests; to install is not ours"
    ),
    'pip install "twisted_term[metrics]"': (
        "tests.test_status.EndpointTests.test_web starts it; to install is not ours"
    ),
    "systemctl enable --now termserver.socket termserver.service": (
        "would change the machine; tests.test_deploy.SystemdTests checks the units"
    ),
    "[Service]": "tests.test_live_systemd.LiveTests.test_several",
    "[Socket]": "tests.test_live_systemd.LiveTests.test_several",
    "systemctl enable --now termserver.socket termserver@8031 termserver@8032": (
        "tests.test_live_systemd.LiveTests.test_several"
    ),
    "head -c 40000000 /dev/zero >big": "tests.test_deploy_pages.RecipeTests",
}


class Block(NamedTuple):
    """
    A literal block.

    @ivar where: its document, and the line.
    @ivar name: its C{:name:}, if it has one.
    """

    where: str
    name: Optional[str]
    text: str
    isPython: bool


@cache
def parse(document: Path) -> tuple[Any, str]:
    """
    @return: docutils' tree of a document, and its complaints.
    """
    needs("docutils")
    from io import StringIO

    from docutils.core import publish_doctree

    complaints = StringIO()
    # GitHub colours code, and includes no file.
    settings = {
        "report_level": 1,
        "halt_level": 5,
        "warning_stream": complaints,
        "syntax_highlight": "none",
        "file_insertion_enabled": False,
    }
    tree = publish_doctree(
        document.read_text("utf-8"), str(document), settings_overrides=settings
    )
    return tree, complaints.getvalue()


def blocks() -> Iterator[Block]:
    """
    The literal blocks of all documents.
    """
    for document in _DOCUMENTS:
        tree, _ = parse(document)
        from docutils.nodes import literal_block

        for node in tree.findall(literal_block):
            yield Block(
                f"{document.relative_to(_HERE)}, line {node.line}",
                node["names"][0] if node["names"] else None,
                node.astext() + "\n",
                "python" in node["classes"],
            )


def logged() -> Iterator[tuple[str, str]]:
    """
    Each format that the package logs, and its namespace.
    """
    yield "{peer}: {report}", "twisted_term.transport"  # it has a call of its own
    for path in _HERE.joinpath("twisted_term").rglob("*.py"):
        if "probe" in path.parts:  # a program of its own, which logs nothing
            continue
        namespace = ".".join(path.relative_to(_HERE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first, called = node.args[0], ast.unparse(node.func)
            if re.fullmatch(r"_log\.(info|warn|error|failure)|say", called):
                assert isinstance(first, ast.Constant), ast.unparse(node)
                yield first.value, namespace


def check(name: str) -> str:
    """
    The name of the test of an example: C{test_endpointString} for
    C{endpoint-string}.
    """
    first, *more = name.split("-")
    return f"test_{first}" + "".join(word.capitalize() for word in more)


def example(name: str) -> str:
    """
    The example of that name.
    """
    found = [block.text for block in blocks() if block.isPython and block.name == name]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} examples have :name: {name}, not 1")
    return found[0]


@once
class TextTests(SynchronousTestCase):
    """
    What can be said of each document.
    """

    def test_valid(self) -> None:
        """
        docutils has nothing to complain about.
        """
        for document in _DOCUMENTS:
            self.assertEqual(parse(document)[1], "")

    def test_linked(self) -> None:
        """
        Links and pictures lead to files that are there, and so do the names
        of files in the text.  C{docs/README.rst} links to each document.
        """
        linked = set()
        for document in _DOCUMENTS:
            tree, _ = parse(document)
            from docutils import nodes

            links = [
                node["refuri"]
                for node in tree.findall(nodes.reference)
                if ":" not in node.get("refuri", ":")
            ]
            links += [node["uri"] for node in tree.findall(nodes.image)]
            for link in links:
                path = document.parent / link.partition("#")[0]
                self.assertTrue(path.is_file(), f"{document}: no such file: {link}")
                if document == _HERE / "docs" / "README.rst":
                    linked.add(path.resolve())
            for node in tree.findall(nodes.literal):
                name = node.astext()
                if re.fullmatch(r"(docs|tests|benchmarks|twisted_term)/[\w./-]+", name):
                    self.assertTrue(
                        _HERE.joinpath(name).exists(), f"{document}: {name}"
                    )
        # Those on deployment have a list of their own.
        ours = {path for path in _DOCS.rglob("*.rst") if path.parent.name != "deploy"}
        rest = {"README.rst", "changelog.rst", "contributing.rst"}
        missing = {path.name for path in ours - linked} - rest
        self.assertEqual(missing, set(), "docs/README.rst has no link to these")

    def test_described(self) -> None:
        """
        Each picture has a text for those who cannot see it.
        """
        for document in _DOCUMENTS:
            tree, _ = parse(document)
            from docutils.nodes import image

            for node in tree.findall(image):
                self.assertIn("alt", node, f"{document}: {node['uri']} needs an :alt:")

    def test_examples(self) -> None:
        """
        Each example has a check, and each other block a test, or a reason.
        """
        for block in blocks():
            if block.where.startswith("docs/tutorial.rst"):
                continue  # tests.stranger runs all of them
            if not block.isPython:
                first = block.text.splitlines()[0]
                self.assertIn(
                    first,
                    BLOCKS,
                    f"{block.where}: say in BLOCKS which test runs this block, or"
                    " why none does",
                )
                continue
            self.assertIsNotNone(
                block.name,
                f"{block.where}: this example has no check; give it a :name:, and"
                " write the test of that name in ExampleTests",
            )
            self.assertTrue(
                hasattr(ExampleTests, check(block.name or "")),
                f"{block.where}: the example {block.name} has no check; write"
                f" ExampleTests.{check(block.name or '')}",
            )

    def test_tutorial(self) -> None:
        """
        L{tests.stranger} sees each block of the tutorial, and every command but
        one has something that it prints.
        """
        path = _DOCS / "tutorial.rst"
        found = list(stranger.blocks(path.read_text("utf-8")))
        there = [block.text for block in blocks() if "tutorial" in block.where]
        self.assertEqual([block.text for block in found], there)
        silent = [name for name, text in stranger.expectations(found) if not text]
        self.assertEqual(silent, ["tutorial-install"])

    def test_reasons(self) -> None:
        """
        BLOCKS speaks of blocks that there are, and of tests that there are.
        """
        there = {block.text.splitlines()[0] for block in blocks()}
        self.assertEqual(set(BLOCKS) - there, set())
        for reason in BLOCKS.values():
            for name in re.findall(r"tests\.[\w.]*\w", reason):
                namedAny(name)

    def test_named(self) -> None:
        """
        The tests that a document names are there.
        """
        named = 0
        for document in _DOCUMENTS:
            from docutils import nodes

            for node in parse(document)[0].findall(nodes.literal):
                if re.fullmatch(r"tests\.[\w.]+", node.astext()):
                    named += 1
                    namedAny(node.astext())
        self.assertGreater(named, 14)

    def test_tables(self) -> None:
        """
        The reference has each limit with its default, and each outcome.
        """
        options = _DOCS.joinpath("reference", "options.rst").read_text("utf-8")
        rows = dict(re.findall(r"^``(\w+)`` +(\w+)", options, re.MULTILINE))
        for name in limitOptions:
            limit = getattr(TerminationPolicy, name)
            self.assertEqual(rows[name], "none" if limit is None else f"{limit:g}")
        report = _DOCS.joinpath("reference", "report.rst").read_text("utf-8")
        outcomes = set(re.findall(r"^``([A-Z_]+)`` ", report, re.MULTILINE))
        self.assertEqual(outcomes, {outcome.name for outcome in Outcome})

    def test_log(self) -> None:
        """
        The reference has each format that the package logs, with its namespace,
        and no other.
        """
        text = _DOCS.joinpath("reference", "log.rst").read_text("utf-8")
        rows = re.findall(r"^``(.+)``\n    ``([\w.]+)``[,:]", text, re.MULTILINE)
        self.assertEqual(set(rows), set(logged()))


@once
class ApplicationTests(SynchronousTestCase):
    """
    The reference's table of applications.
    """

    def test_table(self) -> None:
        """
        It is the one that C{docs/applications.py} prints, and each row has its
        tests.
        """
        made = runpy.run_path(str(_HERE / "docs" / "applications.py"))
        page = _DOCS.joinpath("reference", "applications.rst").read_text("utf-8")
        self.assertIn("\n\n" + made["table"]() + "\n\n", page)
        for *_, tests in made["ROWS"]:
            for name in tests:
                needed = namedAny(f"tests.{name}")
                self.assertTrue(needed.__doc__ or needed, name)


@once
class PictureTests(SynchronousTestCase):
    """
    C{docs/pictures}.
    """

    def test_drawn(self) -> None:
        """
        They are what C{docs/pictures.py} draws, and no others; each is XML,
        has a title and a description, and is in a document.
        """
        script = runpy.run_path(str(_HERE / "docs" / "pictures.py"))
        drawn = {
            f"{name}.svg": script["draw"](picture)
            for name, picture in script["PICTURES"].items()
        }
        there = {
            path.name: path.read_text("utf-8")
            for path in _HERE.joinpath("docs", "pictures").iterdir()
        }
        self.assertEqual(set(there), set(drawn))
        shown = "".join(path.read_text("utf-8") for path in _DOCUMENTS)
        for name, text in drawn.items():
            self.assertEqual(there[name], text, f"{name}: run docs/pictures.py")
            root = ElementTree.fromstring(text)
            for tag in ("title", "desc"):
                self.assertTrue(root.findtext(f"{{*}}{tag}"), name)
            self.assertRegex(shown, rf"\.\. image:: [./\w]*pictures/{name}\n")


class ExampleTests(SynchronousTestCase):
    """
    One test for each example, by its C{:name:}.
    """

    def program(self, name: str, port: int = 0) -> Path:
        """
        A file with the example, as it is but for its port.

        @param port: takes the place of 8080 or 8443.
        """
        path = Path(mkdtemp()) / f"{name.replace('-', '_')}.py"
        text, count = re.subn(r":(8080|8443)\b", f":{port}", example(name))
        self.assertLessEqual(count, 1, "one port can be replaced, not several")
        path.write_text(text, "utf-8")
        return path

    def start(self, name: str, twistd: bool = False, port: int = 0) -> Server:
        """
        Start an example.

        @param twistd: it is an application's file.
        """
        path = self.program(name, port)
        run = (*TWISTD, "-y", path.name) if twistd else None
        self.addCleanup(lambda: self.assertNotIn("Traceback", server.log))
        server = Server(
            self, run or (sys.executable, "-c", _RUN, path.name), cwd=path.parent
        )
        return server

    def ask(self, server: Server, request: bytes, halfClose: bool = False) -> Any:
        """
        @return: the answer, and whether it ended with FIN or RST.
        """
        client = connect(int(server.wait(PORT)[1]), request)
        if halfClose:
            client.shutdown(socket.SHUT_WR)
        ((answer, end),) = receiveAll([client])
        return answer, end

    def test_echo(self) -> None:
        server = self.start("echo")
        self.assertEqual(self.ask(server, b"hello\r\nrest"), (b"hello\r\n", "FIN"))
        server.wait("clean, by local; delivered")

    def test_files(self) -> None:
        """
        The folder is there, and a drain ends the process with status 0.
        """
        server = self.start("files", twistd=True)
        answer, end = self.ask(server, b"GET /files.py HTTP/1.0\r\n\r\n")
        self.assertEqual(end, "FIN")
        self.assertTrue(answer.startswith(b"HTTP/1.0 200 "), answer)
        self.assertTrue(answer.endswith(b".setServiceParent(application)\n"), answer)
        server.wait("; delivered")
        server.terminate()
        self.assertEqual(server.end(), 0)
        self.assertIn("drained 0 connections", server.log)

    def test_ready(self) -> None:
        """
        It says that it is ready, and in C{readinessDelay} that it is not.
        """
        server = self.start("ready", twistd=True)
        port = int(server.wait(PORT)[1])
        self.assertEqual(fetch(port, "/ready"), (200, "ready\n"))
        server.terminate()
        while fetch(port, "/ready") == (200, "ready\n"):
            time.sleep(0.05)
        self.assertEqual(fetch(port, "/ready"), (503, "draining\n"))
        self.assertEqual(server.end(), 0)

    def test_websocket(self) -> None:
        """
        A message is echoed, and SIGTERM brings a Close frame.
        """
        needs("autobahn")
        server = self.start("websocket")
        message = b"\x81\x85" + bytes(4) + b"hello"  # masked with zeros
        client = connect(server.port(), UPGRADE + message)
        received = b""
        while not received.endswith(b"\x81\x05hello"):
            received += client.recv(4096)
        server.terminate()
        close = client.recv(4096)
        self.assertEqual(close[:1] + close[2:4], b"\x88\x03\xe9")  # 1001
        client.sendall(b"\x88\x82" + bytes(4) + b"\x03\xe9")
        self.assertEqual(receiveAll([client]), [(b"", "FIN")])
        self.assertEqual(server.end(), 0)

    def test_restartCode(self) -> None:
        """
        The code in the Close frame is another one, by an option of the string.
        """
        needs("autobahn")
        other = example("restart-code").strip()
        text = re.sub("(?m)^listen = .*$", other, example("websocket"))
        path = Path(mkdtemp()) / "restart_code.py"
        path.write_text(text.replace(":8080:", ":0:"), "utf-8")
        server = Server(self, (sys.executable, "-c", _RUN, str(path)))
        client = connect(server.port(), UPGRADE)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += client.recv(4096)
        server.terminate()
        close = client.recv(4096)
        self.assertEqual(close[:1] + close[2:4], b"\x88\x03\xf4")  # 1012
        client.close()
        self.assertEqual(server.end(), 0)

    def test_agent(self) -> None:
        """
        It echoes, and its agent says so; on SIGTERM the agent says C{drain}.
        """
        path = Path(mkdtemp()) / "agent.py"
        text, count = re.subn(r"tcp:9[01]01:", "tcp:0:", example("agent"))
        self.assertEqual(count, 2)
        path.write_text(text, "utf-8")
        server = Server(self, (*TWISTD, f"--python={path}"))
        agent = int(server.wait(r"AgentFactory starting on (\d+)")[1])
        port = int(server.wait(r"\] Factory starting on (\d+)")[1])
        with connect(port, b"hello") as client:
            self.assertEqual(client.recv(5), b"hello")
        self.assertEqual(receiveAll([connect(agent)]), [(b"up ready\n", "FIN")])
        server.terminate()
        said: list[bytes] = []
        while b"drain\n" not in said:  # connect() fails when it has ended
            said += [answer for answer, _ in receiveAll([connect(agent)])]
        self.assertEqual(set(said), {b"up ready\n", b"drain\n"} & set(said))
        self.assertEqual(server.end(), 0)

    def test_web(self) -> None:
        """
        The command with C{term:}, in the README and in the documents.
        """
        found = {
            block.text
            for block in blocks()
            if block.text.startswith("twistd -n --pidfile= web ")
        }
        self.assertEqual(len(found), 1)
        command = found.pop().split()
        folder = Path(mkdtemp())
        folder.joinpath("index.html").write_text("It works.\n", "utf-8")
        options = [option.replace(":8080", ":0") for option in command[2:]]
        server = Server(self, (*TWISTD, *options), cwd=folder)
        answer, end = self.ask(server, b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(end, "FIN")
        self.assertTrue(answer.endswith(b"It works.\n"), answer)
        server.wait("; delivered")

    def test_mixin(self) -> None:
        server = self.start("mixin")
        answer = self.ask(server, b"hello\r\nbye\r\nrest\r\n")
        self.assertEqual(answer, (b"HELLO\r\nBYE\r\n", "FIN"))
        server.wait("clean, by local; delivered")

    def quote(self, server: Server) -> None:
        """
        A server that writes a line and closes, whatever it is sent.
        """
        answer = self.ask(server, bytes(100_000))
        self.assertEqual(answer, (b"An apple a day keeps the doctor away.\r\n", "FIN"))
        server.wait("clean, by local; delivered; 100000 bytes discarded")

    def test_factory(self) -> None:
        self.quote(self.start("factory"))

    def test_endpointString(self) -> None:
        self.quote(self.start("endpoint-string"))

    def test_hold(self) -> None:
        server = self.start("hold")
        self.assertEqual(self.ask(server, b"7\r\n"), (b"49\r\n", "FIN"))
        self.assertEqual(self.ask(server, b"7\r\n", True), (b"49\r\n", "FIN"))
        self.assertEqual(self.ask(server, b"seven\r\n"), (b"error\r\n", "FIN"))

    def test_producer(self) -> None:
        server = self.start("producer")
        text = re.sub(":8080", ":0", example("producer")).encode()
        self.assertEqual(self.ask(server, b""), (text, "FIN"))

    def test_count(self) -> None:
        server = self.start("count")
        answer = self.ask(server, bytes(123_456), halfClose=True)
        self.assertEqual(answer, (b"123456 bytes\n", "FIN"))

    def test_adapter(self) -> None:
        """
        A client that half-closes gets its answers; and SIGTERM is followed by
        those that are pending, and goodbye.
        """
        server = self.start("adapter")
        answer = self.ask(server, b"one\ntwo\n", halfClose=True)
        self.assertEqual(answer, (b"ONE\nTWO\n", "FIN"))
        client = connect(server.port(), b"three\n")
        time.sleep(0.7)  # a new connection is not ended at once
        server.terminate()
        ((data, end),) = receiveAll([client])
        self.assertEqual((data, end), (b"THREE\nbye\n", "FIN"))

    def test_longPoll(self) -> None:
        server = self.start("long-poll")
        client = connect(server.port(), _GET)
        time.sleep(0.7)
        server.terminate()
        ((data, end),) = receiveAll([client])
        self.assertTrue(data.startswith(b"HTTP/1.1 204"), data)
        self.assertIn(b"connection: close", data.lower())
        self.assertEqual((end, server.end()), ("FIN", 0))

    def test_events(self) -> None:
        server = self.start("events")
        client = connect(server.port(), _GET)
        time.sleep(0.7)
        server.terminate()
        ((data, end),) = receiveAll([client])
        self.assertIn(b"data: tick", data)
        self.assertTrue(data.endswith(b"\r\n0\r\n\r\n"), data)
        self.assertEqual((end, server.end()), ("FIN", 0))
        self.assertNotIn("Traceback", server.log)

    def test_ownPolicy(self) -> None:
        """
        A client that is near is not lingered for, and one that sends a zero byte
        is reset.
        """
        server = self.start("own-policy")
        client = connect(int(server.wait(PORT)[1]), b"hello\r\n")
        with client:
            self.assertEqual(client.recv(100), b"HELLO\r\n")
            self.assertEqual(client.recv(100), b"")
            server.wait("linger expired, by local; delivered")
        self.assertEqual(self.ask(server, b"hel\0lo\r\n"), (b"", "RST"))
        server.wait("aborted, by local")

    def test_ownClose(self) -> None:
        """
        The end is written down before it comes.
        """
        path = self.program("own-close")
        server = Server(self, (sys.executable, "-c", _RUN, path.name), cwd=path.parent)
        line, end = self.ask(server, b"")
        self.assertEqual((line[:8], end), (b"An apple", "FIN"))
        server.wait("; delivered")
        self.assertEqual(path.with_name("ended").read_text("utf-8"), "127.0.0.1\n")
        self.assertNotIn("Traceback", server.log)

    def test_ownProcess(self) -> None:
        """
        The other process goes on reading what the client sends, so that nothing
        is reset.
        """
        server = self.start("own-process")
        client = connect(int(server.wait(PORT)[1]))
        with client:
            while client.recv(100):
                pass
            server.wait("taken, by local; delivered")
            for _ in range(20):
                client.sendall(bytes(1_000_000))
            client.shutdown(socket.SHUT_WR)
            server.wait("lingered")

    def test_client(self) -> None:
        """
        It says that all was delivered to a server that reads, and fails with
        one that resets.
        """
        for reads in (True, False):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                listening.settimeout(SECONDS)
                client = self.start("client", port=listening.getsockname()[1])
                server, _ = listening.accept()
            with server:
                server.settimeout(SECONDS)
                if reads:
                    self.assertEqual(receive(server), (1_000_000, "FIN"))
                else:  # a close with data unread
                    server.recv(1)
            self.assertEqual(client.end(), 0 if reads else 1)
            said = "clean, by local; delivered" if reads else "NOT delivered"
            self.assertIn(said, client.log)

    def test_drain(self) -> None:
        """
        What is in flight at SIGTERM is answered.
        """
        server = self.start("drain", twistd=True)
        port = int(server.wait(PORT)[1])
        with connect(port, b"first\r\n") as client:
            self.assertEqual(client.recv(100), b"first\r\n")
            client.sendall(b"second\r\n")
            server.terminate()
            self.assertEqual(client.recv(100), b"second\r\n")
            self.assertEqual(client.recv(100), b"")
        self.assertEqual(server.end(), 0)
        self.assertIn("drained 1 connections", server.log)

    def test_drainBegins(self) -> None:
        """
        A poll is answered when the drain begins.
        """
        server = self.start("drain-begins")
        client = connect(int(server.wait(PORT)[1]))
        time.sleep(0.2)
        server.terminate()
        self.assertEqual(receiveAll([client]), [(b"nothing new, ask again\r\n", "FIN")])
        self.assertEqual(server.end(), 0)
        self.assertIn("drained 1 connections", server.log)

    def test_stopFirst(self) -> None:
        """
        A service that ends its connections when it is stopped is asked at once.
        """
        server = self.start("stop-first", twistd=True)
        client = connect(int(server.wait(PORT)[1]))
        self.assertEqual(client.recv(100), b"tick\n")
        server.terminate()
        self.assertEqual(receiveAll([client]), [(b"that was all\n", "FIN")])
        self.assertEqual(server.end(), 0)
        self.assertNotIn("is reached", server.log)

    def test_tlsServer(self) -> None:
        """
        close_notify comes behind the line.
        """
        path = self.program("tls-server")
        for name in ("key.pem", "cert.pem"):
            path.with_name(name).write_bytes(certificate())
        server = Server(self, (sys.executable, "-c", _RUN, path.name), cwd=path.parent)
        line, end = receiveTLS(connectTLS(int(server.wait(PORT)[1]), b"x"))
        self.assertEqual((line[:8], end), (b"An apple", "close_notify"))
        self.assertNotIn("Traceback", server.log)

    def test_status(self) -> None:
        """
        The page in a user's own Site; a viewer there does not keep the drain
        waiting.
        """
        server = self.start("status", twistd=True)
        port = int(server.wait(PORT)[1])
        code, page = fetch(port, "/status/")
        self.assertEqual(code, 200)
        self.assertEqual(Page(page).text["state-OPEN"], "1")  # who asks
        self.assertEqual(fetch(port, "/status/ready"), (200, "ready\n"))
        stream = Stream(port, "/status/events")
        stream.next()
        server.terminate()
        event = stream.next()
        while event is not None:
            event = stream.next()
        self.assertEqual(server.end(), 0)
        self.assertNotIn("reset", server.log)

    def test_report(self) -> None:
        """
        A client that resets in the middle.
        """
        server = self.start("report")
        with connect(int(server.wait(PORT)[1]), small=True) as client:
            client.recv(1)
        server.wait("RESET_BY_PEER True")

    def test_testing(self) -> None:
        self.passes("testing")

    def test_stringTransport(self) -> None:
        self.passes("string-transport")

    def test_lastEnd(self) -> None:
        self.passes("last-end")

    def passes(self, name: str) -> None:
        """
        It is a test case, and passes.
        """
        path = self.program(name)
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", path.stem],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.assertIn("PASSED (successes=1)", done.stdout, done.stderr)


@once
class SiteTests(SynchronousTestCase):
    """
    The site.
    """

    def make(self, change: tuple[str, str] = ("", "")) -> Any:
        """
        Make it of a copy.

        @param change: a text in C{docs/howto/use.rst}, and another in its place.
        @return: the process that has ended, and the site's folder.
        """
        needs("sphinx", "furo")
        source = Path(mkdtemp()) / "source"
        for name in ("twisted_term", "docs"):
            ignored = ignore_patterns("__pycache__")
            copytree(_HERE / name, source / name, ignore=ignored)
        for path in _HERE.glob("*.rst"):
            copy(path, source)
        page = source / "docs" / "howto" / "use.rst"
        text = page.read_text("utf-8")
        self.assertIn(change[0], text)
        page.write_text(text.replace(*change, 1), "utf-8")
        site = source / "build" / "site"
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", "-q", "-W", "docs", site],
            cwd=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done, site

    def test_build(self) -> None:
        """
        It is made without a warning; a link leads to a page, or to a file, and
        docstrings are translated.
        """
        done, site = self.make()
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        page = site.joinpath("howto", "use.html").read_text("utf-8")
        self.assertIn('href="../reference/options.html"', page)
        reference = site.joinpath("reference", "api.html").read_text("utf-8")
        for name in ("ITerminableTransport.track", "TerminationPolicy", "Outcome.LOST"):
            self.assertIn(f'id="twisted_term.{name}"', reference)
        self.assertNotRegex(reference, r"[CLBI]\{|@(param|return|raise|ivar)\b")

    def test_badLink(self) -> None:
        """
        A link to a page that is not there is an error.
        """
        done, _ = self.make(("../reference/options.rst", "../reference/none.rst"))
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"use\.rst:\d+: .*unknown document")


@once
class ReferenceTests(SynchronousTestCase):
    """
    The API reference.
    """

    def make(self, change: tuple[str, str] = ("", "")) -> Any:
        """
        Make it in a copy.

        @param change: a text in C{testing/memory.py}, and another in its place.
        @return: the process that has ended, and the folder.
        """
        needs("pydoctor")
        source = Path(mkdtemp()) / "source"
        for name in ("twisted_term", "docs"):
            ignored = ignore_patterns("__pycache__")
            copytree(_HERE / name, source / name, ignore=ignored)
        copy(_HERE / "pyproject.toml", source)
        module = source / "twisted_term" / "testing" / "memory.py"
        text = module.read_text("utf-8")
        self.assertIn(change[0], text)
        module.write_text(text.replace(*change, 1), "utf-8")
        done = subprocess.run(
            [sys.executable, "docs/reference.py"],
            cwd=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done, source

    def test_build(self) -> None:
        """
        It is made, and pydoctor warns of nothing.
        """
        done, source = self.make()
        self.assertEqual(done.returncode, 0, done.stdout)
        pages = source / "build" / "api"
        text = pages.joinpath(
            "twisted_term.testing.memory.MemoryTransport.html"
        ).read_text("utf-8")
        self.assertIn("org/en/stable/api/twisted.internet.task.Clock.html", text)

    def test_badLink(self) -> None:
        """
        A link to what Twisted does not have is an error.
        """
        done, _ = self.make(("L{twisted.internet.task.Clock}", "L{twisted.Clock}"))
        self.assertNotEqual(done.returncode, 0)
        said = r'memory.py:\d+: Cannot find link target for "twisted\.Clock"'
        self.assertRegex(done.stdout, said)
