"""
The demo server's protocol: lines in, answers out, in order.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from math import isfinite
from typing import Any, Callable, Optional

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from .interfaces import IHold
from .protocol import TerminationMixin
from .report import Termination

_CYCLE = b"abcdefghijklmnopqrstuvwxyz"
_CHUNK = 64 * 1024
_LINE_LIMIT = 16 * 1024
_MOST_BYTES = 1 << 30
_MOST_SECONDS = 86400.0
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


def _number(name: str, text: str, most: float, whole: bool) -> float:
    try:
        value = int(text) if whole else float(text)
        if not isfinite(value) or not 0 <= value <= most:
            raise ValueError
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise CommandError(
            f"{name} {text[:40]!r}: must be {kind} from 0 to {most:g}"
        ) from None
    return value


class _Payload:
    """
    Sends the payload in chunks, and unregisters when it is done.
    """

    def __init__(self, transport: Any, count: int, done: Callable[[], None]) -> None:
        self._transport = transport
        self._chunks = self._slices(count)
        self._done: Optional[Callable[[], None]] = done

    def _slices(self, count: int) -> Iterator[bytes]:
        for start in range(0, count, _CHUNK):
            yield payload(start, min(_CHUNK, count - start))

    def _sendOne(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._finish()
            return False
        self._transport.write(chunk)
        return True

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._transport.unregisterProducer()
            done()

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """
        self._chunks = iter(())
        self._done = None


@implementer(IPullProducer)
class PullPayload(_Payload):
    """
    One chunk for each C{resumeProducing}.
    """

    def resumeProducing(self) -> None:
        """
        Send one chunk.
        """
        if self._done is not None:
            self._sendOne()


@implementer(IPushProducer)
class PushPayload(_Payload):
    """
    Chunks until it is told to pause.
    """

    _paused = True
    _sending = False

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
        if self._sending:
            return
        self._sending = True
        try:
            while not self._paused and self._done is not None and self._sendOne():
                pass
        finally:
            self._sending = False


class DemoProtocol(TerminationMixin, LineReceiver):
    """
    Commands may be pipelined; each is done before the next one starts, and
    what waits its turn is held work.
    """

    delimiter = b"\n"
    MAX_LENGTH = _LINE_LIMIT
    factory: DemoFactory

    def __init__(self) -> None:
        self._commands: deque[bytes] = deque()
        self._hold: Optional[IHold] = None
        self._waiting: Any = None
        self._busy = False

    def connectionMade(self) -> None:
        self.factory.connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.discard(self)
        self._commands.clear()
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None

    def terminated(self, report: Termination) -> None:
        outcomes = self.factory.outcomes
        outcomes[report.outcome.value] = outcomes.get(report.outcome.value, 0) + 1

    def lineReceived(self, line: bytes) -> None:
        self._commands.append(line[:-1] if line.endswith(b"\r") else line)
        self._next()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._commands.append(b"\0TOOLONG")
        self.clearLineBuffer()
        self._next()

    def _next(self) -> None:
        if self._hold is None:
            self._hold = self.transport.hold()  # type: ignore[union-attr]
        while self._commands and not self._busy:
            self._perform(self._commands.popleft())
        if not self._busy and self._hold is not None:
            hold, self._hold = self._hold, None
            hold.release()

    def _begin(self) -> None:
        self._busy = True
        self.pauseProducing()

    def _end(self) -> None:
        self._busy = False
        if self.transport is not None:
            self.resumeProducing()
        self._next()

    def _perform(self, line: bytes) -> None:
        if line == b"\0TOOLONG":
            self._answer(f"ERROR line too long: at most {_LINE_LIMIT} bytes")
            self._commands.clear()
            self.transport.loseConnection()  # type: ignore[union-attr]
            return
        try:
            text = line.decode("utf-8")
            name, _, rest = text.partition(" ")
            command = getattr(self, f"do_{name}", None) if name.isalpha() else None
            if command is None:
                raise CommandError(f"unknown command {name[:40]!r}: try HELP")
            command(rest)
        except UnicodeDecodeError:
            self._answer(f"ERROR {line[:40]!r}: must be UTF-8")
        except CommandError as error:
            self._answer(f"ERROR {error}")

    def _answer(self, text: str) -> None:
        self.transport.write(text.encode("utf-8") + b"\n")  # type: ignore[union-attr]

    def _none(self, name: str, rest: str) -> None:
        if rest:
            raise CommandError(f"{name} {rest[:40]!r}: takes no argument")

    def _count(self, name: str, rest: str) -> int:
        return int(_number(name, rest, _MOST_BYTES, whole=True))

    def do_ECHO(self, rest: str) -> None:
        self._answer(rest)

    def do_SEND(self, rest: str) -> None:
        count = self._count("SEND", rest)
        self.transport.write(payload(0, count))  # type: ignore[union-attr]

    def do_PUSH(self, rest: str) -> None:
        count = self._count("PUSH", rest)
        self._begin()
        producer = PushPayload(self.transport, count, self._end)
        self.transport.registerProducer(producer, True)  # type: ignore[union-attr]
        producer.resumeProducing()

    def do_PULL(self, rest: str) -> None:
        count = self._count("PULL", rest)
        self._begin()
        self.transport.registerProducer(  # type: ignore[union-attr]
            PullPayload(self.transport, count, self._end), False
        )

    def do_WAIT(self, rest: str) -> None:
        seconds = _number("WAIT", rest, _MOST_SECONDS, whole=False)
        self._begin()

        def done() -> None:
            self._answer("DONE")
            self._end()

        self._waiting = self.factory.clock.callLater(seconds, done)

    def do_SHUTDOWN(self, rest: str) -> None:
        self._none("SHUTDOWN", rest)
        self.transport.loseWriteConnection()  # type: ignore[union-attr]

    def do_CLOSE(self, rest: str) -> None:
        self._none("CLOSE", rest)
        self._commands.clear()
        self.transport.loseConnection()  # type: ignore[union-attr]

    def do_ABORT(self, rest: str) -> None:
        self._none("ABORT", rest)
        self._commands.clear()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def do_STATUS(self, rest: str) -> None:
        self._none("STATUS", rest)
        self._answer(json.dumps(self.factory.status(), sort_keys=True))

    def do_HELP(self, rest: str) -> None:
        self._none("HELP", rest)
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
            state = connection.transport.state.value  # type: ignore[union-attr]
            states[state] = states.get(state, 0) + 1
        return {
            "connections": len(self.connections),
            "states": states,
            "ended": dict(self.outcomes),
        }


__all__ = ["CommandError", "DemoFactory", "DemoProtocol", "payload"]
