"""
SIGTERM in the middle of curl's requests, again and again: how many responses
arrive whole, from bare Twisted and from a L{twisted_term.DrainingService} with
the same C{Site}?

For each drain: a 50 MB download at a limited rate, two requests on a keep-alive
connection, and a 100 MB upload that is answered early with 413; beside them an
idle keep-alive connection, which must see FIN.

    python benchmarks/drains.py [drains]
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

_SIZE = 50_000_000
_UPLOAD = 100_000_000
_SECONDS = 60
_SERVER = """
import sys
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.python.log import startLogging
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from twisted_term import DrainingService

kind, size = sys.argv[1], int(sys.argv[2])
startLogging(sys.stdout)

class Early(Request):
    # twisted.web's hook for the length of a body that is about to come.
    refused = False
    def gotLength(self, length):
        self.refused = bool(length and length > 1_000_000)
        super().gotLength(0 if self.refused else length)
        if self.refused:
            self.clientproto, self.method = b"HTTP/1.1", b"PUT"
            self.channel.persistent = False
            self.setResponseCode(413)
            self.setHeader(b"connection", b"close")
            self.setHeader(b"content-length", b"500000")
            self.write(bytes(500000))
            self.finish()
    def handleContentChunk(self, data):
        if not self.refused:
            super().handleContentChunk(data)
    def requestReceived(self, *args):
        if not self.refused:
            super().requestReceived(*args)

class Root(Resource):
    isLeaf = True
    def render_GET(self, request):
        body = bytes(size if request.path == b"/large" else 5)
        request.setHeader(b"content-length", b"%d" % len(body))
        return body

site = Site(Root(), requestFactory=Early)
endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
if kind == "bare":
    service = StreamServerEndpointService(endpoint, site)
else:
    service = DrainingService(endpoint, site)
service.startService()
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""
_CURL = ("curl", "--silent", "--show-error", "--output", "/dev/null")
_ASK = ("--write-out", "%{http_code} %{size_download} ")


def _curl(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (*_CURL, *_ASK, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def drain(kind: str, body: str) -> dict[str, bool]:
    """
    One server, one SIGTERM.

    @param body: the name of the file to upload.
    @return: for each of curl's requests, is its response whole?
    """
    server = subprocess.Popen(
        (sys.executable, "-c", _SERVER, kind, str(_SIZE)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    port = 0
    for line in server.stdout:
        if "starting on " in line:
            port = int(line.rpartition("starting on ")[2])
            break
    url = f"http://127.0.0.1:{port}"
    idle = socket.create_connection(("127.0.0.1", port), _SECONDS)
    idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    idle.recv(1000)
    clients = {
        "download": (_curl("--limit-rate", "60M", f"{url}/large"), f"200 {_SIZE} "),
        "keep-alive": (
            _curl(f"{url}/a", "--output", "/dev/null", f"{url}/b"),
            "200 5 200 5 ",
        ),
        "413": (
            _curl("--header", "Expect:", "--upload-file", body, f"{url}/up"),
            "413 500000 ",
        ),
    }
    time.sleep(0.15)
    server.send_signal(signal.SIGTERM)
    whole = {}
    for name, (process, expected) in clients.items():
        whole[name] = process.communicate(timeout=_SECONDS)[0] == expected
    try:
        whole["idle ends with FIN"] = idle.recv(10) == b""
    except OSError:
        whole["idle ends with FIN"] = False
    idle.close()
    server.communicate(timeout=_SECONDS)
    whole["exit status 0"] = server.returncode == 0
    return whole


def main() -> None:
    """
    Drain both in turn, and print the table.
    """
    drains = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    whole: dict[str, Counter[str]] = {"bare": Counter(), "twisted_term": Counter()}
    with tempfile.NamedTemporaryFile() as body:
        body.truncate(_UPLOAD)
        for _ in range(drains):
            for kind, counts in whole.items():
                counts.update(drain(kind, body.name))
    print(f"{'whole, of ' + str(drains):22}" + "".join(f"{kind:>14}" for kind in whole))
    for name in whole["bare"]:
        print(f"{name:22}" + "".join(f"{whole[kind][name]:>14}" for kind in whole))


if __name__ == "__main__":
    main()
