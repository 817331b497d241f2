"""
What the socket tests share: clients that are plain blocking sockets in
threads, and a server that records its reports.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from operator import methodcaller
from typing import Any, Callable, Optional

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from twisted_term import TerminatingFactory, TerminationMixin, TerminationPolicy
from twisted_term.termserver.tap import Options

SECONDS = 20
#: Is this a run of the matrix, and not its first one?
REPEATED = "TEST_REPEATED" in os.environ


def once(case: type) -> type:
    """
    A test case that depends neither on the reactor nor on Twisted's version:
    of the runs of the matrix, the first one is enough.
    """
    if REPEATED:
        case.skip = "it does not depend on reactor and Twisted, and runs once"
    return case


def expect(found: object, wanted: object) -> None:
    """
    C{assertEqual} for who has no test case.  C{python -O} leaves an C{assert} out,
    and the C{recv()} in it.

    @raise AssertionError: if the two are not equal.
    """
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def receive(client: socket.socket, pause: float = 0.0) -> tuple[int, str]:
    """
    Bytes until the end, and whether it was a FIN or a reset.
    """
    count = 0
    try:
        while True:
            data = client.recv(256 * 1024)
            if not data:
                return count, "FIN"
            count += len(data)
            time.sleep(pause)
    except ConnectionResetError:
        return count, "RST"


def exchange(
    port: int, request: bytes, halfClose: bool = False, small: bool = False
) -> tuple[int, str]:
    """
    Send a request, and receive until the end.
    """
    with socket.socket() as client:
        client.settimeout(SECONDS)
        if small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(request)
        if halfClose:
            client.shutdown(socket.SHUT_WR)
        return receive(client)


def upload(port: int, slow: bool) -> tuple[int, str]:
    """
    Upload 4 MiB, and receive at the same time.

    @param slow: a small receive buffer, read from late: the tail of the
        answer has to wait in the server's socket.
    """
    refused: list[OSError] = []
    with socket.socket() as client:
        client.settimeout(SECONDS)
        if slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.connect(("127.0.0.1", port))
        sender = threading.Thread(target=_upload, args=(client, refused))
        sender.start()
        time.sleep(0.1 if slow else 0.0)
        count, end = receive(client, 0.0002 if slow else 0.0)
        sender.join(SECONDS)
        return count, "RST" if refused else end


def _upload(client: socket.socket, refused: list[OSError]) -> None:
    try:
        for _ in range(64):
            client.sendall(b"u" * 65536)
            time.sleep(0.0005)
    except OSError as error:
        refused.append(error)


def sockets() -> int:
    """
    How many sockets this process has open.
    """
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


class Recorder(TerminationMixin, Protocol):
    """
    Does as the test says, and records the reports.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.factory.made(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.received(self, data)

    def terminated(self, report: Any) -> None:
        self.factory.reports.append(report)
        if self.factory.ended is not None and not self.factory.ended.called:
            self.factory.ended.callback(report)


def options(*arguments: str) -> Options:
    """
    What C{twistd termserver} makes of its command line.
    """
    parsed = Options()
    parsed.parseOptions(arguments)
    return parsed


def nothing(*args: object) -> None:
    pass


def _cut(transport: Any) -> None:
    if transport.connected:
        transport.connectionLost(Failure(CONNECTION_LOST))


class SocketTestCase(TestCase):
    """
    @cvar patience: seconds that L{until} waits.
    """

    timeout = 60
    patience: float = SECONDS

    @inlineCallbacks
    def until(self, condition: Callable[[], Any]) -> Any:
        """
        Wait for something to come true.
        """
        deadline = reactor.seconds() + self.patience
        while not condition():
            self.assertLess(reactor.seconds(), deadline, "nothing happens")
            yield deferLater(reactor, 0.01)

    def listen(self, factory: Any) -> int:
        # A client has its FIN before the server has the acknowledgement of it.
        self.addCleanup(deferLater, reactor, 0.3)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def expectErrors(self) -> None:
        """
        What is under way at the end of this test may log errors, and is waited for.
        """
        self.addCleanup(self.flushLoggedErrors)
        # A Deferred tells of its error when it goes, and the traceback of an error
        # in the log may hold it until then.
        self.addCleanup(gc.collect)
        self.addCleanup(self.flushLoggedErrors)
        self.addCleanup(deferLater, reactor, 1)

    def serveEither(self, factory: Any, bare: bool) -> int:
        """
        Listen with a factory as it is, or wrapped.

        @return: the port; L{stop} stops the server.
        """
        factory.noisy = False
        self.transports: list[Any] = []
        if bare:
            # What was under way there meets with its end, and says so in the log.
            self.expectErrors()
            built, self._stop = factory.buildProtocol, _cut

            def buildProtocol(addr: Any) -> Any:
                protocol = built(addr)
                made = protocol.makeConnection

                def makeConnection(transport: Any) -> None:
                    self.transports.append(transport)
                    made(transport)

                protocol.makeConnection = makeConnection
                return protocol

            factory.buildProtocol = buildProtocol
            return self.listen(factory)
        self._stop = methodcaller("drain")
        wrapped = TerminatingFactory(factory)
        wrapped.connected = self.transports.append
        return self.listen(wrapped)

    def stop(self) -> None:
        """
        What the end of the server is to its connections: a drain, and in bare
        Twisted what the reactor does when it stops (C{disconnectAll}).
        """
        for transport in self.transports:
            self._stop(transport)

    def recorder(
        self,
        received: Callable[..., Any] = nothing,
        policy: Optional[TerminationPolicy] = None,
    ) -> Any:
        factory: Any = Factory.forProtocol(Recorder)
        factory.made = nothing
        factory.received = received
        factory.reports = []
        factory.ended = Deferred()
        self.patch(Recorder, "terminationPolicy", policy)
        return factory
