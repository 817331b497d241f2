"""
A WebSocket that is being opened while its server begins to drain.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from .processes import UPGRADE
from .support import SECONDS, SocketTestCase
from .test_applications_websocket import autobahn, native

#: A Close frame, and 1001 in it (RFC 6455, 5.5.1).
_GOING = b"\x88\x02\x03\xe9"


class UpgradeTests(SocketTestCase):
    """
    It is told that the server goes away, whenever its request comes.
    """

    @inlineCallbacks
    def told(self, kind: str, early: int, delay: float) -> Any:
        """
        @param early: bytes of the request that come before the drain.
        @param delay: seconds from the drain to the rest of them.
        """
        _, resource = {"autobahn": autobahn, "native": native}[kind]([])
        root = Resource()
        root.putChild(b"ws", resource)
        site = Site(root)
        site.log = lambda request: None
        port = self.serveEither(site, bare=False)
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)
        client.sendall(UPGRADE[:early])
        yield self.until(lambda: self.transports)
        yield deferLater(reactor, 0.05)
        self.stop()
        yield deferLater(reactor, delay)
        client.sendall(UPGRADE[early:])

        def read() -> bytes:
            data = b""
            while _GOING not in data and (more := client.recv(1 << 16)):
                data += more
            return data

        data = yield deferToThread(read)
        self.assertIn(b" 101 ", data)
        self.assertIn(_GOING, data)
        # The answer to it: no more than the goodbye is awaited.
        client.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
        self.assertEqual((yield deferToThread(client.recv, 9)), b"")

    @inlineCallbacks
    def test_native(self) -> Any:
        """
        C{twisted.web.websocket}: the request comes behind the begin of the drain, on a
        connection that was idle, or in part.
        """
        for early, delay in ((0, 0.0), (0, 0.03), (20, 0.5), (len(UPGRADE) - 2, 0.5)):
            yield self.told("native", early, delay)

    @inlineCallbacks
    def test_autobahn(self) -> Any:
        """
        The same with Autobahn.
        """
        for early, delay in ((0, 0.0), (0, 0.03), (20, 0.5), (len(UPGRADE) - 2, 0.5)):
            yield self.told("autobahn", early, delay)
