"""
A client's channel: its socket, or TLS over its socket.

Neither sort blocks, and both tell a FIN from a RST.  TLS is Python's own,
in memory, because C{ssl.SSLSocket} hides which of close_notify and FIN came,
and cannot send one without the other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NamedTuple, Optional, Protocol

_MORE = getattr(socket, "MSG_MORE", 0)
_READ = 1 << 18
#: The most that one record can carry (RFC 8446, section 5.1).
_RECORD = 1 << 14
#: How long, in seconds, the last record may take to get into the socket.
_LAST = 5.0
#: OpenSSL's errors for a server whose answer is not TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}


class TLS(NamedTuple):
    """
    @ivar name: for SNI, and what the certificate has to name.
    """

    context: ssl.SSLContext
    name: str


class Channel(Protocol):
    """
    @ivar closeNotify: has the server sent a close_notify?  C{None} without TLS.
    @ivar unsent: do bytes wait here, and not in the socket?  L{write} sends them.
    """

    closeNotify: Optional[bool]

    @property
    def unsent(self) -> bool:
        """
        See above.
        """

    def write(self, data: memoryview, more: bool) -> int:
        """
        @param more: FIN will follow at once; the last bytes may wait for it.
        @return: how much was taken.
        @raise BlockingIOError: if nothing can be sent now.
        @raise ConnectionResetError: if a RST came.
        @raise BrokenPipeError: if a RST came behind a FIN.
        """

    def read(self, size: int) -> bytes:
        """
        @return: nothing at the FIN.
        @raise BlockingIOError: if nothing can be read now.
        @raise ConnectionResetError: if a RST came.
        @raise ssl.SSLError: if it is no TLS, or the server sends an alert.
        """

    def endWriting(self, notify: bool) -> None:
        """
        Send FIN.

        @param notify: over TLS, send close_notify before it.
        """


class PlainChannel:
    """
    TCP, or a UNIX socket.
    """

    closeNotify: Optional[bool] = None
    unsent = False

    def __init__(self, skt: socket.socket) -> None:
        self._socket = skt

    def write(self, data: memoryview, more: bool) -> int:
        # With MSG_MORE, see send(2), the last bytes leave with the FIN.
        return self._socket.send(data, _MORE if more else 0)

    def read(self, size: int) -> bytes:
        return self._socket.recv(size)

    def endWriting(self, notify: bool) -> None:
        self._socket.shutdown(socket.SHUT_WR)


class TLSChannel:
    """
    TLS over one of the two.

    @raise OSError: if the handshake fails.
    """

    def __init__(self, skt: socket.socket, tls: TLS) -> None:
        """
        @param skt: its timeout bounds each wait of the handshake.
        """
        self.closeNotify: Optional[bool] = False
        self._socket = skt
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=tls.name
        )
        self._encrypted = b""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                skt.sendall(self._outgoing.read())
                data = skt.recv(_READ)
                if not data:
                    raise ConnectionResetError("FIN in the TLS handshake") from None
                self._incoming.write(data)
            except ssl.SSLError as error:
                if error.reason in _NO_TLS:
                    raise OSError("must speak TLS, and does not") from None
                raise
            else:
                skt.sendall(self._outgoing.read())
                break

    @property
    def protocol(self) -> Optional[str]:
        """
        What ALPN has chosen (RFC 7301).
        """
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> Optional[str]:
        """
        As C{ssl} calls it.
        """
        return self._tls.version()

    @property
    def unsent(self) -> bool:
        return bool(self._encrypted or self._outgoing.pending)

    def write(self, data: memoryview, more: bool) -> int:
        self._flush()
        if not data:
            return 0
        count = self._tls.write(data[:_RECORD])
        with contextlib.suppress(BlockingIOError):
            self._flush()
        return count

    def read(self, size: int) -> bytes:
        data = self._socket.recv(size)
        if not data:
            return b""
        self._incoming.write(data)
        found = self._decrypt()
        with contextlib.suppress(BlockingIOError):
            self._flush()  # a key update is answered
        if not found:
            raise BlockingIOError  # part of a record, or no data of ours
        return found

    def endWriting(self, notify: bool) -> None:
        if notify:
            # With all records read, unwrap() can do no more than send.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._socket.settimeout(_LAST)
            try:
                self._socket.sendall(self._encrypted + self._outgoing.read(), _MORE)
            finally:
                self._socket.setblocking(False)
        self._socket.shutdown(socket.SHUT_WR)

    def _decrypt(self) -> bytes:
        found = bytearray()
        while not self.closeNotify:
            try:
                data = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            found += data
            self.closeNotify = not data
        return bytes(found)

    def _flush(self) -> None:
        self._encrypted += self._outgoing.read()
        while self._encrypted:
            sent = self._socket.send(self._encrypted)
            self._encrypted = self._encrypted[sent:]


__all__ = ["TLS", "Channel", "PlainChannel", "TLSChannel"]
