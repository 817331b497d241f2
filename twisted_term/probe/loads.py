"""
What is in flight when a server is told to stop: clients of several sorts, and
what becomes of each.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, Callable, NamedTuple, Optional

from .answers import Answer, BadAnswer, readHTTP
from .cases import Probe
from .client import Client
from .targets import HTTPTarget, WebSocketTarget
from .wires import Wire, wireOf

Site = Probe[Any]

_SMALL = 1 << 16
#: Seconds that a download, and an upload, takes from the stop on.
_SLOW = 1.0
_READY = 5.0
#: Bytes of an upload, half of them before the stop.
_UPLOAD = 2 << 20
_PIECES = 16
_FILLER = b"u" * (1 << 16)


class Fate(Enum):
    """
    WHOLE: the answer came to its end.
    ENDED: a connection to which nothing was due ended with FIN, or, over
    WebSocket, with a Close frame before that.
    FAILED: the answer is whole, and its status is 500 or more.
    TRUNCATED: FIN came before the end of the answer.
    UNANSWERED: FIN came and nothing else.
    RESET: RST came before the end of the answer.
    HANGS: nothing came while patience lasted.
    REFUSED: it could not connect, or the server says that it has not begun with
    the request.
    """

    WHOLE = "whole"
    ENDED = "ended"
    REFUSED = "refused"
    FAILED = "failed"
    TRUNCATED = "truncated"
    UNANSWERED = "no answer"
    RESET = "reset"
    HANGS = "hangs"


class Outcome(NamedTuple):
    """
    What became of one client.

    @ivar lost: it had been accepted, and did not get what was due to it.
    @ivar seconds: from the stop to its end.
    @ivar note: particulars.
    """

    fate: Fate
    lost: bool
    seconds: float
    note: str = ""


class Flight:
    """
    One client, from before the stop until it knows its fate.

    Its three methods are called one after the other: L{prepare}; L{strike}, with
    the server frozen, right before it is told to stop; and L{finish}, in a
    thread.
    """

    name = ""
    sentence = ""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client: Optional[Client] = None
        self.wire: Wire

    def prepare(self) -> None:
        """
        Get under way.

        @raise OSError: if it cannot connect.
        @raise BadAnswer: if the server does not do its part.
        """

    def strike(self) -> None:
        """
        The server is frozen now.
        """

    def finish(self) -> Outcome:
        """
        Wait for the end, which is judged.
        """
        raise NotImplementedError

    def close(self) -> None:
        """
        Let go.
        """
        if self.client is not None:
            self.client.close()
            self.client = None

    @property
    def _readiness(self) -> float:
        """
        Seconds that the server has for its part before the stop: one that serves
        one client at a time may not come to it.
        """
        return min(_READY, self.site.limits.patience)

    def _connected(self) -> Client:
        self.client = self.site.connect(_SMALL)
        return self.client

    def _opened(self) -> Client:
        client = self._connected()
        self.wire = wireOf(client, self.site)
        return client

    def _whole(self, count: int) -> Callable[[], bool]:
        """
        Are so many answers whole?
        """
        return lambda: self.wire.over(count)

    def _judge(self, count: int, since: float) -> Outcome:
        client = self.client
        assert client is not None
        answer = self.wire.answer(count)
        whole = answer.complete or (answer.complete is None and client.fin)
        due = count if whole else answer.due
        seconds = time.monotonic() - since
        if whole and due == answer.due:
            failed = (answer.status or 0) >= 500
            return Outcome(Fate.FAILED if failed else Fate.WHOLE, failed, seconds)
        if self.wire.refused:
            return Outcome(Fate.REFUSED, False, seconds, "not begun")
        fate = self._end(client, answer, count)
        size = len(answer.body)
        note = "" if answer.expected is None else f"{size} of {answer.expected} bytes"
        return Outcome(fate, True, seconds, note)

    def _end(self, client: Client, answer: Answer, count: int) -> Fate:
        if client.reset or self.wire.cut:
            return Fate.RESET
        if not client.fin:
            return Fate.HANGS
        reference = self.site.reference
        before = (count - 1) * len(reference.answer.body) if reference else 0
        begun = len(answer.body) > before or (count == 1 and answer.status)
        return Fate.TRUNCATED if begun else Fate.UNANSWERED


class Download(Flight):
    """
    An answer that has begun.
    """

    name = "download"
    sentence = "downloads, and has the first of it"

    def prepare(self) -> None:
        client = self._opened()
        self.wire.ask()
        wire = self.wire
        client.receive(
            until=lambda: bool(client.data and wire.answer(1).body) or wire.over(1),
            patience=self._readiness,
        )

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None and self.site.reference is not None
        size = len(self.site.reference.answer.body)
        pause = min(_SLOW * _SMALL / (size + 1), 0.05)
        client.receive(size=_SMALL, pause=pause, until=self._whole(1))
        return self._judge(1, since)


class Upload(Flight):
    """
    A request that has come half.
    """

    name = "upload"
    sentence = "uploads 2 MiB, and has sent half of it"

    def prepare(self) -> None:
        client = self._opened()
        self.wire.upload(_UPLOAD, _UPLOAD // 2)
        client.push()

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        whole = self._whole(1)
        for _ in range(_PIECES):
            if client.over or whole():
                break
            self.wire.more(_UPLOAD // 2 // _PIECES)
            client.receive(until=whole, patience=_SLOW / _PIECES)
        client.receive(until=whole)
        return self._judge(1, since)


class Idle(Flight):
    """
    A keep-alive connection.
    """

    name = "idle"
    sentence = "has had its answer, and keeps the connection"

    def prepare(self) -> None:
        client = self._opened()
        self.wire.ask()
        client.receive(until=self._whole(1), patience=self._readiness)

    @property
    def kept(self) -> bool:
        """
        The server keeps the connection, too.
        """
        return self.client is not None and self.wire.kept

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        client.receive()
        seconds = time.monotonic() - since
        if client.reset:
            return Outcome(Fate.RESET, False, seconds)
        return Outcome(Fate.ENDED if client.fin else Fate.HANGS, False, seconds)


class Between(Idle):
    """
    The next request of a keep-alive connection.
    """

    name = "next"
    sentence = "sends its next request on a connection that is kept, just before"

    def strike(self) -> None:
        if self.client is not None and self.kept:
            self.wire.ask()
            self.client.push()

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        client.receive(until=self._whole(2))
        return self._judge(2, since)


class Queued(Flight):
    """
    A connection that the kernel has accepted, but not the server.
    """

    name = "queue"
    sentence = "has connected and asked, and waits in the accept queue"

    def strike(self) -> None:
        self.client = self.site.reach(_SMALL)
        if self.site.address.tls is None:
            self._ask(self.client)

    def _ask(self, client: Client) -> None:
        self.wire = wireOf(client, self.site)
        self.wire.ask(last=True)
        client.push()

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        if self.site.address.tls is not None:  # the server has to do its part
            client.open()
            self._ask(client)
        client.receive(until=self._whole(1))
        return self._judge(1, since)


class Late(Flight):
    """
    A client that connects when the server is already stopping.
    """

    name = "late"
    sentence = "connects and asks just behind the signal"

    def finish(self) -> Outcome:
        since = time.monotonic()
        try:
            client = self._opened()
        except ConnectionRefusedError:
            return Outcome(Fate.REFUSED, False, time.monotonic() - since)
        self.wire.ask(last=True)
        client.receive(until=self._whole(1))
        return self._judge(1, since)


class EventStream(Flight):
    """
    An answer without end.
    """

    name = "stream"
    sentence = "reads a stream of events"

    def __init__(self, site: Site, path: str) -> None:
        super().__init__(site)
        self._target: HTTPTarget = site.target.at(path)

    def prepare(self) -> None:
        client = self._opened()
        client.send(self._target.header("GET"))
        client.receive(until=lambda: b"\r\n\r\n" in client.data)
        status = readHTTP(bytes(client.data)).status
        if status != 200:
            raise BadAnswer(f"--stream: must be answered with 200, and not {status}")

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        client.receive(until=lambda: client.data.endswith(b"0\r\n\r\n"))
        return self._judge(1, since)


class Socket(Flight):
    """
    A WebSocket.
    """

    name = "websocket"
    sentence = "has a WebSocket open"

    def __init__(self, site: Site, path: str) -> None:
        super().__init__(site)
        self._target = WebSocketTarget(site.target.urlOf(path), site.target.fields)
        self._connection: Any = None

    def prepare(self) -> None:
        from .websocket import WebSocket

        self._connection = WebSocket(self._connected(), self._target)
        self._connection.open()

    def finish(self) -> Outcome:
        client, since = self.client, time.monotonic()
        assert client is not None
        client.receive()
        seconds = time.monotonic() - since
        code = self._connection.code
        if code is not None:
            return Outcome(Fate.ENDED, False, seconds, f"close code {code}")
        if client.reset:
            return Outcome(Fate.RESET, True, seconds, "no Close frame")
        fate = Fate.TRUNCATED if client.fin else Fate.HANGS
        return Outcome(fate, True, seconds, "no Close frame")


class Through(Flight):
    """
    A client of a balancer, which asks again and again.
    """

    name = "through"
    sentence = "asks the balancer again and again, on new connections"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.outcomes: list[Outcome] = []

    def ask(self) -> None:
        """
        Once.
        """
        since = time.monotonic()
        try:
            client = self._opened()
            self.wire.ask(last=True)
            client.receive(until=self._whole(1))
            outcome = self._judge(1, since)
        except OSError as error:
            fate, seconds = Fate.REFUSED, time.monotonic() - since
            outcome = Outcome(fate, True, seconds, str(error))
        except BadAnswer as error:
            fate, seconds = Fate.FAILED, time.monotonic() - since
            outcome = Outcome(fate, True, seconds, str(error))
        self.outcomes.append(outcome)
        self.close()


FLIGHTS: tuple[type[Flight], ...] = (Download, Upload, Idle, Between, Queued, Late)


__all__ = [
    "FLIGHTS",
    "EventStream",
    "Fate",
    "Flight",
    "Idle",
    "Outcome",
    "Socket",
    "Through",
]
