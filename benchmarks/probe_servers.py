"""
Who loses data when it closes?  C{term-probe} against eight servers, each a
process of its own on the loopback interface that serves the same 5 MB.

All have the settings that they come with.  What a POST to the file gets is
each one's own way: nginx is told to answer with the file instead of a 405,
the three Python application servers and Go have a handler that answers any
method with the file and does not read the request's body; Apache reads all of
the body, and then sends the file; twisted.web reads all of it, and sends a 405.
What is not installed is skipped, and said.

    pip install aiohttp uvicorn gunicorn
    apt-get install --no-install-recommends nginx apache2 golang-go
    python benchmarks/probe_servers.py [--rounds N] [--write]

C{--write} puts the table into docs/probe.rst.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from twisted_term.probe.cases import CASES

_SIZE = 5_000_000
_DOCUMENT = Path(__file__).parents[1] / "docs" / "probe.rst"
_BEGIN, _END = ".. table: begin\n", ".. table: end\n"
#: Limits of all waits, in seconds.
_START, _STOP, _BUILD, _PROBE = 30.0, 20.0, 300.0, 3600.0

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
        listen 127.0.0.1:{port};
        root {directory}/www;
        error_page 405 =200 /file;
    }}
}}
"""
_APACHE = """
ServerRoot {directory}
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 127.0.0.1:{port}
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/apache.log
User www-data
Group www-data
DocumentRoot {directory}/www
"""
_AIOHTTP = """
import sys
from pathlib import Path
from aiohttp import web
body = Path(sys.argv[2]).read_bytes()
async def answer(request):
    return web.Response(body=body)
application = web.Application()
application.router.add_route("*", "/file", answer)
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None)
"""
_APPLICATIONS = """
import os
from pathlib import Path
body = Path(os.environ["PROBE_FILE"]).read_bytes()
length = str(len(body))
async def asgi(scope, receive, send):
    headers = [(b"content-length", length.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
def wsgi(environ, start):
    start("200 OK", [("Content-Length", length)])
    return [body]
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
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
"""


class Missing(Exception):
    """
    It is not installed.
    """


class Place(NamedTuple):
    """
    Where a server finds its files, and its port.
    """

    directory: Path
    port: int

    @property
    def file(self) -> str:
        """
        What it serves as C{/file}.
        """
        return str(self.directory / "www" / "file")

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
    """

    name: str
    version: Callable[[], str]
    command: Callable[[Place], list[str]]


def _package(name: str) -> Callable[[], str]:
    def find() -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            raise Missing(f"{name} is not installed") from None

    return find


def _program(*command: str) -> Callable[[], str]:
    def find() -> str:
        _path(command[0])
        done = subprocess.run(command, capture_output=True, text=True, timeout=_START)
        found = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
        return found[0] if found else "?"

    return find


def _path(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise Missing(f"{program} is not installed")
    return found


def _twisted(prefix: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        listen = f"{prefix}tcp:{place.port}:interface=127.0.0.1"
        www = str(place.directory / "www")
        twistd = ["-m", "twisted", "web", "--listen", listen, "--path", www]
        return [sys.executable, *twistd]

    return command


def _nginx(place: Place) -> list[str]:
    log = str(place.directory / "nginx.log")
    text = _NGINX.format(directory=place.directory, port=place.port)
    return [_path("nginx"), "-e", log, "-c", place.write("nginx.conf", text)]


def _apache(place: Place) -> list[str]:
    text = _APACHE.format(directory=place.directory, port=place.port)
    return [_path("apache2"), "-DFOREGROUND", "-f", place.write("apache.conf", text)]


def _aiohttp(place: Place) -> list[str]:
    script = place.write("serve_aiohttp.py", _AIOHTTP)
    return [sys.executable, script, str(place.port), place.file]


def _uvicorn(place: Place) -> list[str]:
    place.write("applications.py", _APPLICATIONS)
    quiet = ["--no-access-log", "--port", str(place.port)]
    return [sys.executable, "-m", "uvicorn", *quiet, "applications:asgi"]


def _gunicorn(place: Place) -> list[str]:
    place.write("applications.py", _APPLICATIONS)
    bind = f"127.0.0.1:{place.port}"
    return [sys.executable, "-m", "gunicorn", "--bind", bind, "applications:wsgi"]


def _go(place: Place) -> list[str]:
    source = place.write("serve.go", _GO)
    program = str(place.directory / "serve")
    environment = {**os.environ, "GOCACHE": str(place.directory / "cache")}
    build = [_path("go"), "build", "-o", program, source]
    subprocess.run(build, check=True, timeout=_BUILD, env=environment)
    return [program, str(place.port), place.file]


SERVERS = (
    Server("twisted.web", _package("twisted"), _twisted("")),
    Server("twisted.web, term:", _package("twisted_term"), _twisted("term:")),
    Server("nginx", lambda: _program(_path("nginx"), "-v")(), _nginx),
    Server("Apache httpd", lambda: _program(_path("apache2"), "-v")(), _apache),
    Server("aiohttp", _package("aiohttp"), _aiohttp),
    Server("uvicorn", _package("uvicorn"), _uvicorn),
    Server("gunicorn", _package("gunicorn"), _gunicorn),
    Server("Go net/http", _program("go", "version"), _go),
)


def _freePort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not serve") from None
            time.sleep(0.05)


def probe(server: Server, body: bytes, rounds: int) -> dict[str, Any]:
    """
    Start it, probe it, stop it.

    @return: what C{term-probe --json} has printed.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name), _freePort())
        # nginx and Apache give their rights up.
        place.directory.chmod(0o755)
        place.directory.joinpath("www").mkdir()
        Path(place.file).write_bytes(body)
        with open(place.directory / "output", "wb") as output:
            process = subprocess.Popen(
                server.command(place),
                cwd=place.directory,
                env={**os.environ, "PROBE_FILE": place.file},
                stdout=output,
                stderr=output,
            )
        try:
            _await(process, place.port)
            url = f"http://127.0.0.1:{place.port}/file"
            options = ["--json", "--rounds", str(rounds)]
            done = subprocess.run(
                [sys.executable, "-m", "twisted_term.probe", url, *options],
                stdout=subprocess.PIPE,
                timeout=_PROBE,
            )
            return json.loads(done.stdout)
        finally:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _cell(case: dict[str, Any]) -> str:
    of = f"{case['counts'][case['verdict']]}/{len(case['rounds'])}"
    return "clean" if case["verdict"] == "clean" else f"{case['verdict']} {of}"


def _simpleTable(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = " ".join("=" * width for width in widths)
    lines = [
        " ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])


def tables(found: list[tuple[Server, str, Optional[dict[str, Any]]]]) -> str:
    """
    The verdicts, and the particulars of those that are not clean.

    @param found: a server, its version or why it was skipped, and the report.
    """
    verdicts = [["server", "version", *(case.name for case in CASES)]]
    heads = ["server", "case", "status", "expected", "received"]
    particulars = [[*heads, "end", "closed first", "TIME_WAIT"]]
    for server, what, report in found:
        if report is None:
            verdicts.append([server.name, f"skipped: {what}", *["\\"] * len(CASES)])
            continue
        cells = {case["name"]: _cell(case) for case in report["cases"]}
        names = [cells.get(case.name, "not played") for case in CASES]
        verdicts.append([server.name, what, *names])
        for case in report["cases"]:
            if case["verdict"] != "clean":
                rounds = case["rounds"]
                worst = next(r for r in rounds if r["verdict"] == case["verdict"])
                keys = ("status", "expected", "received", "end", "closedFirst")
                values = [worst[key] for key in (*keys, "timeWait")]
                texts = ["none" if value is None else str(value) for value in values]
                particulars.append([server.name, case["name"], *texts])
    title = "The first of the worst rounds of each that is not clean:\n\n"
    more = "\n" + title + _simpleTable(particulars) if len(particulars) > 1 else ""
    return _simpleTable(verdicts) + more


def main() -> None:
    """
    Probe all in turn, and print or write the tables.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each case")
    parser.add_argument("--write", action="store_true", help=f"to {_DOCUMENT.name}")
    options = parser.parse_args()
    body = os.urandom(_SIZE)
    found: list[tuple[Server, str, Optional[dict[str, Any]]]] = []
    for server in SERVERS:
        try:
            what = server.version()
        except Missing as problem:
            found.append((server, str(problem), None))
            continue
        print(f"{server.name} {what}", file=sys.stderr)
        found.append((server, what, probe(server, body, options.rounds)))
    text = tables(found)
    print(text, end="")
    if options.write:
        before, _, rest = _DOCUMENT.read_text("utf-8").partition(_BEGIN)
        _, _, after = rest.partition(_END)
        _DOCUMENT.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")


if __name__ == "__main__":
    main()
