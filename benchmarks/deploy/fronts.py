"""
What stands before the processes.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import socket
import subprocess
import time
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import SkipTest

from .restarts import Address, freePorts

_HAPROXY = """
global
 maxconn 500
 stats socket {folder}/stats
 log stdout format timed daemon
defaults
 mode http
 log global
 option log-health-checks
 option httplog
 option dontlog-normal
 timeout connect 2s
 timeout client 30s
 timeout server 30s
 option redispatch
 option httpchk GET /ready
 timeout check 1s
{reuse}
{check}
frontend plain
 bind 127.0.0.1:{plain}
 default_backend plain
frontend tls
 bind 127.0.0.1:{tls} ssl crt {certificate} alpn h2,http/1.1
 default_backend tls
backend plain
 balance roundrobin
{plainServers}
backend tls
 balance roundrobin
 default-server ssl verify none alpn h2 no-check-ssl
{tlsServers}
"""
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
{user}
events {{}}
http {{
 access_log off;
 client_body_temp_path {folder}/body;
 proxy_temp_path {folder}/proxy;
 client_max_body_size 50m;
 keepalive_requests 1000000;
 upstream servers {{
{servers}
{keepAlive}
 }}
 map $http_upgrade $onwards {{ default upgrade; "" "{connection}"; }}
 server {{
  listen 127.0.0.1:{plain};
  listen 127.0.0.1:{tls} ssl http2;
  ssl_certificate {certificate};
  ssl_certificate_key {certificate};
  location / {{
   proxy_pass http://servers;
   proxy_http_version 1.1;
   proxy_set_header Connection $onwards;
   proxy_set_header Upgrade $http_upgrade;
   proxy_connect_timeout 2s;
  }}
 }}
}}
"""


class Direct:
    """
    Nothing: clients connect to the processes, anew for each request.  It is for
    ways where all processes have one address.

    @ivar address: where clients connect.
    @ivar reusing: do they use a connection for more than one request?
    """

    reusing = False

    def __init__(
        self, owner: Any, folder: Path, certificate: Path, servers: list[Address]
    ) -> None:
        self.address = servers[0]

    def settle(self) -> None:
        """
        Wait until it sends to each process again, as has to be done before the next
        one is restarted.
        """


class Front:
    """
    A balancer, until C{owner.addCleanup}.

    @cvar package: Debian's name of it.
    """

    reusing = True
    package: str
    program: str

    def __init__(
        self, owner: Any, folder: Path, certificate: Path, servers: list[Address]
    ) -> None:
        """
        @raise SkipTest: where it is not installed.
        """
        command = shutil.which(self.program)
        if command is None:
            raise SkipTest(f"needs {self.program}: apt-get install {self.package}")
        self.address = freePorts()
        self._folder = folder
        configuration = folder / f"{self.program}.conf"
        configuration.write_text(self.configuration(folder, certificate, servers))
        process = subprocess.Popen(
            [command, *self.options(folder, configuration)],
            stdin=subprocess.DEVNULL,
            stdout=(folder / f"{self.program}.out").open("w"),
            stderr=(folder / f"{self.program}.log").open("w"),
        )
        owner.addCleanup(process.wait)
        owner.addCleanup(process.terminate)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.address.tls), 5).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    said = (folder / f"{self.program}.log").read_text()
                    raise RuntimeError(f"{self.program}: {said}") from None
                time.sleep(0.05)
        self.settle()

    def settle(self) -> None:
        """
        See L{Direct.settle}.
        """

    def options(self, folder: Path, configuration: Path) -> list[str]:
        raise NotImplementedError

    def configuration(
        self, folder: Path, certificate: Path, servers: list[Address]
    ) -> str:
        raise NotImplementedError


class HAProxy(Front):
    """
    HAProxy, which asks C{/ready}; HTTP/2 to the processes, over TLS.  It asks the
    plain port in both cases: a check has no longer than C{inter} to connect and for
    the TLS handshake, and a process that is slow for once would be DOWN.
    """

    package = program = "haproxy"
    reuse = ""

    def settle(self) -> None:
        deadline = time.monotonic() + 20
        states = []
        while not states or set(states) - {"UP", "no check"}:
            if time.monotonic() > deadline:
                raise RuntimeError(f"haproxy: {states}")
            time.sleep(0.05)
            with contextlib.suppress(OSError):  # it starts
                states = self.states()

    def states(self) -> list[str]:
        """
        What it takes each port of each process for.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self._folder / "stats"))
            client.sendall(b"show stat -1 4 -1\n")  # of all servers
            text = client.makefile().read()
        return [row["status"] for row in csv.DictReader(StringIO(text.lstrip("# ")))]

    def options(self, folder: Path, configuration: Path) -> list[str]:
        return ["-db", "-f", str(configuration)]

    def configuration(
        self, folder: Path, certificate: Path, servers: list[Address]
    ) -> str:
        plain = [f" server s{i} 127.0.0.1:{s.plain}" for i, s in enumerate(servers)]
        tls = [
            f" server s{i} 127.0.0.1:{s.tls} port {s.plain}"
            for i, s in enumerate(servers)
        ]
        # Where all share one address, the answer would be that of any of them.
        check = " default-server check inter 200ms fall 2 rise 1"
        return _HAPROXY.format(
            folder=folder,
            reuse=self.reuse,
            check=check if len(servers) > 1 else "",
            **self.address._asdict(),
            certificate=certificate,
            plainServers="\n".join(plain),
            tlsServers="\n".join(tls),
        )


class HAProxyClosing(HAProxy):
    """
    HAProxy with a connection for each request of HTTP/1.1, and of HTTP/2 for each of
    its clients.
    """

    reuse = " option http-server-close\n http-reuse never"


class Nginx(Front):
    """
    nginx, which keeps connections to the processes, and asks nobody how they are.
    """

    program = "nginx"
    package = "nginx-light"
    keepAlive = " keepalive 16;\n keepalive_requests 1000000;"
    connection = ""

    def options(self, folder: Path, configuration: Path) -> list[str]:
        return ["-p", str(folder), "-c", str(configuration)]

    def configuration(
        self, folder: Path, certificate: Path, servers: list[Address]
    ) -> str:
        return _NGINX.format(
            **self.address._asdict(),
            folder=folder,
            certificate=certificate,
            user="user root;",
            servers="\n".join(
                f" server 127.0.0.1:{s.plain} max_fails=0;" for s in servers
            ),
            keepAlive=self.keepAlive,
            connection=self.connection,
        )


class NginxClosing(Nginx):
    """
    nginx with a connection for each request.
    """

    keepAlive = ""
    connection = "close"


FRONTS: dict[str, Any] = {
    "haproxy": HAProxy,
    "haproxy, no keepalive": HAProxyClosing,
    "nginx": Nginx,
    "nginx, no keepalive": NginxClosing,
    "none": Direct,
}
