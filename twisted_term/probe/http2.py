"""
The awkward clients of HTTP/2 (RFC 9113), by the h2 library.  None half-closes
before it has its answer: it could no longer open the server's windows.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Optional

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error, NoSuchStreamError, StreamClosedError

from .answers import Answer, BadAnswer
from .cases import Case, Played, Probe
from .client import Client
from .targets import HTTP2Target

Web = Probe[HTTP2Target]

_SMALL = 1 << 16
_SMALLEST = 1 << 13
_BLOCK = b"u" * (1 << 14)
#: RFC 9113, section 4.1: length and type of a frame; nine bytes in all.
_FRAME = struct.Struct(">HBB")
_HEAD = 9
_SETTINGS = 4
#: RFC 9113, section 6.8: a GOAWAY that is a warning.
_ANY = 2**31 - 1
#: No number in a header is longer.
_DIGITS = 18


class Stream:
    """
    One request and its answer.

    @ivar upload: bytes that are still to be sent.
    @ivar held: of these, so many are not to be sent yet.
    @ivar ended: the answer is whole.
    @ivar code: of a RST_STREAM.
    """

    def __init__(self, number: int, method: str, upload: int) -> None:
        self.number = number
        self.method = method
        self.upload = upload
        self.held = 0
        self.body = bytearray()
        self.status: Optional[int] = None
        self.expected: Optional[int] = None
        self.ended = False
        self.code: Optional[int] = None

    @property
    def over(self) -> bool:
        """
        There is no more to come.
        """
        return self.ended or self.code is not None

    @property
    def answer(self) -> Answer:
        """
        What it got.
        """
        short = self.expected is not None and len(self.body) < self.expected
        complete = self.ended and not short
        return Answer(bytes(self.body), self.expected, complete, self.status)


class Connection:
    """
    One connection of HTTP/2.

    @ivar goneAway: the server has sent GOAWAY.
    @ivar last: the last stream that it will serve then.
    """

    def __init__(self, client: Client, target: HTTP2Target) -> None:
        if target.alpn is not None and client.protocol != "h2":
            client.close()
            raise BadAnswer("must speak HTTP/2, which ALPN has not chosen")
        self.client = client
        self.goneAway = False
        self.last = _ANY
        self.streams: list[Stream] = []
        self._target = target
        self._received = bytearray()
        self._outgoing = bytearray()
        self._greeted = False
        self._uploads: deque[Stream] = deque()
        self._wire = H2Connection(H2Configuration())
        self._wire.initiate_connection()
        client.listener = self._take
        client.sendFrom(self._more)

    def ask(self, method: str, upload: int = 0) -> Stream:
        """
        Send a request.

        @param upload: bytes of its body.
        """
        target = self._target
        fields = [
            (":method", method),
            (":scheme", target.scheme),
            (":authority", target.authority),
            (":path", target.path),
            ("user-agent", "term-probe"),
            ("accept", "*/*"),
            *((name.lower(), value) for name, value in target.fields),
        ]
        if upload:
            fields.append(("content-length", str(upload)))
        stream = Stream(self._wire.get_next_available_stream_id(), method, upload)
        self._wire.send_headers(stream.number, fields, end_stream=not upload)
        self.streams.append(stream)
        if upload:
            self._uploads.append(stream)
        return stream

    def goAway(self) -> None:
        """
        Say that no more requests come.  The library would take that for the
        end of all streams, and it is not (RFC 9113, section 6.8).
        """
        self._wire.close_connection()
        self._reopen()

    def cancel(self, stream: Stream) -> None:
        """
        Send RST_STREAM.
        """
        self._wire.reset_stream(stream.number, ErrorCodes.CANCEL)
        stream.code = ErrorCodes.CANCEL

    def _reopen(self) -> None:
        self._wire.state_machine.state = ConnectionState.CLIENT_OPEN

    def _more(self) -> bytes:
        """
        What is to be sent: frames, and as much of the uploads as the windows
        permit, each in its turn.
        """
        for _ in range(len(self._uploads)):
            stream = self._uploads.popleft()
            if self._upload(stream):
                self._uploads.append(stream)
        self._outgoing += self._wire.data_to_send()
        outgoing = bytes(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def _upload(self, stream: Stream) -> bool:
        """
        @return: is there more of it?
        """
        if stream.code is not None:
            return False
        try:
            window = self._wire.local_flow_control_window(stream.number)
            ready = stream.upload - stream.held
            most = min(window, self._wire.max_outbound_frame_size, ready)
            piece = _BLOCK[:most]
            if piece:
                stream.upload -= len(piece)
                self._wire.send_data(stream.number, piece, not stream.upload)
        except (NoSuchStreamError, StreamClosedError):
            return False
        return stream.upload > 0

    def _take(self, data: bytes) -> None:
        """
        One frame after the other: the library refuses all that comes behind a
        GOAWAY, and a server that goes away finishes its streams.
        """
        self._received += data
        while len(self._received) >= _HEAD:
            high, low, kind = _FRAME.unpack_from(self._received)
            if not self._greeted and kind != _SETTINGS:  # RFC 9113, section 3.4
                raise BadAnswer(f"{bytes(self._received[:_HEAD])!r}: must be HTTP/2")
            self._greeted = True
            size = _HEAD + (high << 8 | low)
            if len(self._received) < size:
                break
            frame = bytes(self._received[:size])
            del self._received[:size]
            # At a GOAWAY the library forgets what is not sent yet, windows too.
            self._outgoing += self._wire.data_to_send()
            try:
                for event in self._wire.receive_data(frame):
                    self._happened(event)
            except H2Error as error:
                raise BadAnswer(f"must be HTTP/2: {error!r}") from error

    def _happened(self, event: object) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goneAway = True
            self.last = min(self.last, event.last_stream_id or 0)
            self._reopen()
            return
        number = getattr(event, "stream_id", None)
        stream = next((one for one in self.streams if one.number == number), None)
        if stream is None:
            return
        if isinstance(event, ResponseReceived):
            fields = dict(event.headers or ())
            stream.status = _number(fields.get(b":status", b""), ":status")
            length = fields.get(b"content-length")
            if length is not None and stream.method != "HEAD":
                stream.expected = _number(length, "content-length")
            # The library would end the connection for an answer that is shorter,
            # of a stream that was cancelled as well; that is judged here.
            self._wire.streams[stream.number]._expected_content_length = None
        elif isinstance(event, DataReceived):
            stream.body += event.data or b""
            self._wire.acknowledge_received_data(
                event.flow_controlled_length or 0, stream.number
            )
        elif isinstance(event, StreamEnded):
            stream.ended = True
        elif isinstance(event, StreamReset):
            stream.code = event.error_code


def _number(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > _DIGITS:
        raise BadAnswer(f"{name} {value!r}: must be one decimal number")
    return int(value)


def _opened(probe: Web, buffer: Optional[int] = None) -> Connection:
    return Connection(probe.connect(buffer), probe.target)


def _over(connection: Connection) -> bool:
    return all(stream.over for stream in connection.streams)


def _finish(connection: Connection, *judged: Stream) -> Played:
    """
    Read the answers to the end, say farewell, and wait for the server's FIN.

    @param judged: the streams that must be whole.
    """
    client = connection.client
    client.receive(until=lambda: _over(connection))
    # If the server stalls, the client does not end the connection for it.
    if not client.over and _over(connection):
        connection.goAway()
        client.halfClose()
        client.receive()
    client.close()
    return Played(client, _together(judged))


def _together(streams: Sequence[Stream]) -> Answer:
    """
    All answers as one.
    """
    answers = [stream.answer for stream in streams]
    expected = [answer.expected for answer in answers if answer.expected is not None]
    return Answer(
        b"".join(answer.body for answer in answers),
        sum(expected) if len(expected) == len(answers) else None,
        all(answer.complete for answer in answers),
        answers[-1].status or answers[0].status,
        len(answers),
    )


class HTTP2Wire:
    """
    What stays under way while a server is stopped; see C{Wire}.
    """

    def __init__(self, client: Client, probe: Web) -> None:
        self._client = client
        self._method = probe.target.method
        self._connection = Connection(client, probe.target)

    @property
    def kept(self) -> bool:
        """
        See C{Wire}.
        """
        return not (self._client.over or self._connection.goneAway)

    def ask(self, last: bool = False) -> None:
        """
        See C{Wire.ask}.
        """
        self._connection.ask(self._method)

    def upload(self, size: int, first: int) -> None:
        """
        See C{Wire.upload}.
        """
        self._connection.ask("POST", size).held = size - first

    def more(self, count: int) -> None:
        """
        See C{Wire.more}.
        """
        stream = self._connection.streams[-1]
        stream.held = max(0, stream.held - count)

    def over(self, count: int) -> bool:
        """
        See C{Wire.over}.
        """
        return _over(self._connection) or self.refused

    def answer(self, count: int) -> Answer:
        """
        See C{Wire.answer}.
        """
        return _together(self._connection.streams)

    @property
    def cut(self) -> bool:
        """
        See C{Wire}.
        """
        return self._connection.streams[-1].code is not None

    @property
    def refused(self) -> bool:
        """
        See C{Wire}.
        """
        stream = self._connection.streams[-1]
        unread = stream.number > self._connection.last
        return unread or stream.code == ErrorCodes.REFUSED_STREAM


def polite(probe: Web) -> Played:
    """
    The one that all others are compared with.
    """
    connection = _opened(probe)
    return _finish(connection, connection.ask(probe.target.method))


def _upload(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    stream = connection.ask("POST", probe.upload)
    connection.client.push()
    return _finish(connection, stream)


def _beside(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    connection.ask("POST", probe.upload)
    connection.client.push()
    stream = connection.ask(probe.target.method)
    connection.client.receive(until=lambda: stream.over)
    return _finish(connection, stream)


def _goAway(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    stream = connection.ask(probe.target.method)
    connection.goAway()
    return _finish(connection, stream)


def _slowReader(probe: Web) -> Played:
    assert probe.reference is not None
    connection = _opened(probe, _SMALLEST)
    stream = connection.ask(probe.target.method)
    connection.client.push()
    reads = len(probe.reference.answer.body) // _SMALLEST + 1
    connection.client.receive(
        size=_SMALLEST, pause=min(1.0 / reads, 0.05), until=lambda: stream.over
    )
    return _finish(connection, stream)


def _resetStream(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    cancelled = connection.ask(probe.target.method)
    stream = connection.ask(probe.target.method)
    connection.client.receive(until=lambda: bool(cancelled.body) or cancelled.over)
    if not cancelled.over:
        connection.cancel(cancelled)
    return _finish(connection, stream)


def _reset(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    stream = connection.ask(probe.target.method)
    connection.client.receive(until=lambda: bool(stream.body) or stream.over)
    connection.client.close(reset=True)
    return polite(probe)


CASES = (
    Case(
        "polite",
        "asks, reads all, says GOAWAY, and closes.",
        "RFC 9113, section 5.4.1 and 6.8.",
        polite,
    ),
    Case(
        "upload",
        "uploads as much as the windows permit, and reads nothing until that blocks.",
        "RFC 9113, section 8.1: a server may answer before the request is over, and"
        " then RST_STREAM with NO_ERROR; a client must not discard the answer for it.",
        _upload,
        same=False,
    ),
    Case(
        "beside",
        "asks while another stream uploads, which may be answered early.",
        "RFC 9113, section 5: the streams are independent of each other.",
        _beside,
    ),
    Case(
        "goaway",
        "sends GOAWAY right behind its request.",
        "RFC 9113, section 6.8: GOAWAY lets streams that exist come to their end.",
        _goAway,
    ),
    Case(
        "slow-reader",
        "has a small buffer, and reads late and slowly.",
        "RFC 9293, section 3.8.6: the receiver's window says how much it takes.",
        _slowReader,
    ),
    Case(
        "reset-stream",
        "cancels one stream in mid-answer; another one on the connection is judged.",
        "RFC 9113, section 5.4.2: a stream error ends one stream, and no other.",
        _resetStream,
    ),
    Case(
        "reset",
        "resets in mid-answer; a polite one after it is judged.",
        "RFC 9293, section 3.10.7.4: a RST ends one connection, and no other.",
        _reset,
    ),
)


__all__ = ["CASES", "HTTP2Wire", "polite"]
