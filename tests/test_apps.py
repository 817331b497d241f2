"""
Applications that know nothing of us, behind C{term:} alone: Klein, Daphne,
twisted.web over HTTP/2.  SIGTERM comes in the middle of their responses.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from .certificates import certificateFile, needs
from .processes import PORT, Server, connect, receiveAll, script
from .support import SECONDS

_SIZE = 3_000_000
_ROUNDS = 5
_LISTEN = "tcp:0:interface=127.0.0.1"
_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

_KLEIN = """
import sys
from klein import Klein
from twisted.internet import reactor
from twisted.internet.task import deferLater
app = Klein()

@app.route("/")
async def root(request):
    for _ in range(10):
        request.write(b"x" * 300_000)
        await deferLater(reactor, 0.1)

app.run(endpoint_description=sys.argv[1], logFile=sys.stdout)
"""

_ASGI = """
import asyncio, sys

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(10):
        body = {"type": "http.response.body", "body": b"x" * 300_000}
        await send({**body, "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body"})

if __name__ == "__main__":
    from daphne.cli import CommandLineInterface
    CommandLineInterface().run(["app:app", "-e", sys.argv[1]])
"""

_POLL = """
import sys

async def app(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass
    print("http.disconnect", flush=True)

if __name__ == "__main__":
    from daphne.cli import CommandLineInterface
    CommandLineInterface().run(["app:app", "-e", sys.argv[1]])
"""

_HTTP2 = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.python.log import startLogging
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
startLogging(sys.stdout)

class Slow(Resource):
    isLeaf = True
    def render_GET(self, request):
        print("a request")
        self.send(request, 10)
        return NOT_DONE_YET
    def send(self, request, left):
        if left:
            request.write(b"x" * 300_000)
            deferLater(reactor, 0.1, self.send, request, left - 1)
        else:
            request.finish()

serverFromString(reactor, sys.argv[1]).listen(Site(Slow()))
reactor.run()
"""

_HTTPX = """
import sys, httpx
with httpx.Client(http2=True, verify=False, timeout=20) as client:
    with client.stream("GET", sys.argv[1]) as response:
        print(response.http_version, flush=True)
        print(sum(map(len, response.iter_raw())))
"""


def unchunked(data: bytes) -> int:
    """
    The bytes of a chunked body that is whole; C{-1} for one that is not.
    """
    _, _, rest = data.partition(b"\r\n\r\n")
    count = 0
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return count if rest == b"\r\n" else -1
        count, rest = count + len(rest[:length]), rest[length + 2 :]
    return -1


class AppTests(SynchronousTestCase):
    """
    Each application is run behind C{term:}, and bare beside it.
    """

    def sigterm(self, command: tuple[str, ...]) -> tuple[list[int], list[str]]:
        """
        SIGTERM while some clients are at the first bytes of their response.

        @return: the length of each response that is whole, or C{-1}; and how
            each ended.
        """
        server = Server(self, command)
        port = server.port()
        clients = [connect(port, _GET) for _ in range(5)]
        for client in clients:
            client.recv(1, socket.MSG_PEEK)
        server.terminate()
        results = receiveAll(clients)
        server.end()
        return [unchunked(data) for data, _ in results], [end for _, end in results]

    def halfClosed(self, command: tuple[str, ...]) -> int:
        """
        A client that half-closes behind its request.
        """
        server = Server(self, command)
        client = connect(server.port(), _GET)
        client.shutdown(socket.SHUT_WR)
        ((data, _),) = receiveAll([client])
        return unchunked(data)

    def survives(self, *bare: str) -> None:
        """
        @param bare: the command; its last word is the endpoint.
        """
        term = (*bare[:-1], f"term:{bare[-1]}")
        self.assertEqual(self.sigterm(term), ([_SIZE] * 5, ["FIN"] * 5))
        self.assertNotEqual(self.sigterm(bare)[0], [_SIZE] * 5)
        self.assertEqual(self.halfClosed(term), _SIZE)
        self.assertEqual(self.halfClosed(bare), -1)

    def test_klein(self) -> None:
        """
        Klein.
        """
        needs("klein")
        self.survives(*script(self, _KLEIN, _LISTEN))

    def test_daphne(self) -> None:
        """
        Daphne, which cancels its applications before the reactor stops.
        """
        needs("daphne")
        self.survives(*script(self, _ASGI, _LISTEN))

    def test_daphneAbandoned(self) -> None:
        """
        C{http.disconnect} comes when a client gives up, over HTTP/1.1, TLS and
        HTTP/2, long before keep-alive would find out.
        """
        needs("daphne", "cryptography", "OpenSSL", "h2", "priority")
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("no curl command")
        overTLS = f"ssl:0:interface=127.0.0.1:privateKey={certificateFile(self)}"
        for prefix in ("", "term:"):
            for listen, scheme, versions in (
                (_LISTEN, "http", ("--http1.0", "--http1.1")),
                (overTLS, "https", ("--http1.1", "--http2")),
            ):
                server = Server(self, script(self, _POLL, prefix + listen))
                address = f"{scheme}://127.0.0.1:{server.wait(PORT)[1]}/"
                for count, version in enumerate(versions, 1):
                    options = ("--silent", "--insecure", "--max-time", "0.5", version)
                    given = subprocess.run((curl, *options, address), check=False)
                    self.assertEqual(given.returncode, 28)  # a time-out
                    server.wait(rf"(?s)(http.disconnect.*?){{{count}}}")


class HTTP2Tests(SynchronousTestCase):
    """
    HTTP/2 over TLS: the streams that are open finish.
    """

    def drains(self, client: tuple[str, ...], expected: str) -> None:
        """
        @param client: a command, to which the address is added.
        @param expected: all that it prints.
        """
        needs("cryptography", "OpenSSL", "h2", "priority")
        listen = f"term:ssl:0:interface=127.0.0.1:privateKey={certificateFile(self)}"
        server = Server(self, script(self, _HTTP2, listen))
        address = f"https://127.0.0.1:{server.wait(PORT)[1]}/"
        clients = [
            subprocess.Popen((*client, address), stdout=subprocess.PIPE, text=True)
            for _ in range(_ROUNDS)
        ]
        server.wait(rf"(?s)(a request.*?){{{_ROUNDS}}}")
        server.terminate()
        self.assertEqual(
            [process.communicate(timeout=SECONDS)[0] for process in clients],
            [expected] * _ROUNDS,
        )
        self.assertEqual(server.end(), 0)

    def test_curl(self) -> None:
        """
        curl.
        """
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("no curl command")
        self.drains(
            (
                *(curl, "--silent", "--insecure", "--http2", "--output", os.devnull),
                *("--write-out", "HTTP/%{http_version}\n%{size_download}\n"),
            ),
            f"HTTP/2\n{_SIZE}\n",
        )

    def test_httpx(self) -> None:
        """
        httpx, whose h2 cannot finish a stream once it has a GOAWAY.
        """
        needs("httpx")
        self.drains((sys.executable, "-c", _HTTPX), f"HTTP/2\n{_SIZE}\n")
