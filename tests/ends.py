"""
What the tests of ends over TCP, UNIX and TLS share.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from .certificates import certificateFile, wrap
from .support import SECONDS, Recorder, SocketTestCase

LISTEN = "tcp:0:interface=127.0.0.1"


KINDS = ("tcp", "unix", "tls")


class Ended(Recorder):
    """
    Records why its connection was lost.
    """

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(reason)


@implementer(IHalfCloseableProtocol)
class HalfClosing(Ended):
    """
    Is told of both FINs, and does what the test says at the peer's FIN.
    """

    def readConnectionLost(self) -> None:
        self.factory.peerFin(self)

    def writeConnectionLost(self) -> None:
        pass


class EndsTestCase(SocketTestCase):
    def ended(self, protocol: Any = Ended, **does: Any) -> Any:
        """
        A factory that does as the test says.
        """
        factory = self.recorder()
        factory.protocol = protocol
        factory.noisy = False
        factory.lost = []
        for name, call in does.items():
            setattr(factory, name, call)
        return factory

    def endpoint(self, kind: str) -> str:
        """
        The string of an endpoint to listen on.
        """
        if kind == "unix":
            folder = tempfile.mkdtemp()
            self.addCleanup(rmtree, folder)
            return f"unix:{Path(folder, 'socket')}"
        if kind == "tls":
            return f"ssl:0:interface=127.0.0.1:privateKey={certificateFile(self)}"
        return LISTEN

    @inlineCallbacks
    def serve(self, kind: str, factory: Any) -> Any:
        """
        @return: a Deferred of what connects to it, in a thread.
        """
        self.addCleanup(deferLater, reactor, 0.3)
        port = yield serverFromString(reactor, self.endpoint(kind)).listen(factory)
        self.addCleanup(port.stopListening)
        return self.connecting(kind, port)

    def connecting(self, kind: str, port: Any) -> Callable[..., Any]:
        """
        @return: what connects to a port, in a thread.
        """
        host = port.getHost()
        self.address: Any = (
            host.name.decode() if kind == "unix" else ("127.0.0.1", host.port)
        )

        def connect(small: bool = False) -> Any:
            unix = kind == "unix"
            client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            client.settimeout(SECONDS)
            if small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(self.address)
            return wrap(client) if kind == "tls" else client

        return connect

    @inlineCallbacks
    def report(self, factory: Any) -> Any:
        """
        @return: a Deferred of the one report; the protocol was told once.
        """
        yield self.until(lambda: factory.reports)
        yield deferLater(reactor, 0.05)
        self.assertEqual((len(factory.reports), len(factory.lost)), (1, 1))
        return factory.reports[0]


def endWriting(client: Any) -> None:
    """
    FIN, or close_notify.
    """
    if isinstance(client, ssl.SSLSocket):
        client.settimeout(0.2)
        with contextlib.suppress(OSError):  # unwrap() would wait for the peer's
            client.unwrap()
        client.settimeout(SECONDS)
    else:
        client.shutdown(socket.SHUT_WR)


__all__ = ["KINDS", "LISTEN", "Ended", "EndsTestCase", "HalfClosing", "endWriting"]
