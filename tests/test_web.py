"""
twisted.web behind the wrapper, which it knows nothing of.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_term import TerminatingFactory

from .support import SECONDS, SocketTestCase, receive

_BODY = b"x" * 20_000_000
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Large(Resource):
    """
    A body that waits in the server for a slow reader.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return _BODY


def quiet(resource: Any) -> Site:
    site = Site(resource)
    site.noisy = False
    site.log = lambda request: None
    return site


class SiteTests(SocketTestCase):
    """
    A plain C{Site}.
    """

    @inlineCallbacks
    def test_keepAliveHalfClosed(self) -> Any:
        """
        A client that half-closes a keep-alive connection gets the response
        whole and FIN behind it: the channel stays registered as a
        producer, but has nothing more to give.
        """

        def fetch(port: int) -> tuple[int, str]:
            with socket.socket() as client:
                client.settimeout(SECONDS)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", port))
                client.sendall(_REQUEST)
                client.shutdown(socket.SHUT_WR)
                return receive(client)

        port = self.listen(TerminatingFactory(quiet(Large())))
        count, end = yield deferToThread(fetch, port)
        self.assertGreater(count, len(_BODY))
        self.assertEqual(end, "FIN")
