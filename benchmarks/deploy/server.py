"""
The server that is restarted, for C{twistd --python}.  Its environment says how::

    KIND          service, string, term or bare, see L{KINDS}
    DELAY         readinessDelay, in seconds
    PLAIN, TLS    where it listens: endpoint strings
    REUSE_PORT    not empty: PLAIN and TLS are port numbers, with SO_REUSEPORT
    CERTIFICATE   a file with a key and a certificate
    BIG           a file to download
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    serverFromString,
    wrapServerTLS,
)
from twisted.internet.ssl import PrivateCertificate
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data, File

from twisted_term import DrainingService, TerminatingServerEndpoint
from twisted_term.web import DrainingSite, ReadinessResource

KIND = os.environ["KIND"]
DELAY = float(os.environ["DELAY"])


class Sum(Resource):
    """
    Answers with the hash of what was sent.
    """

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return hashlib.sha256(request.content.read()).hexdigest().encode()


def echo() -> Resource:
    """
    A WebSocket that says what it is told.
    """
    try:
        from twisted.web.websocket import WebSocketResource
    except ImportError:  # an older Twisted, or no wsproto
        return Data(b"no WebSocket", "text/plain")

    class Echo:
        def negotiationStarted(self, transport: Any) -> None:
            self.transport = transport

        def negotiationFinished(self) -> None:
            pass

        def textMessageReceived(self, message: str) -> None:
            self.transport.sendTextMessage(message)

        def bytesMessageReceived(self, message: bytes) -> None:
            pass

        def pongReceived(self, message: bytes) -> None:
            pass

        def connectionLost(self, reason: Any) -> None:
            pass

    class Echoes:
        def buildProtocol(self, request: Any) -> Echo:
            return Echo()

    return WebSocketResource(Echoes())


def plainEndpoint(where: str) -> Any:
    """
    The endpoint without C{term:}.
    """
    if not os.environ.get("REUSE_PORT"):
        return serverFromString(reactor, where)
    from twisted.internet.tcp import makeBinding

    binding = makeBinding("127.0.0.1", int(where), reuseAddress=True, reusePort=True)
    return TCP4ServerEndpoint(reactor, binding, backlog=1000)


def endpoint(name: str) -> Any:
    """
    One of the two, as C{KIND} has it.
    """
    made = plainEndpoint(os.environ[name])
    if name == "TLS":
        pem = Path(os.environ["CERTIFICATE"]).read_bytes()
        made = wrapServerTLS(PrivateCertificate.loadPEM(pem).options(), made)
    if KIND == "string":
        # What "term:...:readinessDelay=" makes.
        return TerminatingServerEndpoint(made, readinessDelay=DELAY)
    return TerminatingServerEndpoint(made) if KIND == "term" else made


root = Resource()
root.putChild(b"small", Data(b"small", "text/plain"))
root.putChild(b"sum", Sum())
root.putChild(b"big", File(os.environ["BIG"]))
root.putChild(b"echo", echo())
application = Application("restarted")
# Without a line in the log for each request.
site = DrainingSite(root) if KIND in ("service", "string") else Site(root)
site.log = lambda request: None
if KIND == "service":
    service = DrainingService(endpoint("PLAIN"), site, readinessDelay=DELAY)
    service.addEndpoint(endpoint("TLS"), site)
    service.setServiceParent(application)
else:
    for name in ("PLAIN", "TLS"):
        StreamServerEndpointService(endpoint(name), site).setServiceParent(application)
if isinstance(site, DrainingSite):
    root.putChild(b"ready", ReadinessResource(lambda: not site.draining))
else:
    root.putChild(b"ready", Data(b"ready", "text/plain"))
