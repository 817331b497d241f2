"""
A thousand stuck peers at once: all are gone within the policy's limits, and
nothing of them is left.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections import Counter
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.internet.threads import deferToThread

from twisted_term import Outcome, State, TerminatingTransport, TerminationPolicy
from twisted_term.connection.ending import Ending
from twisted_term.connection.gate import Gate
from twisted_term.connection.shell import Connection

from .support import SECONDS, Recorder, SocketTestCase, receive, sockets

_HALF = 500
_PEERS = 2 * _HALF
_POLICY = TerminationPolicy(flushTimeout=1.0, lingerTime=1.0, lingerIdle=1.0)
# More than both kernels take for a client with the options below, and 500 MB
# in all.
_DATA = b"x" * 1_000_000
_KINDS = (Recorder, TerminatingTransport, Gate, Connection, Ending, Server)


def connect(port: int, request: bytes) -> socket.socket:
    """
    Connect with a small receive buffer and the segments of an Ethernet: the
    loopback's large ones would make the server's buffer large too.
    """
    client = socket.socket()
    client.settimeout(SECONDS)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
    return client


def instances() -> list[object]:
    """
    All that is alive of a connection.
    """
    gc.collect()
    return [found for found in gc.get_objects() if issubclass(type(found), _KINDS)]


class StuckTests(SocketTestCase):
    """
    Peers that do nothing.
    """

    def allowDescriptors(self, count: int) -> None:
        """
        Make room for so many more descriptors, until the test ends.
        """
        needed = len(os.listdir("/proc/self/fd")) + count
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise SkipTest(f"RLIMIT_NOFILE is {hard}, and {needed} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    @inlineCallbacks
    def test_thousand(self) -> Any:
        """
        500 peers that never read and 500 that never close, all at the same
        time.
        """
        if type(reactor).__name__ == "SelectReactor":
            raise SkipTest("select() has no room for so many")
        self.allowDescriptors(2 * _PEERS + 100)
        protocols: dict[bytes, list[Any]] = {b"r": [], b"c": []}
        factory = self.recorder(
            lambda protocol, data: protocols[data].append(protocol), _POLICY
        )
        # Room for all that the reactor has not accepted yet: a client whose SYN
        # is dropped tries again only after seconds.
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=_PEERS)
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        yield deferLater(reactor, 0)  # trial's own delayed call comes after us
        instancesBefore = instances()
        callsBefore = set(reactor.getDelayedCalls())
        socketsBefore = sockets()

        clients: dict[bytes, list[socket.socket]] = {b"r": [], b"c": []}

        def connectAll() -> None:
            for _ in range(_HALF):
                for request in clients:
                    clients[request].append(connect(port, request))

        def closeAll() -> None:
            while any(clients.values()):
                for some in clients.values():
                    if some:
                        some.pop().close()

        self.addCleanup(closeAll)
        yield deferToThread(connectAll)
        yield self.until(lambda: sum(map(len, protocols.values())) == _PEERS)
        self.assertEqual(sockets(), socketsBefore + 2 * _PEERS)

        for protocol in protocols[b"r"]:
            protocol.transport.write(_DATA)
        for some in protocols.values():
            while some:
                some.pop().transport.loseConnection()
        del protocol
        yield self.until(lambda: len(factory.reports) == _PEERS)

        # The clients are all still there; nothing of ours is.
        self.assertEqual(sockets(), socketsBefore + _PEERS)
        self.assertEqual(set(reactor.getDelayedCalls()) - callsBefore, set())
        left = [
            found
            for found in instances()
            if not any(found is before for before in instancesBefore)
        ]
        self.assertEqual(left, [])

        reports = {
            outcome: [found for found in factory.reports if found.outcome is outcome]
            for outcome in Outcome
        }
        counts = Counter(report.outcome for report in factory.reports)
        self.assertEqual(
            counts, {Outcome.FLUSH_EXPIRED: _HALF, Outcome.LINGER_EXPIRED: _HALF}
        )
        for report in reports[Outcome.FLUSH_EXPIRED]:
            self.assertIs(report.delivered, False)
            self.assertNotIn(State.LINGERING, report.seconds)
        for report in reports[Outcome.LINGER_EXPIRED]:
            self.assertIs(report.delivered, True)

        # The one half has been reset, and the other has our FIN.
        def receiveAll(some: list[socket.socket]) -> list[str]:
            return [receive(client)[1] for client in some]

        for request, end in ((b"r", "RST"), (b"c", "FIN")):
            ends = yield deferToThread(receiveAll, clients[request])
            self.assertEqual(Counter(ends), {end: _HALF})
        closeAll()
        self.assertEqual(sockets(), socketsBefore)
