"""
The awkward clients of WebSocket (RFC 6455), by the wsproto library.

The messages of the server are the body of its answer, its close code is the
status, and the answer is complete when its Close frame has come.
"""

from __future__ import annotations

from typing import Optional, cast

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from .answers import Answer, BadAnswer
from .cases import Case, Played, Probe
from .client import Client
from .targets import WebSocketTarget

Web = Probe[WebSocketTarget]

_SMALL = 1 << 16
#: Seconds of silence behind which the server has said all it has to say.
_SILENCE = 0.5
_NORMAL = 1000  # RFC 6455, section 7.4.1
_PIECE = bytes(1 << 14)
#: What comes before the Close frame of the client that talks on, in bytes.
_TALK = 4 << 20


class WebSocket:
    """
    One connection, from the handshake on.

    @ivar code: of the server's Close frame; C{None} until it has come.
    @ivar body: of its messages.
    """

    def __init__(self, client: Client, target: WebSocketTarget) -> None:
        self.client = client
        self.code: Optional[int] = None
        self.body = bytearray()
        self.opened = False
        self.wrong: Optional[str] = None
        self._wire = WSConnection(ConnectionType.CLIENT)
        client.listener = self._take
        fields = [(n.encode("ascii"), v.encode("ascii")) for n, v in target.fields]
        request = Request(target.authority, target.path, extra_headers=fields)
        client.send(self._wire.send(request))

    def open(self) -> None:
        """
        Wait until it is.

        @raise BadAnswer: if the server does not want to.
        """
        self.client.receive(until=lambda: self.opened or self.wrong is not None)
        if not self.opened:
            raise BadAnswer(self.wrong or "no end of the WebSocket handshake")

    def say(self, text: str) -> None:
        """
        Send a message.
        """
        self.client.send(self._wire.send(TextMessage(data=text)))

    def talk(self, size: int) -> None:
        """
        Send messages of so many bytes in all, and a Close frame behind them.
        """
        left = size

        def source() -> bytes:
            nonlocal left
            if left > 0 and self._wire.state is ConnectionState.OPEN:
                left -= len(_PIECE)
                return self._wire.send(BytesMessage(data=_PIECE))
            left = 0
            return self._closing()

        self.client.sendFrom(source)

    def close(self) -> None:
        """
        Send a Close frame.
        """
        self.client.send(self._closing())

    @property
    def answer(self) -> Answer:
        """
        What it got.
        """
        complete = self.code is not None
        return Answer(bytes(self.body), None, complete, self.code)

    def _closing(self) -> bytes:
        if self._wire.state is not ConnectionState.OPEN:
            return b""
        return self._wire.send(CloseConnection(_NORMAL))

    def _take(self, data: bytes) -> None:
        if self.wrong is not None:
            return
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, AcceptConnection):
                    self.opened = True
                elif isinstance(event, RejectConnection):
                    self.wrong = f"{event.status_code}: must be a WebSocket"
                elif isinstance(event, Message):
                    piece = event.data
                    is_text = isinstance(piece, str)
                    self.body += cast(str, piece).encode() if is_text else piece
                elif isinstance(event, Ping):
                    self._answer(self._wire.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self.code = event.code
                    if self._wire.state is ConnectionState.REMOTE_CLOSING:
                        self._answer(self._wire.send(event.response()))
        except (ProtocolError, UnicodeDecodeError) as error:
            self.wrong = f"must be a WebSocket: {error}"

    def _answer(self, data: bytes) -> None:
        self.client.send(data)


def _opened(probe: Web, buffer: Optional[int] = None) -> WebSocket:
    connection = WebSocket(probe.connect(buffer), probe.target)
    connection.open()
    if probe.target.message is not None:
        connection.say(probe.target.message)
    connection.client.receive(patience=min(_SILENCE, probe.limits.patience))
    return connection


def _played(connection: WebSocket) -> Played:
    if connection.wrong is not None:
        raise BadAnswer(connection.wrong)
    return Played(connection.client, connection.answer)


def polite(probe: Web) -> Played:
    """
    The one that all others are compared with.
    """
    connection = _opened(probe)
    connection.close()
    connection.client.receive()
    connection.client.close()
    return _played(connection)


def _talk(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    connection.talk(_TALK)
    connection.client.push()
    connection.client.receive()
    connection.client.close()
    return _played(connection)


def _halfClose(probe: Web) -> Played:
    connection = _opened(probe)
    connection.close()
    connection.client.halfClose()
    connection.client.receive()
    connection.client.close()
    return _played(connection)


def _neverCloses(probe: Web) -> Played:
    connection = _opened(probe)
    connection.client.answers = False
    connection.close()
    connection.client.receive()
    connection.client.hold()
    connection.client.close()
    return _played(connection)


def _drop(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    connection.client.halfClose(notify=False)
    client = connection.client
    client.receive()
    client.close()
    # A client that sends no Close frame is only due an end of the connection.
    wrong = None if not client.over else ""
    return Played(client, Answer(bytes(connection.body), None, True), wrong)


def _reset(probe: Web) -> Played:
    connection = _opened(probe, _SMALL)
    connection.client.close(reset=True)
    return polite(probe)


CASES = (
    Case(
        "polite",
        "opens, sends a Close frame, and waits for the server's, and for its FIN.",
        "RFC 6455, section 5.5.1: who gets a Close frame answers with one; the server"
        " must then close TCP at once.",
        polite,
    ),
    Case(
        "talk",
        "sends 4 MiB of messages, reads nothing until that blocks, and sends a Close"
        " frame behind them.",
        "RFC 6455, section 5.5.1: the Close frame is answered, too, behind messages.",
        _talk,
        same=False,
    ),
    Case(
        "half-close",
        "sends FIN right behind its Close frame.",
        "RFC 6455, section 7.1.1: no side is to lose what the other has sent before;"
        " and RFC 9293, section 3.6: who has closed goes on receiving.",
        _halfClose,
    ),
    Case(
        "never-closes",
        "never closes behind the close handshake: the server has to let go.",
        "RFC 6455, section 7.1.1: the server closes first.",
        _neverCloses,
        holds=True,
    ),
    Case(
        "drop",
        "sends FIN without a Close frame; the server has to end, too.",
        "RFC 6455, section 7.1.7: without a Close frame the connection has failed.",
        _drop,
        same=False,
    ),
    Case(
        "reset",
        "resets; a polite one after it is judged.",
        "RFC 9293, section 3.10.7.4: a RST ends one connection, and no other.",
        _reset,
    ),
)


__all__ = ["CASES", "WebSocket", "polite"]
