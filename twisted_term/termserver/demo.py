"""
The demo server's protocol: lines in, answers out, in order.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional, Union

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from ..connection.report import Termination
from ..connection.wrapping import TerminationMixin
from ..status.states import States

_CYCLE = b"abcdefghijklmnopqrstuvwxyz"
_CHUNK = 64 * 1024
_LINE_LIMIT = 16 * 1024
#: If this many lines wait for their turn, no more are read.
_MOST_WAITING = 16
#: The most bytes that one command may send in chunks.
_MOST_BYTES = 1 << 30
#: The most bytes of all SENDs together.  They are in memory until they are sent.
_MOST_SENT = 64 << 20
_MOST_SECONDS = 86400
_HELP = (
    "ECHO text | SEND n | PUSH n | PULL n | WAIT seconds | SHUTDOWN | CLOSE"
    " | CLOSENOW | ABORT | STATUS | HELP"
)


def payload(start: int, count: int) -> bytes:
    """
    C{count} bytes of the payload from C{start}: byte i is C{i % 26 + 'a'}.
    """
    first = start % len(_CYCLE)
    return (_CYCLE * ((first + count) // len(_CYCLE) + 1))[first : first + count]


def chunks(count: int) -> Iterator[bytes]:
    """
    The payload in pieces that fit into the memory of any machine.
    """
    for start in range(0, count, _CHUNK):
        yield payload(start, min(_CHUNK, count - start))


def _isLast(line: bytes) -> bool:
    return line == b"CLOSE" or len(line) > _LINE_LIMIT


class CommandError(Exception):
    """
    Says to the sender of a command what is wrong with it.
    """


# How the commands read the text after their names.


def _text(name: str, text: str) -> str:
    return text


def _nothing(name: str, text: str) -> None:
    if text:
        raise CommandError(f"{name} {text[:40]!r}: {name} takes no argument")


def _count(name: str, text: str) -> int:
    most = _MOST_SENT if name == "SEND" else _MOST_BYTES
    # int() also reads "+1", "1_000" and " 1".
    if text.isascii() and text.isdigit() and len(text) < 20:
        count = int(text)
        if count <= most:
            return count
    raise CommandError(f"{name} {text[:40]!r}: must be a whole number from 0 to {most}")


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
        if 0 <= seconds <= _MOST_SECONDS and "_" not in text:
            return seconds
    except ValueError:
        pass
    raise CommandError(
        f"{name} {text[:40]!r}: must be a number of seconds from 0 to {_MOST_SECONDS}"
    )


_COMMANDS: dict[str, Callable[[str, str], Union[str, float, None]]] = {
    "ECHO": _text,
    "SEND": _count,
    "PUSH": _count,
    "PULL": _count,
    "WAIT": _seconds,
    "SHUTDOWN": _nothing,
    "CLOSE": _nothing,
    "CLOSENOW": _nothing,
    "ABORT": _nothing,
    "STATUS": _nothing,
    "HELP": _nothing,
}


@implementer(IPullProducer)
class PullPayload:
    """
    The payload in chunks, one for each C{resumeProducing}.

    @ivar done: fires when all is sent, or when the producer was told to stop.
    """

    def __init__(self, transport: Any, count: int) -> None:
        self._transport = transport
        self._chunks = chunks(count)
        self.done: Deferred[None] = Deferred()

    def resumeProducing(self) -> None:
        """
        Send one chunk; if none is left, unregister.
        """
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._transport.write(chunk)
        else:
            self._transport.unregisterProducer()
            self.stopProducing()

    def stopProducing(self) -> None:
        """
        Nothing more can be sent.
        """
        if not self.done.called:
            self.done.callback(None)


@implementer(IPushProducer)
class _Work:
    """
    The commands that are being carried out.  They are held work, and a push producer
    that the transport pauses while the peer does not read the answers.

    @ivar open: can anything still be sent?
    """

    open = True
    _registered = False
    _resumed: Optional[Deferred[None]] = None

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._hold = transport.hold()
        self._register()

    def _register(self) -> None:
        self._registered = True
        self._transport.registerProducer(self, True)

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """
        Give its place to another producer for a while.
        """
        self._unregister()
        yield
        if self.open:
            self._register()

    async def ready(self) -> bool:
        """
        Wait until the transport takes more.

        @return: C{False} if nothing can be sent any more.
        """
        if self._resumed is not None:
            await self._resumed
        return self.open

    def end(self) -> None:
        """
        All commands that can be answered are done.
        """
        self.open = False
        self._unregister()
        self._hold.release()

    def pauseProducing(self) -> None:
        """
        Many bytes wait for the peer, so build no more answers.
        """
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """
        The transport has sent what was written, so go on.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.called:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """
        Nothing more can be sent.
        """
        self.open = self._registered = False
        self.resumeProducing()


class DemoProtocol(TerminationMixin, Protocol):
    """
    Commands may be pipelined.  Each is done before the next one starts, and commands
    that wait for their turn are held work.  If a peer does not read its answers, no
    more are made until it reads them, so that one connection takes a bounded amount
    of memory.
    """

    transport: Any
    factory: DemoFactory
    _work: Any = None
    _running: Optional[Deferred[None]] = None
    _paused = False
    _unfinished = b""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()

    def connectionMade(self) -> None:
        self.factory.made(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost(self)
        self._lines.clear()
        if self._running is not None:
            self._running.cancel()

    def terminated(self, report: Termination) -> None:
        outcomes = self.factory.outcomes
        outcomes[report.outcome.value] = outcomes.get(report.outcome.value, 0) + 1

    def dataReceived(self, data: bytes) -> None:
        *found, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished.removesuffix(b"\r")) > _LINE_LIMIT:
            found.append(self._unfinished)
        lines = [line.removesuffix(b"\r") for line in found]
        last = next((i for i, line in enumerate(lines) if _isLast(line)), None)
        if last is not None:  # the commands behind it are not answered
            del lines[last + 1 :]
        self._lines.extend(lines)
        if self._work is None and self._lines:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: failure.trap(CancelledError))
        # If the peer asks for the end while commands are running, the end is asked
        # for at once, so that the limits of the policy apply.  The commands before it
        # are held work, and will be done.
        if last is not None:
            self.transport.loseConnection()
            return
        if b"SHUTDOWN" in lines:
            self.transport.loseWriteConnection()
        if self._work is not None and len(self._lines) > _MOST_WAITING:
            self._paused = True
            self.transport.pauseProducing()

    async def _run(self) -> None:
        self._work = work = _Work(self.transport)
        try:
            while self._lines:
                await self._perform(self._lines.popleft())
                await work.ready()
        finally:
            self._work = None
            work.end()
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    async def _perform(self, line: bytes) -> None:
        try:
            if len(line) > _LINE_LIMIT:
                raise CommandError(
                    f"{line[:20]!r}...: line too long, at most {_LINE_LIMIT} bytes"
                )
            name, _, text = line.decode("utf-8").partition(" ")
            if name not in _COMMANDS:
                raise CommandError(f"{name[:40]!r}: unknown command, try HELP")
            doing = getattr(self, f"do_{name}")(_COMMANDS[name](name, text))
            if doing is not None:
                await doing
        except UnicodeDecodeError:
            self._answer(f"ERROR {line[:40]!r}: must be UTF-8")
        except CommandError as error:
            self._answer(f"ERROR {error}")

    def _answer(self, text: str) -> None:
        self.transport.write(text.encode("utf-8") + b"\n")

    def do_ECHO(self, text: str) -> None:
        self._answer(text)

    async def do_SEND(self, count: int) -> None:
        with self.factory.sending(count):
            if self._work.open:
                self.transport.write(payload(0, count))
            await self._work.ready()

    async def do_PUSH(self, count: int) -> None:
        for chunk in chunks(count):
            if not await self._work.ready():
                break
            self.transport.write(chunk)

    async def do_PULL(self, count: int) -> None:
        with self._work.aside():
            producer = PullPayload(self.transport, count)
            self.transport.registerProducer(producer, False)
            await producer.done

    def do_WAIT(self, seconds: float) -> Deferred[None]:
        return deferLater(self.factory.clock, seconds, self._answer, "DONE")

    def do_SHUTDOWN(self, nothing: None) -> None:
        # Commands that follow cannot be answered, so they need not be held.
        self._work.end()
        self.transport.loseWriteConnection()

    def do_CLOSE(self, nothing: None) -> None:
        self.transport.loseConnection()

    def do_CLOSENOW(self, nothing: None) -> None:
        self._lines.clear()
        self.transport.closeConnection()

    def do_ABORT(self, nothing: None) -> None:
        self._lines.clear()
        self.transport.abortConnection()

    def do_STATUS(self, nothing: None) -> None:
        self._answer(json.dumps(self.factory.status(), sort_keys=True))

    def do_HELP(self, nothing: None) -> None:
        self._answer(_HELP)


class DemoFactory(Factory):
    """
    Builds L{DemoProtocol}s, and counts them.
    """

    protocol = DemoProtocol  # type: ignore[assignment]
    noisy = False

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.connections: set[DemoProtocol] = set()
        self.outcomes: dict[str, int] = {}
        self._states = States(clock)
        self._unsent = 0

    def made(self, connection: DemoProtocol) -> None:
        """
        A connection is made.
        """
        self.connections.add(connection)
        self._states.add(connection.transport)

    def lost(self, connection: DemoProtocol) -> None:
        """
        A connection is lost.
        """
        self.connections.discard(connection)
        self._states.discard(connection.transport)

    @contextmanager
    def sending(self, count: int) -> Iterator[None]:
        """
        While this context lasts, one connection has C{count} bytes in memory.

        @raise CommandError: if the bytes of all connections would be too many.
        """
        if self._unsent + count > _MOST_SENT:
            raise CommandError(
                f"SEND '{count}': {self._unsent} bytes of SENDs are not sent yet, of"
                f" {_MOST_SENT} at most; try PUSH"
            )
        self._unsent += count
        try:
            yield
        finally:
            self._unsent -= count

    def status(self) -> dict[str, Any]:
        """
        The answer to C{STATUS}: connections by state, ended ones by outcome.
        """
        states = self._states.counts()
        return {
            "connections": len(self.connections),
            "states": {state.value: n for state, n in states.items() if n},
            "ended": dict(self.outcomes),
        }


__all__ = ["CommandError", "DemoFactory", "DemoProtocol", "payload"]
