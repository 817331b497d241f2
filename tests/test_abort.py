"""
Abortive close: RST at once in every state, whoever else holds the descriptor.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from typing import Any, Callable, Optional

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from twisted_term import Outcome, State, TerminatingFactory

from .support import SECONDS, Recorder, SocketTestCase, nothing, receive

_DATA = b"x" * 20_000_000
_TIME_WAIT = "06"


def kernelStates(pair: frozenset[int]) -> list[str]:
    """
    The states in which the kernel knows the connection between two ports,
    one for each side that it still knows.
    """
    states = []
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            local, remote, state = line.split()[1:4]
            ports = frozenset(int(end.split(":")[1], 16) for end in (local, remote))
            if ports == pair:
                states.append(state)
    return states


def afterReset(client: socket.socket) -> tuple[int, str]:
    """
    Wait for the error without reading, then say how reading ends.
    """
    poll = select.poll()
    poll.register(client, 0)  # POLLERR and POLLHUP are always reported
    if not poll.poll(SECONDS * 1000):
        return 0, "timeout"
    return receive(client)


def afterFin(client: socket.socket) -> tuple[int, str]:
    """
    The same for a client that has our FIN.  Linux gives it the end of file
    for ever, and the reset to the first send (C{tcp_reset}, CLOSE_WAIT).
    """
    count, end = afterReset(client)
    if end != "FIN":
        return count, end
    try:
        client.send(b"x")
    except BrokenPipeError:
        return count, "RST"
    return count, end


def receiveOrTimeout(client: socket.socket) -> tuple[int, str]:
    """
    Receive until the end, or until nothing came for a short time.
    """
    client.settimeout(0.5)
    try:
        return receive(client)
    except socket.timeout:
        return 0, "timeout"


class Counting(Recorder):
    """
    Records how often C{connectionLost} is called.
    """

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.factory.lost.append(reason)


class Aborting(Protocol):
    """
    Keeps a duplicate of its descriptor, and aborts at the first bytes.
    """

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.duplicates.append(os.dup(self.transport.getHandle().fileno()))
        self.transport.abortConnection()


Duplicate = Callable[[Any], Callable[[], bool]]


class AbortTests(SocketTestCase):
    """
    The peer gets a reset, and no socket is left in TIME_WAIT.
    """

    def none(self, protocol: Any) -> Callable[[], bool]:
        """
        No other process has the descriptor.
        """
        return lambda: True

    def here(self, protocol: Any) -> Callable[[], bool]:
        """
        This process has a duplicate.
        """
        duplicate = os.dup(protocol.transport.getHandle().fileno())
        self.addCleanup(os.close, duplicate)
        return lambda: os.readlink(f"/proc/self/fd/{duplicate}").startswith("socket:")

    def elsewhere(self, protocol: Any) -> Callable[[], bool]:
        """
        Another process has a duplicate.
        """
        descriptor = protocol.transport.getHandle().fileno()
        process = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return lambda: os.readlink(f"/proc/{process.pid}/fd/{descriptor}").startswith(
            "socket:"
        )

    @inlineCallbacks
    def aborts(
        self,
        script: Callable[[socket.socket], tuple[int, str]],
        made: Callable[[Any], object] = nothing,
        received: Optional[Callable[[Any], object]] = None,
        state: Optional[State] = None,
        outcome: Outcome = Outcome.ABORTED,
    ) -> Any:
        """
        Show what an abort does, for each way to hold the descriptor.

        @param script: what the client does, in a thread; how reading ends.
        @param made: what the server does when connected.
        @param received: what it does with a request; C{None}: none is sent.
        @param state: where the test itself aborts; C{None}: it does not.
        """
        for duplicate in (self.none, self.here, self.elsewhere):
            client, factory, held = self.begin(duplicate, made, received)
            ending = deferToThread(script, client)
            if state is not None:
                yield self.until(
                    lambda factory=factory, state=state: any(
                        protocol.transport.state is state
                        for protocol in factory.protocols
                    )
                )
                factory.protocols[0].transport.abortConnection()
            _, end = yield ending
            self.assertEqual(end, "RST")
            report = yield factory.ended
            # The duplicate is open, and no end of the connection is left.
            self.assertTrue(held[0]())
            pair = frozenset([client.getsockname()[1], factory.port])
            self.assertEqual(kernelStates(pair), [])
            client.close()
            yield deferLater(reactor, 0.05)
            self.assertEqual(kernelStates(pair), [])
            self.assertIs(report.outcome, outcome)
            self.assertEqual(factory.reports, [report])
            self.assertEqual(len(factory.lost), 1)
            factory.lost[0].trap(ConnectionAborted)

    def begin(
        self,
        duplicate: Duplicate,
        made: Callable[[Any], object],
        received: Optional[Callable[[Any], object]],
    ) -> Any:
        factory = self.recorder(lambda protocol, data: (received or nothing)(protocol))
        factory.protocol = Counting
        factory.lost = []
        factory.protocols = []
        held: list[Callable[[], bool]] = []

        def connected(protocol: Any) -> None:
            factory.protocols.append(protocol)
            held.append(duplicate(protocol))
            made(protocol)

        factory.made = connected
        factory.port = self.listen(factory)
        client = socket.create_connection(("127.0.0.1", factory.port), SECONDS)
        self.addCleanup(client.close)
        if received is not None:
            client.sendall(b"go")
        return client, factory, held

    def test_fromDataReceived(self) -> Any:
        """
        From C{dataReceived}.
        """
        return self.aborts(
            receive, received=lambda protocol: protocol.transport.abortConnection()
        )

    def test_fromConnectionMade(self) -> Any:
        """
        From C{connectionMade}.
        """
        return self.aborts(
            receive, made=lambda protocol: protocol.transport.abortConnection()
        )

    def test_halfClosed(self) -> Any:
        """
        After C{loseWriteConnection}, with our FIN out.
        """
        return self.aborts(
            afterFin,
            received=lambda protocol: protocol.transport.loseWriteConnection(),
            state=State.HALF_CLOSED,
        )

    def test_flushing(self) -> Any:
        """
        While a client that does not read keeps bytes waiting.
        """
        return self.aborts(
            afterReset,
            received=lambda protocol: (
                protocol.transport.write(_DATA),
                protocol.transport.loseConnection(),
            ),
            state=State.FLUSHING,
        )

    def test_lingering(self) -> Any:
        """
        While lingering for a client that has not sent its FIN.
        """
        return self.aborts(
            afterFin,
            received=lambda protocol: protocol.transport.loseConnection(),
            state=State.LINGERING,
        )

    def test_deadlineWhileFlushing(self) -> Any:
        """
        C{terminate}'s deadline resets a client that does not read.
        """
        return self.aborts(
            afterReset,
            received=lambda protocol: (
                protocol.transport.write(_DATA),
                protocol.transport.terminate(0.1),
            ),
            outcome=Outcome.DEADLINE_EXPIRED,
        )

    def test_deadlineWhileLingering(self) -> Any:
        """
        C{terminate}'s deadline resets a client that does not close.
        """
        return self.aborts(
            afterFin,
            received=lambda protocol: protocol.transport.terminate(0.1),
            outcome=Outcome.DEADLINE_EXPIRED,
        )

    @inlineCallbacks
    def test_twice(self) -> Any:
        """
        A second abort, and all else that is asked for afterwards, changes
        nothing.
        """

        def received(protocol: Any) -> None:
            transport = protocol.transport
            transport.abortConnection()
            transport.abortConnection()
            transport.loseWriteConnection()
            transport.loseConnection()
            transport.terminate(0)

        yield self.aborts(receive, received=received)

    @inlineCallbacks
    def test_timeWait(self) -> Any:
        """
        An orderly close does leave TIME_WAIT, where the tests above look.
        """
        client, factory, _ = self.begin(
            self.none, nothing, lambda protocol: protocol.transport.loseConnection()
        )
        got = yield deferToThread(receive, client)
        self.assertEqual(got, (0, "FIN"))
        pair = frozenset([client.getsockname()[1], factory.port])
        client.close()
        yield factory.ended
        yield self.until(lambda: kernelStates(pair) == [_TIME_WAIT])

    @inlineCallbacks
    def test_bareTwisted(self) -> Any:
        """
        Bare Twisted's abort does not reach a peer while a duplicate is open;
        ours does, on the same script.
        """
        ends = []
        for wrap in (lambda factory: factory, TerminatingFactory):
            factory: Any = Factory.forProtocol(Aborting)
            factory.duplicates = []
            port = self.listen(wrap(factory))
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                client.sendall(b"go")
                ends.append((yield deferToThread(receiveOrTimeout, client)))
            for duplicate in factory.duplicates:
                os.close(duplicate)
        self.assertEqual(ends, [(0, "timeout"), (0, "RST")])
