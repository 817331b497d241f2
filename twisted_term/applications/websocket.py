"""
WebSocket: Autobahn for Twisted, Daphne, which stands on it, and
C{twisted.web.websocket}.

Private attributes, and why: C{_wsconn} of C{twisted.web.websocket}'s protocol is
read, because its public C{loseConnection} waits for no answer; C{_closeConnection} of
Autobahn's protocol is replaced from the begin of a drain on, because otherwise a
server that has begun the closing handshake resets the connection at its end.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.python.components import registerAdapter

from ..interfaces import IConversation
from .conversation import Conversation, clockOf

#: Why a drain closes: "a server going down" (RFC 6455, 7.4.1), and "service
#: restart" (IANA's registry of close codes).
_CODES = {"going-away": 1001, "restart": 1012}


class WebSocket(Conversation):
    """
    In flight is a registered producer.

    WebSocket has no half-close (RFC 6455, 7.1.1): the peer's FIN means that the peer
    has gone.  A drain sends a Close frame, and ends the connection when the peer's
    Close frame has come.

    @cvar patience: the seconds for which the peer's Close frame is awaited.
    """

    patience = 5.0

    def peerFin(self, transport: Any) -> bool:
        """
        See L{IConversation.peerFin}.
        """
        return True

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return True  # a peer may send a Close frame, or any other, at any time

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """
        if not self._isOpen():
            transport.loseConnection()
            return
        late = clockOf(transport).callLater(self.patience, transport.loseConnection)
        transport.whenTerminated().addCallback(
            lambda report: late.active() and late.cancel()
        )
        self._sendClose(_CODES[transport.policy.goodbye])

    def _isOpen(self) -> bool:
        raise NotImplementedError

    def _sendClose(self, code: int) -> None:
        raise NotImplementedError


class Autobahn(WebSocket):
    """
    Autobahn's protocol.
    """

    def _isOpen(self) -> bool:
        return bool(self.protocol.state == self.protocol.STATE_OPEN)

    def _sendClose(self, code: int) -> None:
        protocol = self.protocol
        close = protocol._closeConnection
        protocol._closeConnection = lambda abort=False: close(
            abort and not protocol.wasClean
        )
        # Autobahn itself waits one second for the peer, and then resets.
        protocol.closeHandshakeTimeout = 0
        # sendClose() accepts only the codes that are meant for applications.
        protocol.sendCloseFrame(code=code)


class Twisted(WebSocket):
    """
    C{twisted.web.websocket}'s protocol.
    """

    def _isOpen(self) -> bool:
        return self.protocol._wsconn.state.name == "OPEN"

    def _sendClose(self, code: int) -> None:
        connection = self.protocol._wsconn
        send = connection.send
        self.protocol.transport.write(send(self._close(code)))

        def late(event: Any) -> Any:
            # The application does not know that we have sent a Close frame, and may
            # answer the peer.  But "the application MUST NOT send any more data
            # frames after sending a Close frame" (RFC 6455, 5.5.1).
            try:
                return send(event)
            except self._tooLate:
                return b""

        connection.send = late

    _close: Any = None
    _tooLate: Any = None


def registerAutobahn(websocket: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{autobahn.twisted.websocket}.
    """
    registerAdapter(Autobahn, websocket.WebSocketAdapterProtocol, IConversation)


def registerTwisted(websocket: ModuleType) -> None:
    """
    Register the adapters for the protocols of C{twisted.web._websocket_impl}.
    """
    from wsproto.utilities import LocalProtocolError

    Twisted._close = websocket.CloseConnection
    Twisted._tooLate = LocalProtocolError
    registerAdapter(Twisted, websocket._WebSocketWireProtocol, IConversation)


__all__ = ["Autobahn", "Twisted", "WebSocket", "registerAutobahn", "registerTwisted"]
