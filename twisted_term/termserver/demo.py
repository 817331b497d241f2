"""
The demo server's protocol: lines in, answers out, in order.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Callable, Optional, Union

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from ..connection.report import State, Termination
from ..connection.wrapping import TerminationMixin

_CYCLE = b"abcdefghijklmnopqrstuvwxyz"
_CHUNK = 64 * 1024
_LINE_LIMIT = 16 * 1024
_MOST_WAITING = 256
_MOST_BYTES = 1 << 30
_MOST_SECONDS = 86400
_HELP = (
    "ECHO text | SEND n | PUSH n | PULL n | WAIT seconds | SHUTDOWN | CLOSE"
    " | ABORT | STATUS | HELP"
)


def payload(start: int, count: int) -> bytes:
    """
    C{count} bytes of the payload from C{start}: byte i is C{i % 26 + 'a'}.
    """
    first = start % len(_CYCLE)
    return (_CYCLE * ((first + count) // len(_CYCLE) + 1))[first : first + count]


class CommandError(Exception):
    """
    What is wrong with a command, for its sender.
    """


# What a command makes of the text behind its name.


def _text(name: str, text: str) -> str:
    return text


def _nothing(name: str, text: str) -> None:
    if text:
        raise CommandError(f"{name} {text[:40]!r}: {name} takes no argument")


def _count(name: str, text: str) -> int:
    # int() also reads "+1", "1_000" and " 1".
    if text.isascii() and text.isdigit() and len(text) < 20:
        count = int(text)
        if count <= _MOST_BYTES:
            return count
    raise CommandError(
        f"{name} {text[:40]!r}: must be a whole number from 0 to {_MOST_BYTES}"
    )


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
    "ABORT": _nothing,
    "STATUS": _nothing,
    "HELP": _nothing,
}


class _Payload:
    """
    Sends the payload in chunks, and unregisters when it is done.

    @ivar done: fires when all is written, or when it was told to stop.
    """

    def __init__(self, transport: Any, count: int) -> None:
        self._transport = transport
        self._chunks = (
            payload(start, min(_CHUNK, count - start))
            for start in range(0, count, _CHUNK)
        )
        self.done: Deferred[None] = Deferred()

    def _sendOne(self) -> None:
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


@implementer(IPullProducer)
class PullPayload(_Payload):
    """
    One chunk for each C{resumeProducing}.
    """

    def resumeProducing(self) -> None:
        """
        Send one chunk.
        """
        self._sendOne()


@implementer(IPushProducer)
class PushPayload(_Payload):
    """
    Chunks until it is told to pause.
    """

    _paused = True

    def pauseProducing(self) -> None:
        """
        Stop sending.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Send until paused.
        """
        self._paused = False
        while not self._paused and not self.done.called:
            self._sendOne()


class DemoProtocol(TerminationMixin, Protocol):
    """
    Commands may be pipelined; each is done before the next one starts, and
    what waits its turn is held work.
    """

    transport: Any
    factory: DemoFactory
    _hold: Any = None
    _current: Optional[Deferred[Any]] = None
    _running = False
    _paused = False
    _unfinished = b""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()

    def connectionMade(self) -> None:
        self.factory.connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.discard(self)
        self._lines.clear()
        if self._current is not None:
            self._current.cancel()

    def terminated(self, report: Termination) -> None:
        outcomes = self.factory.outcomes
        outcomes[report.outcome.value] = outcomes.get(report.outcome.value, 0) + 1

    def dataReceived(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished.removesuffix(b"\r")) > _LINE_LIMIT:
            lines.append(self._unfinished)
        for line in lines:
            self._lineReceived(line.removesuffix(b"\r"))
            if self.transport.disconnecting or self.transport.state is State.ABORTED:
                break

    def _lineReceived(self, line: bytes) -> None:
        tooLong = len(line) > _LINE_LIMIT
        self._lines.append(line)
        if not self._running:
            running = Deferred.fromCoroutine(self._run())
            running.addErrback(lambda failure: failure.trap(CancelledError))
        # An end behind running work is asked for at once, so that the policy
        # applies: what came before it is held, and will be done.
        if line == b"SHUTDOWN":
            self.transport.loseWriteConnection()
        elif line == b"CLOSE" or tooLong:
            self.transport.loseConnection()
        elif len(self._lines) > _MOST_WAITING:
            self._paused = True
            self.transport.pauseProducing()

    async def _run(self) -> None:
        self._running = True
        with self.transport.hold() as self._hold:
            while self._lines:
                self._current = self._perform(self._lines.popleft())
                if self._current is not None:
                    await self._current
        self._running = False
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def _perform(self, line: bytes) -> Optional[Deferred[Any]]:
        try:
            if len(line) > _LINE_LIMIT:
                raise CommandError(
                    f"{line[:20]!r}...: line too long, at most {_LINE_LIMIT} bytes"
                )
            name, _, text = line.decode("utf-8").partition(" ")
            if name not in _COMMANDS:
                raise CommandError(f"{name[:40]!r}: unknown command, try HELP")
            argument = _COMMANDS[name](name, text)
        except UnicodeDecodeError:
            self._answer(f"ERROR {line[:40]!r}: must be UTF-8")
        except CommandError as error:
            self._answer(f"ERROR {error}")
        else:
            return getattr(self, f"do_{name}")(argument)
        return None

    def _answer(self, text: str) -> None:
        self.transport.write(text.encode("utf-8") + b"\n")

    def do_ECHO(self, text: str) -> None:
        self._answer(text)

    def do_SEND(self, count: int) -> None:
        self.transport.write(payload(0, count))

    def do_PUSH(self, count: int) -> Deferred[None]:
        producer = PushPayload(self.transport, count)
        self.transport.registerProducer(producer, True)
        producer.resumeProducing()
        return producer.done

    def do_PULL(self, count: int) -> Deferred[None]:
        producer = PullPayload(self.transport, count)
        self.transport.registerProducer(producer, False)
        return producer.done

    def do_WAIT(self, seconds: float) -> Deferred[None]:
        return deferLater(self.factory.clock, seconds, self._answer, "DONE")

    def do_SHUTDOWN(self, nothing: None) -> None:
        # What comes behind it cannot be answered, and need not be held.
        self._hold.release()
        self.transport.loseWriteConnection()

    def do_CLOSE(self, nothing: None) -> None:
        self.transport.loseConnection()

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

    def status(self) -> dict[str, Any]:
        """
        What C{STATUS} answers: connections by state, ended ones by outcome.
        """
        states: dict[str, int] = {}
        for connection in self.connections:
            state = connection.transport.state.value
            states[state] = states.get(state, 0) + 1
        return {
            "connections": len(self.connections),
            "states": states,
            "ended": dict(self.outcomes),
        }


__all__ = ["CommandError", "DemoFactory", "DemoProtocol", "payload"]
