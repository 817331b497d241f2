"""
Who loses data when it closes, and when it is stopped?  C{term-probe} against
twenty-one servers, each a process of its own on the loopback interface that serves
the same 5 MB with the settings that it comes with; what each does with a POST is
said in webservers.py.  What is not installed is skipped, and said.

    pip install aiohttp cheroot daphne granian gunicorn hypercorn sanic \\
        tornado uvicorn waitress websockets ".[probe]"
    apt-get install --no-install-recommends nginx haproxy caddy apache2-bin lighttpd \\
        lighttpd-mod-openssl golang-go nodejs openssl
    python benchmarks/probe_servers.py [--rounds N] [--server NAME] [--write]

C{--write} puts the tables into docs/probe.rst, and the picture beside it;
C{--keep FILE} adds what is found to what another run has found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from xml.sax.saxutils import escape

from processes import freePort
from webservers import BACKEND, SERVERS, Missing, Place, Server, package

_SIZE = 5_000_000
_DOCUMENT = Path(__file__).parents[1] / "docs" / "probe.rst"
_PICTURE = _DOCUMENT.with_name("probe.svg")
_BEGIN, _END = ".. table: begin\n", ".. table: end\n"
COLUMNS = ("HTTP/1.1", "TLS", "HTTP/2", "WebSocket", "deploy")
#: Limits of all waits, in seconds.
_START, _STOP, _PROBE = 30.0, 20.0, 3600.0
#: An upload over HTTP/2 goes through windows of 64 KiB, and takes long.
_UPLOADS = {"HTTP/2": 10_000_000}
_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7"
    " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
)


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


@contextlib.contextmanager
def _running(command: list[str], place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """
    A server, while the context lasts.
    """
    with open(place.directory / "output", "ab") as output:
        process = subprocess.Popen(
            command,
            cwd=place.directory,
            env=_environment(place),
            stdout=output,
            stderr=output,
        )
    try:
        _await(process, place.port)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(place: Place) -> dict[str, str]:
    paths = (str(place.directory), os.environ.get("PYTHONPATH", ""))
    return {
        **os.environ,
        "PROBE_FILE": place.file,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def _place(directory: Path, body: bytes) -> Place:
    # nginx and Apache give their rights up.
    directory.chmod(0o755)
    directory.joinpath("www").mkdir()
    place = Place(directory, freePort(), freePort(), False)
    Path(place.file).write_bytes(body)
    key, certificate = directory / "key", directory / "certificate"
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = [*_CERTIFICATE.split(), *files]
    subprocess.run(command, check=True, capture_output=True, timeout=_START)
    Path(place.pem).write_bytes(key.read_bytes() + certificate.read_bytes())
    Path(place.pem).chmod(0o644)
    return place


def _termProbe(place: Place, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "twisted_term.probe", *arguments],
        capture_output=True,
        timeout=_PROBE,
        env=_environment(place),
        cwd=place.directory,
        text=True,
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": done.stderr.strip()[-200:]}


def probe(server: Server, column: str, body: bytes, rounds: int) -> Any:
    """
    Start it, probe it, stop it.

    @return: what C{term-probe --json} has printed.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = _place(Path(name), body)
        if server.proxy:
            package("aiohttp")()
            backend = place._replace(port=place.backend)
            stack.enter_context(_running(BACKEND(backend), backend))
        tls = column in ("TLS", "HTTP/2")
        place = place._replace(tls=tls)
        command = server.command(place)
        options = ["--json", "--rounds", str(rounds)]
        where = f"127.0.0.1:{place.port}"
        if column == "deploy":
            more = ["--websocket=/socket"] if "WebSocket" in server.columns else []
            url = f"http://{where}/file"
            return _termProbe(place, "deploy", url, *options, *more, "--", *command)
        with _running(command, place):
            if column == "WebSocket":
                more = ["--message=hello", f"ws://{where}/socket"]
            elif tls:
                where = f"https://localhost:{place.port}/file"
                more = ["--insecure", where] + ["--http2"] * (column == "HTTP/2")
            else:
                more = [f"http://{where}/file"]
            if column in _UPLOADS:
                more.append(f"--upload={_UPLOADS[column]}")
            return _termProbe(place, *more, *options)


def _verdicts(report: Any) -> list[tuple[str, list[str]]]:
    """
    The verdicts of a cell that are not clean, the worst first, and their cases.
    """
    if "error" in report:
        return [("error", [(report["error"].splitlines() or ["it says nothing"])[-1]])]
    if "rounds" in report:
        return _fates(report)
    found: dict[str, list[str]] = {}
    for case in report["cases"]:
        if case["verdict"] != "clean":
            found.setdefault(case["verdict"], []).append(case["name"])
    worst = report["verdict"]
    return sorted(found.items(), key=lambda item: item[0] != worst)


def _fates(report: Any) -> list[tuple[str, list[str]]]:
    lost: list[str] = []
    for one in report["rounds"]:
        for name, outcomes in one["cases"].items():
            if any(outcome["lost"] for outcome in outcomes) and name not in lost:
                lost.append(name)
    if lost:
        return [("loses data", lost)]
    ended = all(one["end"] for one in report["rounds"])
    return [] if ended else [("hangs", ["the process"])]


def _cell(report: Optional[Any]) -> str:
    if report is None:
        return "has none"
    verdicts = _verdicts(report)
    cells = [f"{verdict}: {', '.join(names)}" for verdict, names in verdicts]
    return "; ".join(cells) or "clean"


def _listTable(rows: list[list[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [
            f"   {'* -' if not n else '  -'} {cell}" for n, cell in enumerate(row)
        ]
    return "\n".join([*lines, ""])


def tables(found: dict[str, Any]) -> str:
    """
    The verdicts, and the particulars of those that lose data.

    @param found: by the server's name, its C{version} and its C{reports}, or why it
        was C{skipped}.
    """
    rows = [["server", "version", *COLUMNS]]
    heads = ["server", "over", "case", "rounds", "status", "received", "end"]
    particulars = [[*heads, "closed first"]]
    for name, one in found.items():
        if "skipped" in one:
            rows.append([name, f"skipped: {one['skipped']}", *["\\-"] * len(COLUMNS)])
            continue
        reports = one["reports"]
        cells = [_cell(reports.get(column)) for column in COLUMNS]
        rows.append([name, one["version"], *cells])
        for column, report in reports.items():
            for case in report.get("cases", ()):
                if case["verdict"] == "loses data":
                    particulars.append([name, column, *_particulars(case)])
    title = "The first of the worst rounds of each that loses data:\n\n"
    more = "\n" + title + _listTable(particulars) if len(particulars) > 1 else ""
    return _listTable(rows) + more


def _particulars(case: dict[str, Any]) -> list[str]:
    rounds = case["rounds"]
    worst = next(one for one in rounds if one["verdict"] == case["verdict"])
    of = f"{case['counts'][case['verdict']]}/{len(rounds)}"
    status = "none" if worst["status"] is None else str(worst["status"])
    expected = "" if worst["expected"] is None else f" of {worst['expected']}"
    first = worst["closedFirst"] or "nobody"
    received = f"{worst['received']}{expected}"
    return [case["name"], of, status, received, worst["end"], first]


_STYLE = """
svg { background: #fff; font: 13px system-ui, sans-serif; }
text { fill: #1f2328; }
.head { font-weight: 600; }
.small { font-size: 11px; }
.clean { fill: #dafbe1; }
.loses { fill: #ffd8d3; }
.other { fill: #fff1c2; }
.none { fill: #f0f2f4; }
"""
_LEFT, _CELL, _ROW, _TOP = 150, 118, 26, 34


def picture(found: dict[str, Any]) -> str:
    """
    The table, a word and a colour for each cell.
    """
    shown = {name: one for name, one in found.items() if "reports" in one}
    width, height = _LEFT + _CELL * len(COLUMNS) + 10, _TOP + _ROW * len(shown) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img">',
        "<title>Which server loses data when it closes, and when it is stopped</title>",
        f"<style>{_STYLE}</style>",
    ]
    for n, column in enumerate(COLUMNS):
        x = _LEFT + n * _CELL + 8
        lines.append(f'<text class="head" x="{x}" y="22">{column}</text>')
    for row, (name, one) in enumerate(shown.items()):
        y = _TOP + row * _ROW
        lines.append(f'<text x="8" y="{y + 18}">{escape(name)}</text>')
        for n, column in enumerate(COLUMNS):
            word, kind = _word(one["reports"].get(column))
            x = _LEFT + n * _CELL
            size = f'width="{_CELL - 4}" height="{_ROW - 4}" rx="3"'
            lines.append(f'<rect class="{kind}" x="{x}" y="{y + 2}" {size}/>')
            lines.append(f'<text class="small" x="{x + 8}" y="{y + 17}">{word}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _word(report: Optional[Any]) -> tuple[str, str]:
    if report is None:
        return "has none", "none"
    verdicts = _verdicts(report)
    if not verdicts:
        return "clean", "clean"
    verdict, names = verdicts[0]
    kind = "loses" if verdict in ("loses data", "accepts cut") else "other"
    return f"{verdict} ({len(names)})", kind


def _probeAll(server: Server, body: bytes, rounds: int) -> dict[str, Any]:
    try:
        what = server.version()
    except Missing as problem:
        return {"skipped": str(problem)}
    reports = {}
    for column in COLUMNS:
        if column in ("HTTP/1.1", "deploy", *server.columns):
            print(f"{server.name} {what}: {column}", file=sys.stderr, flush=True)
            try:
                reports[column] = probe(server, column, body, rounds)
            except Missing as problem:
                return {"skipped": str(problem)}
            except RuntimeError as error:
                reports[column] = {"error": str(error)[-200:]}
            print(f"  {_cell(reports[column])}", file=sys.stderr, flush=True)
    return {"version": what, "reports": reports}


def main() -> None:
    """
    Probe all in turn, and print or write the tables.
    """
    names = [server.name for server in SERVERS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of each case")
    parser.add_argument("--server", action="append", choices=names, help="this one")
    parser.add_argument("--keep", type=Path, help="add to what is in this file")
    parser.add_argument("--write", action="store_true", help=f"to {_DOCUMENT.name}")
    options = parser.parse_args()
    body = os.urandom(_SIZE)
    kept: dict[str, Any] = {}
    if options.keep is not None and options.keep.exists():
        kept = json.loads(options.keep.read_text())
    for server in SERVERS:
        if server.name in (options.server or names):
            kept[server.name] = _probeAll(server, body, options.rounds)
            if options.keep is not None:
                options.keep.write_text(json.dumps(kept))
    found = {name: kept[name] for name in names if name in kept}
    text = tables(found)
    print(text, end="")
    if options.write:
        before, _, rest = _DOCUMENT.read_text("utf-8").partition(_BEGIN)
        _, _, after = rest.partition(_END)
        _DOCUMENT.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
        _PICTURE.write_text(picture(found), "utf-8")


if __name__ == "__main__":
    main()
