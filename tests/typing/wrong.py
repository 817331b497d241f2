"""
Mistakes.  Each has to be an error: a comment that has nothing to ignore is one.
"""
# mypy: allow-untyped-calls
# pyright: reportIncompatibleVariableOverride=false
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.web.resource import Resource

from twisted_term import (
    DrainingService,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminatingTransport,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.web import DrainingSite, ReadinessResource


class Wrong(TerminationMixin, LineReceiver):
    def lineReceived(self, line: bytes) -> None:
        self.transport.loseConection()  # type: ignore[attr-defined]
        self.transport.lingerTime = 1  # type: ignore[attr-defined]
        self.transport.write("text")  # type: ignore[arg-type]
        self.transport.writeSequence(["text"])  # type: ignore[list-item]
        self.transport.track(line)  # type: ignore[arg-type]
        self.transport.hold().relase()  # type: ignore[attr-defined]
        self.transport.terminate("10")  # type: ignore[arg-type]
        self.transport.getHost().hots  # type: ignore[attr-defined]  # noqa: B018
        self.transport.registerProducer(line, True)  # type: ignore[arg-type]
        self.transport.whenTerminated().addCallback(self.wants)  # type: ignore[call-overload]
        self.transport.policy = {"lingerTime": 1}  # type: ignore[assignment]

    def wants(self, text: str) -> None: ...


class Plain(Protocol):
    def dataReceived(self, data: bytes) -> None:
        transport = cast(TerminatingTransport, self.transport)
        transport.termnate(10)  # type: ignore[attr-defined]


def wrong(
    server: TCP4ServerEndpoint, client: TCP4ClientEndpoint, root: Resource
) -> Deferred[str]:
    factory = Factory.forProtocol(Wrong)
    TerminationPolicy(lingerTime="10")  # type: ignore[arg-type]
    TerminationPolicy(lingerTimes=10)  # type: ignore[call-arg]
    TerminatingFactory(Wrong)  # type: ignore[arg-type]
    TerminatingFactory(factory, {"lingerTime": 1})  # type: ignore[arg-type]
    DrainingService(server, Wrong)  # type: ignore[arg-type]
    DrainingService(server, factory, drainTimeout="25")  # type: ignore[arg-type]
    DrainingService("tcp:8080", factory)  # type: ignore[arg-type]
    DrainingService(factory, server)  # type: ignore[arg-type]
    DrainingService(server, factory).whenDrains()  # type: ignore[attr-defined]
    TerminatingServerEndpoint(client)  # type: ignore[arg-type]
    TerminatingServerEndpoint("tcp:8080")  # type: ignore[arg-type]
    TerminatingServerEndpoint(server).listen(Wrong)  # type: ignore[arg-type]
    TerminatingClientEndpoint(server)  # type: ignore[arg-type]
    TerminatingClientEndpoint(client).connect(Wrong)  # type: ignore[call-overload]
    ReadinessResource(True)  # type: ignore[arg-type]
    DrainingSite(root).drain()  # type: ignore[call-arg]
    return DrainingService(server, factory).drain()  # type: ignore[return-value]
