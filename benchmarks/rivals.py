"""
The servers that are measured, each one a thread of execution of its own.

The I{bare} ones answer what looks enough like HTTP, so that one client does
for all, with nginx among them:

    - C{GET /}: C{hello}, and the connection stays open,
    - C{GET /c}: C{hello}, and then the end,
    - C{GET /b}: 64 MiB, and then the end,
    - C{POST /u}: C{hello}, and then a lingering close: what arrives is
      discarded until the client's FIN.

I{Half-close by hand} is bare Twisted that ends each connection as the last one:
with C{loseWriteConnection()}, and when the client's FIN comes.  Without a limit
on that wait it is no lingering close yet, and it is the least that one costs.

The I{web} ones are each library's own HTTP server, with its defaults and no
access log: C{twisted.web}, without and with L{twisted_term}, aiohttp on
asyncio and on uvloop, Go's C{net/http}, and nginx.

    python benchmarks/rivals.py bare|web NAME DIRECTORY

serves, and prints the port.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Union

from processes import BODY, Rival, freePort

#: In the order of the tables; all is compared to the first.
NAMES = (
    "bare Twisted",
    "again",
    "WrappingFactory",
    "half-close by hand",
    "twisted_term",
    "asyncio",
    "uvloop",
    "Go",
    "nginx",
)
BULK = 64 << 20
_CHUNK = bytes(65536)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + BODY
_HERE = Path(__file__).parent
_BUILD = 300.0

_NGINX = """
daemon off;
worker_processes 1;
pid {prefix}/pid;
error_log stderr crit;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    default_type text/plain;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "hello\\n"; }}
        location /b {{ alias {prefix}/bulk; }}
    }}
}}
"""


def commands(
    kind: str, directory: str, names: tuple[str, ...] = NAMES
) -> dict[str, Union[Rival, str]]:
    """
    How to start each server.

    @param kind: C{"bare"} or C{"web"}.
    @param directory: where they may leave files.
    @return: for each of C{names}, how to start it, or why it is left out.
    """
    needed = {"asyncio": ("aiohttp",), "uvloop": ("uvloop", "aiohttp")}
    found: dict[str, Union[Rival, str]] = {}
    for name in names:
        if name == "Go":
            found[name] = _go(kind, directory)
            continue
        modules = needed.get(name, ())
        if kind == "bare":
            modules = modules[:-1]
        missing = [one for one in modules if importlib.util.find_spec(one) is None]
        if kind == "web" and name in NAMES[1:4]:
            continue  # they would be the same HTTP server
        if missing:
            found[name] = f"no {missing[0]} (pip install {missing[0]})"
        elif name == "nginx" and nginx() is None:
            found[name] = "no nginx (Debian: nginx-light)"
        else:
            stop = signal.SIGQUIT if name == "nginx" else signal.SIGTERM
            command = [sys.executable, __file__, kind, name, directory]
            found[name] = Rival(command, stop)
    return found


def build(compiler: list[str], source: str, directory: str) -> str:
    """
    Compile one of the files beside this one.

    @return: the path of the program.
    @raise RuntimeError: if that fails.
    """
    program = os.path.join(directory, source.replace(".", "-"))
    if not os.path.exists(program):
        try:
            subprocess.run(
                [*compiler, "-o", program, str(_HERE / source)],
                cwd=directory,
                env={"GOCACHE": os.path.join(directory, "cache"), **os.environ},
                check=True,
                timeout=_BUILD,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise RuntimeError(str(error)) from error
    return program


def _go(kind: str, directory: str) -> Union[Rival, str]:
    go = shutil.which("go")
    if go is None:
        return "no go (Debian: golang-go)"
    try:
        program = build([go, "build"], "rival.go", directory)
    except RuntimeError as error:
        return str(error)
    if kind == "web":
        return Rival([program, "http"])
    # The others have one thread.
    return Rival(["env", "GOMAXPROCS=1", program, "net", str(BULK // len(_CHUNK))])


def nginx() -> Any:
    """
    Where it is, or C{None}.
    """
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _serveNginx(directory: str) -> None:
    """
    Become nginx.
    """
    os.chmod(directory, 0o755)  # for its worker, which is another user
    prefix = tempfile.mkdtemp(dir=directory)
    os.chmod(prefix, 0o755)
    with open(os.path.join(prefix, "bulk"), "wb") as bulk:
        bulk.truncate(BULK)
    port = freePort()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    text = _NGINX.format(prefix=prefix, port=port, files=min(files, 65536))
    Path(prefix, "conf").write_text(text)
    print(port, flush=True)
    program = nginx()
    os.execv(program, [program, "-p", prefix, "-c", f"{prefix}/conf", "-e", "stderr"])


def _discardLog() -> None:
    """
    The others log nothing; and until a log begins, Twisted keeps the last
    65536 events, with all that they mention.
    """
    from twisted.logger import globalLogBeginner

    globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False)


def _bareTwisted(name: str) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from twisted.protocols.policies import WrappingFactory

    from twisted_term import TerminatingFactory

    class Server(Protocol):
        left = BULK // len(_CHUNK)

        def dataReceived(self, data: bytes) -> None:
            path = data[data.index(b"/") + 1 :][:1]
            if path == b"b":
                self.transport.registerProducer(self, False)
                return
            self.transport.write(_ANSWER)
            if path == b"c":
                self.end()
            elif path == b"u":
                self.linger()

        def end(self) -> None:
            self.transport.loseConnection()

        def linger(self) -> None:
            # Bare Twisted has no lingering close; this is one by hand, as far
            # as it goes: Twisted closes at the client's FIN.
            self.dataReceived = lambda data: None
            self.transport.loseWriteConnection()

        def resumeProducing(self) -> None:
            self.transport.write(_CHUNK)
            self.left -= 1
            if not self.left:
                self.transport.unregisterProducer()
                self.end()

        def stopProducing(self) -> None:
            pass

    class HalfClosing(Server):
        def end(self) -> None:
            self.transport.loseWriteConnection()

    class Terminating(Server):
        def linger(self) -> None:
            self.transport.loseConnection()

    factory: Any = Factory.forProtocol(Server)
    if name == "twisted_term":
        factory = TerminatingFactory(Factory.forProtocol(Terminating))
    elif name == "half-close by hand":
        factory = Factory.forProtocol(HalfClosing)
    elif name == "WrappingFactory":
        factory = WrappingFactory(factory)
    factory.noisy = False
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


def _bareAsyncio(name: str) -> None:
    import asyncio

    class Server(asyncio.Protocol):
        left = BULK // len(_CHUNK)
        paused = False

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            path = data[data.index(b"/") + 1 :][:1]
            if path == b"b":
                self.resume_writing()
                return
            self.transport.write(_ANSWER)
            if path == b"c":
                self.transport.close()
            elif path == b"u":
                # It has no lingering close either; it closes at FIN.
                self.transport.set_protocol(asyncio.Protocol())
                self.transport.write_eof()

        def pause_writing(self) -> None:
            self.paused = True

        def resume_writing(self) -> None:
            self.paused = False
            while self.left and not self.paused:
                self.transport.write(_CHUNK)
                self.left -= 1
            if not self.left:
                # Not in this call: its transport would be lost twice.
                asyncio.get_running_loop().call_soon(self.transport.close)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    _runner(name)(serve())


def _runner(name: str) -> Callable[[Any], Any]:
    import asyncio

    if name == "asyncio":
        return asyncio.run
    import uvloop

    return uvloop.run


def _webTwisted(name: str) -> None:
    from twisted.application.internet import StreamServerEndpointService
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from twisted_term import DrainingService
    from twisted_term.web import DrainingSite

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            request.setHeader(b"content-type", b"text/plain")
            return BODY

    class Told:
        """
        An endpoint that prints its port.
        """

        def listen(self, factory: Any) -> Any:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            return endpoint.listen(factory).addCallback(self._print)

        def _print(self, port: Any) -> Any:
            print(port.getHost().port, flush=True)
            return port

    service: Any
    if name == "twisted_term":
        service = DrainingService(Told(), DrainingSite(Hello()))
    else:
        service = StreamServerEndpointService(Told(), Site(Hello()))
    reactor.callWhenRunning(service.startService)
    reactor.run()


def _webAiohttp(name: str) -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    application = web.Application()
    application.router.add_get("/", hello)

    async def started(application: web.Application) -> None:
        # What connects from here on waits in the backlog.
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()

    application.on_startup.append(started)
    loop = None
    if name == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    quiet: Callable[..., None] = lambda *args, **kwargs: None  # noqa: E731
    web.run_app(application, sock=listening, access_log=None, print=quiet, loop=loop)


def main(kind: str, name: str, directory: str) -> None:
    """
    Serve.
    """
    if name == "nginx":
        _serveNginx(directory)
    elif name in ("asyncio", "uvloop"):
        (_bareAsyncio if kind == "bare" else _webAiohttp)(name)
    else:
        _discardLog()
        (_bareTwisted if kind == "bare" else _webTwisted)(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
