"""
Web servers, each as it comes, that serve the same file at C{/file}.

What a POST to the file gets is each one's own way: nginx is told to answer with
the file instead of a 405; those that run an application have one that answers any
method with the file, and does not read the request's body; Apache reads all of
the body, and sends the file; lighttpd sends the file at once, and reads on;
twisted.web reads all of it, and sends a 405.  C{/socket} is a WebSocket that
echoes, where there are WebSockets.  The proxies stand in front of aiohttp.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Callable, NamedTuple

_BUILD, _SECONDS = 300.0, 30.0


class Missing(Exception):
    """
    It is not installed.
    """


class Place(NamedTuple):
    """
    Where a server finds its files, and its port.

    @ivar backend: the port of what a proxy stands in front of.
    @ivar tls: with the certificate and key in C{pem}.
    """

    directory: Path
    port: int
    backend: int
    tls: bool

    @property
    def file(self) -> str:
        """
        What it serves as C{/file}.
        """
        return str(self.directory / "www" / "file")

    @property
    def pem(self) -> str:
        """
        Certificate and key.
        """
        return str(self.directory / "server.pem")

    def write(self, name: str, text: str) -> str:
        """
        Write a file, and return its path.
        """
        path = self.directory / name
        path.write_text(text)
        return str(path)


class Server(NamedTuple):
    """
    @ivar version: says which one it is, or raises L{Missing}.
    @ivar command: what to run.
    @ivar columns: what it has, of C{TLS}, C{HTTP/2} and C{WebSocket}, as far as it
        comes with it.
    @ivar proxy: it needs a backend.
    """

    name: str
    version: Callable[[], str]
    command: Callable[[Place], list[str]]
    columns: tuple[str, ...]
    proxy: bool = False


_TLS, _HTTP2, _SOCKET = "TLS", "HTTP/2", "WebSocket"

_NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
    access_log off;
    client_max_body_size 1g;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port}{tls};
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        {serve}
    }}
}}
"""
_SERVE = "root {directory}/www; error_page 405 =200 /file;"
_PASS = """location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
        }}"""
_HAPROXY = """
global
    log stderr format raw local0 emerg
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port} {tls}
    default_backend back
backend back
    server one 127.0.0.1:{backend}
"""
_CADDY = """
{{
    admin off
    auto_https off
    storage file_system {directory}
}}
{scheme}://localhost:{port}, {scheme}://127.0.0.1:{port} {{
    bind 127.0.0.1
    {tls}
    reverse_proxy 127.0.0.1:{backend}
}}
"""
_APACHE = """
ServerRoot {directory}
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
{tls}
Listen 127.0.0.1:{port}
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/apache.log
User www-data
Group www-data
DocumentRoot {directory}/www
"""
_APACHE_TLS = """
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
SSLEngine on
SSLCertificateFile {pem}
Protocols h2 http/1.1
"""
_LIGHTTPD = """
server.port = {port}
server.bind = "127.0.0.1"
server.document-root = "{directory}/www"
server.errorlog = "{directory}/lighttpd.log"
"""
_LIGHTTPD_TLS = """
server.modules += ("mod_openssl")
ssl.engine = "enable"
ssl.pemfile = "{pem}"
"""
_AIOHTTP = """
import ssl, sys
from pathlib import Path
from aiohttp import web
port, file, pem = int(sys.argv[1]), sys.argv[2], sys.argv[3]
body = Path(file).read_bytes()
async def answer(request):
    return web.Response(body=body)
async def socket(request):
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    async for message in connection:
        if isinstance(message.data, str):
            await connection.send_str(message.data)
        else:
            await connection.send_bytes(message.data)
    return connection
application = web.Application()
application.router.add_route("*", "/file", answer)
application.router.add_get("/socket", socket)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pem else None
if context:
    context.load_cert_chain(pem)
options = {"host": "127.0.0.1", "port": port, "ssl_context": context}
web.run_app(application, access_log=None, **options)
"""
_APPLICATIONS = """
import os
from pathlib import Path
body = Path(os.environ["PROBE_FILE"]).read_bytes()
length = str(len(body))
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            data = {key: event[key] for key in ("text", "bytes") if event.get(key)}
            await send({"type": "websocket.send", **data})
        return
    headers = [(b"content-length", length.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
def wsgi(environ, start):
    start("200 OK", [("Content-Length", length)])
    return [body]
"""
_TORNADO = """
import asyncio, ssl, sys
from pathlib import Path
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler
port, file, pem = int(sys.argv[1]), sys.argv[2], sys.argv[3]
body = Path(file).read_bytes()
class File(RequestHandler):
    def get(self):
        self.write(body)
    post = get
class Echo(WebSocketHandler):
    def on_message(self, message):
        self.write_message(message, isinstance(message, bytes))
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pem else None
    if context:
        context.load_cert_chain(pem)
    application = Application([("/file", File), ("/socket", Echo)])
    application.listen(port, "127.0.0.1", ssl_options=context)
    await asyncio.Event().wait()
asyncio.run(main())
"""
_SANIC = """
import sys
from pathlib import Path
from sanic import Sanic, response
port, file, pem = int(sys.argv[1]), sys.argv[2], sys.argv[3]
body = Path(file).read_bytes()
application = Sanic("probed")
@application.route("/file", methods=["GET", "POST"], stream=True)
async def answer(request):
    return response.raw(body)
@application.websocket("/socket")
async def socket(request, connection):
    async for message in connection:
        await connection.send(message)
if __name__ == "__main__":
    tls = {"cert": pem, "key": pem} if pem else None
    options = {"host": "127.0.0.1", "port": port, "ssl": tls}
    application.run(single_process=True, access_log=False, motd=False, **options)
"""
_WAITRESS = """
import sys
from applications import wsgi
from waitress import serve
serve(wsgi, host="127.0.0.1", port=int(sys.argv[1]))
"""
_CHEROOT = """
import sys
from applications import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
server = Server(("127.0.0.1", int(sys.argv[1])), wsgi)
if sys.argv[3]:
    server.ssl_adapter = BuiltinSSLAdapter(sys.argv[3], sys.argv[3])
server.safe_start()
"""
_NODE = """
const fs = require('fs'), [port, file, pem] = process.argv.slice(2);
const body = fs.readFileSync(file);
function answer(request, response) {
    response.writeHead(200, {'Content-Length': body.length});
    response.end(body);
}
let server;
if (pem) {
    const text = fs.readFileSync(pem);
    const options = {key: text, cert: text, allowHTTP1: true};
    server = require('http2').createSecureServer(options, answer);
} else {
    server = require('http').createServer(answer);
}
server.listen(port, '127.0.0.1');
"""
_GO = """\
package main

import (
	"net/http"
	"os"
	"strconv"
)

func main() {
	body, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})
	address := "127.0.0.1:" + os.Args[1]
	if os.Args[3] != "" {
		panic(http.ListenAndServeTLS(address, os.Args[3], os.Args[3], nil))
	}
	panic(http.ListenAndServe(address, nil))
}
"""


def package(name: str) -> Callable[[], str]:
    """
    The version of a Python package.
    """

    def find() -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            raise Missing(f"{name} is not installed") from None

    return find


def program(*command: str) -> Callable[[], str]:
    """
    The version that a program says it has.
    """

    def find() -> str:
        found = [path(command[0]), *command[1:]]
        done = subprocess.run(found, capture_output=True, text=True, timeout=_SECONDS)
        number = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
        return number[0] if number else "?"

    return find


def path(name: str) -> str:
    """
    @raise Missing: if there is no such program.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _twisted(prefix: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        kind = "ssl" if place.tls else "tcp"
        pem = f":privateKey={place.pem}:certKey={place.pem}" if place.tls else ""
        listen = f"{prefix}{kind}:{place.port}:interface=127.0.0.1{pem}"
        www = str(place.directory / "www")
        twistd = ["-m", "twisted", "web", "--listen", listen, "--path", www]
        return [sys.executable, *twistd]

    return command


def _daphne(prefix: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        place.write("applications.py", _APPLICATIONS)
        kind = "ssl" if place.tls else "tcp"
        pem = f":privateKey={place.pem}:certKey={place.pem}" if place.tls else ""
        listen = f"{prefix}{kind}:{place.port}:interface=127.0.0.1{pem}"
        run = "from daphne.cli import CommandLineInterface as c; c.entrypoint()"
        return [sys.executable, "-c", run, "-v0", "-e", listen, "applications:asgi"]

    return command


def _nginx(serve: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        known = {**place._asdict(), "pem": place.pem}
        known["serve"] = serve.format(**known)
        known["tls"] = " ssl http2" if place.tls else ""
        text = _NGINX.format(**known)
        if not place.tls:
            text = re.sub(r"ssl_certificate.*", "", text)
        log = str(place.directory / "nginx.log")
        return [path("nginx"), "-e", log, "-c", place.write("nginx.conf", text)]

    return command


def _haproxy(place: Place) -> list[str]:
    tls = f"ssl crt {place.pem} alpn h2,http/1.1" if place.tls else ""
    text = _HAPROXY.format(port=place.port, backend=place.backend, tls=tls)
    return [path("haproxy"), "-db", "-f", place.write("haproxy.cfg", text)]


def _caddy(place: Place) -> list[str]:
    text = _CADDY.format(
        directory=place.directory,
        port=place.port,
        backend=place.backend,
        scheme="https" if place.tls else "http",
        tls=f"tls {place.pem} {place.pem}" if place.tls else "",
    )
    options = ["--adapter", "caddyfile", "--config", place.write("Caddyfile", text)]
    return [path("caddy"), "run", *options]


def _apache(place: Place) -> list[str]:
    tls = _APACHE_TLS.format(pem=place.pem) if place.tls else ""
    text = _APACHE.format(directory=place.directory, port=place.port, tls=tls)
    return [path("apache2"), "-DFOREGROUND", "-f", place.write("apache.conf", text)]


def _lighttpd(place: Place) -> list[str]:
    if place.tls and not Path("/usr/lib/lighttpd/mod_openssl.so").exists():
        raise Missing("lighttpd-mod-openssl is not installed")
    tls = _LIGHTTPD_TLS.format(pem=place.pem) if place.tls else ""
    text = _LIGHTTPD.format(directory=place.directory, port=place.port) + tls
    return [path("lighttpd"), "-D", "-f", place.write("lighttpd.conf", text)]


def _script(name: str, text: str) -> Callable[[Place], list[str]]:
    """
    A script of Python.
    """

    def command(place: Place) -> list[str]:
        place.write("applications.py", _APPLICATIONS)
        script = place.write(f"serve_{name}.py", text)
        pem = place.pem if place.tls else ""
        return [sys.executable, script, str(place.port), place.file, pem]

    return command


def _module(
    name: str, application: str, *options: str, tls: tuple[str, ...] = ()
) -> Callable[[Place], list[str]]:
    """
    A server that is a module, and what it is to run.
    """

    def command(place: Place) -> list[str]:
        place.write("applications.py", _APPLICATIONS)
        given = [*options, *(tls if place.tls else ())]
        known = {"port": place.port, "pem": place.pem}
        shown = [one.format(**known) for one in given]
        return [sys.executable, "-m", name, *shown, f"applications:{application}"]

    return command


def _node(place: Place) -> list[str]:
    script = place.write("serve.js", _NODE)
    pem = place.pem if place.tls else ""
    return [path("node"), script, str(place.port), place.file, pem]


def _go(place: Place) -> list[str]:
    source = place.write("serve.go", _GO)
    made = str(place.directory / "serve")
    environment = {**os.environ, "GOCACHE": str(place.directory / "cache")}
    build = [path("go"), "build", "-o", made, source]
    subprocess.run(build, check=True, timeout=_BUILD, env=environment)
    return [made, str(place.port), place.file, place.pem if place.tls else ""]


SERVERS = (
    Server("twisted.web", package("twisted"), _twisted(""), (_TLS, _HTTP2)),
    Server(
        "twisted.web, term:",
        package("twisted_term"),
        _twisted("term:"),
        (_TLS, _HTTP2),
    ),
    Server("Daphne", package("daphne"), _daphne(""), (_TLS, _HTTP2, _SOCKET)),
    Server(
        "Daphne, term:", package("daphne"), _daphne("term:"), (_TLS, _HTTP2, _SOCKET)
    ),
    Server("nginx", program("nginx", "-v"), _nginx(_SERVE), (_TLS, _HTTP2)),
    Server(
        "nginx, proxy",
        program("nginx", "-v"),
        _nginx(_PASS),
        (_TLS, _HTTP2, _SOCKET),
        True,
    ),
    Server(
        "HAProxy", program("haproxy", "-v"), _haproxy, (_TLS, _HTTP2, _SOCKET), True
    ),
    Server(
        "Caddy, proxy",
        program("caddy", "version"),
        _caddy,
        (_TLS, _HTTP2, _SOCKET),
        True,
    ),
    Server("Apache httpd", program("apache2", "-v"), _apache, (_TLS, _HTTP2)),
    Server("lighttpd", program("lighttpd", "-v"), _lighttpd, (_TLS, _HTTP2)),
    Server("Go net/http", program("go", "version"), _go, (_TLS, _HTTP2)),
    Server("node http", program("node", "--version"), _node, (_TLS, _HTTP2)),
    Server(
        "aiohttp", package("aiohttp"), _script("aiohttp", _AIOHTTP), (_TLS, _SOCKET)
    ),
    Server(
        "tornado", package("tornado"), _script("tornado", _TORNADO), (_TLS, _SOCKET)
    ),
    Server("sanic", package("sanic"), _script("sanic", _SANIC), (_TLS, _SOCKET)),
    Server(
        "uvicorn",
        package("uvicorn"),
        _module(
            "uvicorn",
            "asgi",
            *("--no-access-log", "--port", "{port}"),
            tls=("--ssl-certfile", "{pem}", "--ssl-keyfile", "{pem}"),
        ),
        (_TLS, _SOCKET),
    ),
    Server(
        "hypercorn",
        package("hypercorn"),
        _module(
            "hypercorn",
            "asgi",
            *("--bind", "127.0.0.1:{port}"),
            tls=("--certfile", "{pem}", "--keyfile", "{pem}"),
        ),
        (_TLS, _HTTP2, _SOCKET),
    ),
    Server(
        "granian",
        package("granian"),
        _module(
            "granian",
            "asgi",
            *("--interface", "asgi", "--port", "{port}"),
            tls=("--ssl-certificate", "{pem}", "--ssl-keyfile", "{pem}"),
        ),
        (_TLS, _HTTP2, _SOCKET),
    ),
    Server(
        "gunicorn",
        package("gunicorn"),
        _module(
            "gunicorn",
            "wsgi",
            *("--bind", "127.0.0.1:{port}"),
            tls=("--certfile", "{pem}", "--keyfile", "{pem}"),
        ),
        (_TLS,),
    ),
    Server("waitress", package("waitress"), _script("waitress", _WAITRESS), ()),
    Server("cheroot", package("cheroot"), _script("cheroot", _CHEROOT), (_TLS,)),
)

#: What a proxy stands in front of.
BACKEND = _script("aiohttp", _AIOHTTP)


__all__ = ["BACKEND", "SERVERS", "Missing", "Place", "Server", "package"]
