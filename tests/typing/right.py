"""
Typical use.  A type checker finds no fault with it.

Two settings are necessary because of Twisted.  Many of its functions have no
annotations.  And C{BaseProtocol.transport} may be set to any transport, so that
pyright, but not mypy, reports each class in which it has a narrower type.
"""
# mypy: allow-untyped-calls
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Optional, cast

from twisted.application.service import Application
from twisted.internet import ssl
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import IAddress, IReactorTCP
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.protocols.amp import AMP
from twisted.protocols.basic import FileSender, Int32StringReceiver, LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_term import (
    DrainingService,
    DrainReport,
    Hold,
    Initiator,
    Monitor,
    Outcome,
    State,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminatingTransport,
    Termination,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.web import DrainingSite, ReadinessResource


class Echo(TerminationMixin, LineReceiver):
    """
    A server's protocol, with the mixin.
    """

    terminationPolicy = TerminationPolicy(lingerTime=10, lingerBytes=None)
    report: Optional[Termination] = None

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        if isinstance(peer, IPv4Address):
            print(peer.host, peer.port, self.transport.getHost())
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.whenDraining().addCallback(self.drains)

    def drains(self, _: None) -> None:
        self.transport.loseWriteConnection()

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)
        self.transport.write(line)
        self.transport.writeSequence([line, b"\r\n"])
        answer: Deferred[int] = Deferred()
        answer.addCallback(self.answered)
        self.transport.track(answer)
        with self.transport.hold():
            self.transport.loseConnection()

    def answered(self, number: int) -> None:
        self.sendLine(b"%d" % number)

    def fileReceived(self) -> None:
        with open(__file__, "rb") as file:
            sender = FileSender()
            sender.file = file
            self.transport.registerProducer(sender, False)
            self.transport.unregisterProducer()

    def certificate(self) -> object:
        self.transport.startTLS(ssl.CertificateOptions())
        return self.transport.getPeerCertificate(), self.transport.negotiatedProtocol

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.transport.state is State.CLOSED

    def terminated(self, report: Termination) -> None:
        self.report = report
        if report.outcome is Outcome.CLEAN and report.initiator is Initiator.LOCAL:
            seconds: float = report.seconds[State.FLUSHING]
            delivered: Optional[bool] = report.delivered
            print(seconds, delivered, report)


class Job(TerminationMixin, Protocol):
    """
    One whose work is longer than a call.
    """

    working: Optional[Hold] = None

    def dataReceived(self, data: bytes) -> None:
        self.working = self.transport.hold()
        self.transport.pauseProducing()
        self.transport.resumeProducing()

    def done(self) -> None:
        assert self.working is not None
        self.working.release()
        transport: TerminatingTransport = self.transport
        transport.closeConnection()

    def endsSoon(self) -> Deferred[Termination]:
        self.transport.drain()
        self.transport.abortConnection()
        self.transport.terminate(10).addCallback(self.terminated)
        return self.transport.whenTerminated()


class Plain(Protocol):
    """
    One that a wrapped factory or endpoint serves.
    """

    def dataReceived(self, data: bytes) -> None:
        transport = cast(TerminatingTransport, self.transport)
        transport.terminate(10).addCallback(self.ended)

    def ended(self, report: Termination) -> None: ...


class Strings(TerminationMixin, Int32StringReceiver):
    def stringReceived(self, string: bytes) -> None:
        self.transport.track(Deferred[bytes]())
        self.transport.loseConnection()


class Web(TerminationMixin, HTTPChannel):
    def ends(self) -> None:
        self.transport.terminate(1)


class Questions(TerminationMixin, AMP):
    def ends(self) -> None:
        self.transport.closeConnection()


class Jobs(Factory):
    """
    A factory of the user's own.
    """

    def buildProtocol(self, addr: Optional[IAddress]) -> Job:
        return Job()


async def serve(reactor: IReactorTCP) -> None:
    """
    A server.
    """
    inner = TCP4ServerEndpoint(reactor, 8080, interface="127.0.0.1")
    endpoint = TerminatingServerEndpoint(
        inner, TerminationPolicy(flushTimeout=None), drainTimeout=5, readinessDelay=1
    )
    port = await endpoint.listen(Factory.forProtocol(Echo))
    print(port)
    text = serverFromString(reactor, "tcp:8081:interface=127.0.0.1")
    await TerminatingServerEndpoint(text).listen(Jobs())
    await inner.listen(TerminatingFactory(Jobs(), TerminationPolicy(peerFin="gone")))


async def ask(reactor: IReactorTCP) -> Termination:
    """
    A client.
    """
    inner = TCP4ClientEndpoint(reactor, "127.0.0.1", 8080)
    job = await TerminatingClientEndpoint(inner).connect(Jobs())
    job.transport.write(b"question")
    text = clientFromString(reactor, "tcp:127.0.0.1:8080")
    clients = ClientFactory.forProtocol(Echo)
    other = await TerminatingClientEndpoint(text).connect(clients)
    print(other)
    report = await job.transport.terminate(60)
    if not report.delivered:
        raise SystemExit("try again")
    return report


def service(reactor: IReactorTCP) -> DrainingService:
    """
    A service, with a page that says how it is.
    """
    endpoint = TCP4ServerEndpoint(reactor, 8080)
    served = DrainingService(
        endpoint, DrainingSite(Resource()), drainTimeout=None, reactor=reactor
    )
    served.addEndpoint(TCP4ServerEndpoint(reactor, 8081), Factory.forProtocol(Echo))
    served.setServiceParent(Application("served"))
    ready = ReadinessResource(lambda: not served.draining)
    status = DrainingService(TCP4ServerEndpoint(reactor, 8024), Site(ready))
    status.startService()
    served.whenDraining().addCallback(lambda _: None)
    served.drain().addCallback(drained)
    return served


def drained(report: DrainReport) -> None:
    print(report.undelivered, report)


def watch(monitor: Monitor) -> object:
    return monitor


def main(reactor: IReactorTCP) -> Deferred[Termination]:
    ensureDeferred(serve(reactor))
    return ensureDeferred(ask(reactor))
