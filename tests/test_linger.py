"""
When a connection lingers: the policy's C{linger}.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_term import Outcome, State, TerminatingFactory, TerminationPolicy
from twisted_term.applications import Conversation, conversationOf
from twisted_term.interfaces import IConversation
from twisted_term.testing import Peer, memoryPair

from .doubles import Application, TransportTestCase
from .ends import KINDS, EndsTestCase
from .support import SECONDS, receive

_LIMITS: dict[str, Any] = {"flushTimeout": 8, "lingerTime": 16, "lingerIdle": 4}


class Expecting(Application):
    more = False


class ExpectingConversation(Conversation):
    def expectsMore(self, transport: Any) -> bool:
        return bool(self.protocol.more)


registerAdapter(ExpectingConversation, Expecting, IConversation)


class ClockTests(TransportTestCase):
    def begin(self, linger: str, owed: int = 0, paused: bool = False) -> None:
        """
        Ask for the end; our FIN is out.
        """
        self.policy = TerminationPolicy(linger=linger, **_LIMITS)
        self.connect(Expecting())
        self.owe(owed)
        if paused:
            self.transport.pauseProducing()
        self.transport.loseConnection()

    def assertLingers(self) -> None:
        self.below.writeConnectionLost()
        self.advance(3.75)
        self.assertIs(self.transport.state, State.LINGERING)
        self.advance(1.25)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def assertCloses(self) -> None:
        self.below.writeConnectionLost()
        self.assertIs(self.transport.state, State.CLOSED)
        report = self.end()
        self.assertIs(report.outcome, Outcome.LINGER_EXPIRED)
        self.assertIs(report.delivered, True)
        self.assertLess(report.seconds[State.LINGERING], 0.01)

    def test_always(self) -> None:
        """
        The default lingers, whatever is known.
        """
        self.assertEqual(TerminationPolicy().linger, "always")
        self.begin("always")
        self.assertLingers()

    def test_off(self) -> None:
        """
        C{off} does not, whatever is known.
        """
        self.begin("off", paused=True)
        self.application.more = True  # type: ignore[attr-defined]
        self.below.dataReceived(b"more")
        self.assertCloses()

    def test_on(self) -> None:
        """
        C{on} does where something has been discarded, reading is paused, or the
        application's protocol expects more.
        """
        self.begin("on")
        self.assertCloses()
        self.begin("on")
        self.below.dataReceived(b"more")
        self.assertLingers()
        self.begin("on", paused=True)
        self.assertLingers()
        self.begin("on")
        self.application.more = True  # type: ignore[attr-defined]
        self.assertLingers()

    def test_acknowledged(self) -> None:
        """
        A connection that does not linger still waits until the peer has acknowledged
        all.  That is bounded by C{flushTimeout}, and soon noticed.
        """
        for linger in ("off", "on"):
            self.begin(linger, owed=1000)
            self.below.writeConnectionLost()
            self.advance(7)
            self.assertIs(self.transport.state, State.LINGERING)
            self.owe(900, 100)
            self.advance(7)
            self.assertIs(self.transport.state, State.LINGERING)
            self.owe(0, 1001)
            self.advance(1.25)
            self.assertIs(self.transport.state, State.CLOSED)
            self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)
            self.begin(linger, owed=1000)
            self.below.writeConnectionLost()
            self.advance(10)
            self.assertReset()
            self.assertIs(self.end().outcome, Outcome.FLUSH_EXPIRED)
            self.begin(linger, owed=1000)
            self.below.writeConnectionLost()
            self.owe(0, 1001)
            self.clock.advance(0.006)
            self.assertIs(self.transport.state, State.CLOSED)
            self.end()

    def test_arrivesMeanwhile(self) -> None:
        """
        With C{on}, what arrives while an acknowledgement is awaited is a reason to
        linger.
        """
        self.begin("on", owed=1000)
        self.below.writeConnectionLost()
        self.advance(1)
        self.below.dataReceived(b"more")
        self.owe(0, 1001)
        self.advance(3)
        self.assertIs(self.transport.state, State.LINGERING)
        self.advance(3)
        self.assertIs(self.end().outcome, Outcome.LINGER_EXPIRED)

    def test_peerDone(self) -> None:
        """
        Where the peer's FIN has come, there is nothing to linger for.
        """
        for linger in ("off", "on", "always"):
            self.begin(linger)
            self.below.readConnectionLost()
            self.below.writeConnectionLost()
            self.assertIs(self.end().outcome, Outcome.CLEAN)


class Late(Resource):
    """
    Is never done.
    """

    isLeaf = True

    def render(self, request: Any) -> Any:
        self.request = request
        return NOT_DONE_YET


class ExpectsTests(SynchronousTestCase):
    """
    Which of the known applications expect more.
    """

    def test_http(self) -> None:
        """
        HTTP/1.1 does while a request, or its body, is not complete.
        """
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        for sent, expects in (
            (b"", False),
            (head, True),
            (head + b"\r\n12", True),
            (head + b"\r\n1234", False),
        ):
            clock, peer = Clock(), Peer()
            site = Site(Late(), reactor=clock)
            factory = TerminatingFactory(site, clock=clock)  # type: ignore[arg-type]
            transports: list[Any] = []
            factory.connected = transports.append
            memoryPair(clock, factory.buildProtocol(None), peer)
            clock.pump([0] * 5)
            peer.transport.write(sent)
            clock.pump([0] * 5)
            (transport,) = transports
            found = conversationOf(transport.protocol)
            self.assertEqual(found.expectsMore(transport), expects, sent)
            transport.abortConnection()
            clock.pump([0] * 5)


class SocketTests(EndsTestCase):
    """
    On real sockets.
    """

    def serving(self, linger: str) -> Any:
        policy = TerminationPolicy(linger=linger, lingerIdle=20, lingerTime=20)

        def received(one: Any, data: bytes) -> None:
            one.transport.policy = policy
            one.transport.write(b"x" * 100_000)
            one.transport.loseConnection()

        return self.ended(received=received)

    @inlineCallbacks
    def test_nothingMore(self) -> Any:
        """
        With C{off} and C{on}, the end does not wait for a client that keeps its
        connection and has said all, and has all that was sent.
        """
        for kind in KINDS:
            for linger in ("off", "on"):
                factory = self.serving(linger)
                connect = yield self.serve(kind, factory)
                with (yield deferToThread(connect)) as client:
                    client.sendall(b"?")
                    got = yield deferToThread(receive, client)
                    self.assertEqual(got, (100_000, "FIN"))
                    report = yield self.report(factory)
                self.assertIs(report.outcome, Outcome.LINGER_EXPIRED, kind)
                self.assertLess(report.seconds[State.LINGERING], SECONDS / 2)

    @inlineCallbacks
    def test_unread(self) -> Any:
        """
        With C{on}, what the kernel has and nobody has read is a reason to linger,
        and the client is not reset.
        """
        for kind in ("tcp", "unix"):
            got: list[int] = []
            factory = self.serving("on")
            answer = factory.received

            def received(
                one: Any, data: bytes, answer: Any = answer, got: list[int] = got
            ) -> None:
                got.append(len(data))
                answer(one, data)

            factory.received = received
            # The first read finds more than it takes.
            factory.made = lambda one: (
                one.transport.pauseProducing(),
                reactor.callLater(0.3, one.transport.resumeProducing),
            )
            connect = yield self.serve(kind, factory)
            with (yield deferToThread(connect)) as client:
                yield deferToThread(client.sendall, bytes(100_000))
                yield deferToThread(client.recv, 1)
                yield deferToThread(client.sendall, bytes(3_000_000))
                client.shutdown(socket.SHUT_WR)
                answered = yield deferToThread(receive, client)
            self.assertEqual(answered, (99_999, "FIN"), kind)
            report = yield self.report(factory)
            self.assertIs(report.outcome, Outcome.CLEAN, kind)
            self.assertEqual(report.bytesDiscarded, 3_100_000 - got[0])
