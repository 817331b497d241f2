"""
Servers in processes of their own, and clients for many connections at once.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Optional

from .support import SECONDS

TWISTD = (
    sys.executable,
    "-c",
    "from twisted.scripts.twistd import run; run()",
    "--nodaemon",
    "--pidfile=",
)
TWIST = (
    sys.executable,
    "-c",
    "from twisted.application.twist._twist import Twist; Twist.main()",
)
TERMSERVER = (*TWISTD, "termserver")
LISTEN = "--listen=tcp:0:interface=127.0.0.1:backlog=1000"

# Twisted's words, and Daphne's.
#: The second one of two factories of the same kind.
SECOND_PORT = r" starting on \d+\n(?:.*\n)*.* starting on (\d+)"
PORT = r"(?:starting on|Listening on TCP address 127\.0\.0\.1:) ?(\d+)"

#: The same commands from bare Twisted: PUSH n, and lines that are echoed.
BARE = (
    sys.executable,
    "-c",
    """
import sys
from io import BytesIO
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.python.log import startLogging

startLogging(sys.stdout)

class Server(LineReceiver):
    delimiter = b"\\n"
    def lineReceived(self, line):
        name, _, text = line.partition(b" ")
        if name == b"PUSH":
            FileSender().beginFileTransfer(BytesIO(bytes(int(text))), self.transport)
        else:
            self.sendLine(text)

endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1:backlog=1000")
service = StreamServerEndpointService(endpoint, Factory.forProtocol(Server))
service.startService()
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
""",
)


class Server:
    """
    A process that says in its log on which port it is starting.
    """

    def __init__(self, test: Any, command: tuple[str, ...], **options: Any) -> None:
        self.process = process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self._overdue = threading.Timer(2 * SECONDS, process.kill)
        self._overdue.start()
        self.log = ""
        self._more = threading.Condition()
        # A server whose pipe is full would stand still.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        test.addCleanup(self._clean)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.log += line
                self._more.notify_all()
        self.process.stdout.close()

    def _clean(self) -> None:
        self._overdue.cancel()
        self.process.kill()
        self.end()

    def port(self) -> int:
        """
        Wait until the server answers.  It says its port earlier, when it has not
        installed its signal handlers yet.
        """
        port = int(self.wait(PORT)[1])
        with connect(port, b"ECHO x\r\n\r\n") as client:
            client.recv(1)
        return port

    def wait(self, pattern: str) -> re.Match[str]:
        """
        Wait until the log has it.
        """
        with self._more:
            found = self._more.wait_for(lambda: re.search(pattern, self.log), SECONDS)
        if not found:
            raise AssertionError(self.log)
        return found

    def terminate(self) -> None:
        """
        SIGTERM.
        """
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """
        Wait for the end.

        @return: the exit status.
        """
        status = self.process.wait()
        self._reader.join(SECONDS)
        return status


def rest(process: subprocess.Popen[str], seconds: float) -> str:
    """
    What a process still says, from where its output has been read to.  Its input is
    closed, and it is killed if it takes longer than that.  C{communicate} would not
    see what a C{readline} before it has read ahead.
    """
    assert process.stdin is not None and process.stdout is not None
    overdue = threading.Timer(seconds, process.kill)
    overdue.start()
    try:
        process.stdin.close()
        said = process.stdout.read()
        process.wait()
    finally:
        overdue.cancel()
    return said


def connect(port: int, request: bytes = b"", small: bool = False) -> socket.socket:
    client = socket.socket()
    client.settimeout(SECONDS)
    if small:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
    return client


def receiveAll(clients: list[socket.socket]) -> list[tuple[bytes, str]]:
    """
    Receive from all at once until each has ended, and close it.

    @return: for each, what arrived and how it ended.
    """
    received = {client: bytearray() for client in clients}
    ends: dict[socket.socket, str] = {}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while len(ends) < len(clients):
            ready = selector.select(SECONDS)
            if not ready:
                raise AssertionError(f"{len(clients) - len(ends)} have no end")
            for key, _ in ready:
                client: Any = key.fileobj
                end: Optional[str] = None
                try:
                    data = client.recv(1 << 18)
                    received[client] += data
                    end = None if data else "FIN"
                except ConnectionResetError:
                    end = "RST"
                if end is not None:
                    ends[client] = end
                    selector.unregister(client)
                    client.close()
    return [(bytes(received[client]), ends[client]) for client in clients]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def script(test: Any, text: str, *arguments: str) -> tuple[str, ...]:
    """
    A command that runs C{text}.
    """
    folder = tempfile.mkdtemp()
    test.addCleanup(shutil.rmtree, folder)
    path = Path(folder, "app.py")
    path.write_text(text)
    return (sys.executable, str(path), *arguments)


#: A request for a WebSocket.
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
