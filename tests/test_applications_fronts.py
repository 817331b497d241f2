"""
A client that gives up behind nginx or HAProxy, with their defaults; bare Twisted is
beside it.  L{tests.test_applications_http} has clients without a balancer.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from .support import SECONDS, once
from .test_applications_http import HTTPTestCase, Poll

_NGINX = """
daemon off;
user root;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
 access_log off;
 client_body_temp_path {folder}/body;
 proxy_temp_path {folder}/proxy;
 server {{
  listen unix:{socket};
  location / {{ proxy_pass http://127.0.0.1:{port}; }}
 }}
}}
"""
_HAPROXY = """
defaults
 mode http
 timeout connect 5s
 timeout client 50s
 timeout server {patience}s
 {option}
frontend clients
 bind unix@{socket}
 default_backend servers
backend servers
 server one 127.0.0.1:{port}
"""
#: HAProxy has no timeouts by default, and asks for one.
_PATIENCE = 2
#: For each program: its Debian package, its configuration, and its arguments.
_FRONTS = {
    "nginx": ("nginx-light", _NGINX, ["-p", "{folder}", "-c"]),
    "haproxy": ("haproxy", _HAPROXY, ["-db", "-f"]),
}


@once
class FrontsTests(HTTPTestCase):
    """
    A long poll that is abandoned.
    """

    patience = 5  # keep-alive alone would take a minute, and workTimeout ten

    def front(self, name: str, port: int, option: str) -> str:
        """
        Start a balancer for the server at C{port}.

        @return: the path of the socket that it listens on.
        """
        package, text, arguments = _FRONTS[name]
        program = shutil.which(name)
        if program is None:
            raise SkipTest(f"needs {name}: apt-get install {package}")
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        values = {
            "folder": folder,
            "socket": f"{folder}/socket",
            "port": port,
            "patience": _PATIENCE,
            "option": option,
        }
        configuration = Path(folder, "configuration")
        configuration.write_text(text.format(**values), "utf-8")
        command = [program, *(a.format(**values) for a in arguments)]
        process = subprocess.Popen(
            [*command, str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return f"{folder}/socket"

    def ask(self, path: str) -> socket.socket:
        """
        Send a request, as soon as somebody listens.
        """
        deadline = time.monotonic() + SECONDS
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise AssertionError("nobody listens")
            time.sleep(0.01)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SECONDS)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return client

    @inlineCallbacks
    def abandons(self, name: str, option: str = "") -> Any:
        """
        @return: for bare Twisted and for ours, after how many seconds the
            application is told.
        """
        took = []
        for term in (False, True):
            poll = Poll()
            path = self.front(name, self.serve(poll, term), option)
            client = yield deferToThread(self.ask, path)
            yield self.until(lambda poll=poll: poll.requests)
            begin = time.monotonic()
            client.close()
            yield self.until(lambda poll=poll: poll.gone)
            took.append(time.monotonic() - begin)
            self.assertEqual(len(poll.gone), 1)
            if term:
                yield self.until(lambda: self.reports)
        return took

    def test_nginx(self) -> Any:
        """
        nginx closes its own connection when the client does.
        """
        return self.abandons("nginx")

    @inlineCallbacks
    def test_haproxy(self) -> Any:
        """
        HAProxy takes it for a half-close, and waits for the answer, in bare Twisted
        too.  It closes its own connection when its time is over.
        """
        took = yield self.abandons("haproxy")
        for seconds in took:
            self.assertGreater(seconds, _PATIENCE - 1)

    def test_haproxyAbortOnClose(self) -> Any:
        """
        With C{option abortonclose} it does so at once.
        """
        return self.abandons("haproxy", "option abortonclose")
