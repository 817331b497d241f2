"""
Every way to put the termination in: mixin, factory, endpoint, endpoint string.
"""

from __future__ import annotations

from typing import Any, Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from twisted_term import (
    Outcome,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.connection.transport import TerminatingTransport
from twisted_term.interfaces import IHold, ITerminableTransport, ITerminationListener
from twisted_term.strings import TermParser

from .support import SocketTestCase

_SIZE = 1_000_000
_FIRST = TerminationPolicy(lingerTime=11)
_SECOND = TerminationPolicy(lingerTime=22)


class Answer(LineReceiver):
    """
    Answers a line, and closes.
    """

    delimiter = b"\n"
    factory: Any

    def connectionMade(self) -> None:
        self.factory.note(self)

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(b"a" * _SIZE)
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(reason)


class MixedAnswer(TerminationMixin, Answer):
    """
    The same with the mixin.
    """

    def terminated(self, report: Any) -> None:
        self.factory.reports.append(report)


class PolicyAnswer(MixedAnswer):
    """
    Has a policy of its own.
    """

    terminationPolicy = TerminationPolicy(lingerTime=33)


class Ask(Protocol):
    """
    Sends a line, and receives until the end.
    """

    factory: Any
    header = b""
    count = 0

    def connectionMade(self) -> None:
        self.factory.note(self)
        self.transport.write(self.header + b"go\n")

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(reason)


class ProxyAsk(Ask):
    """
    Puts HAProxy's header first.
    """

    header = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"


class MixedAsk(TerminationMixin, Ask):
    """
    The same with the mixin.
    """

    def terminated(self, report: Any) -> None:
        self.factory.reports.append(report)


class Counting(Factory):
    """
    Counts what Twisted and its protocol tell it.
    """

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.calls: list[str] = []
        self.made: list[Any] = []
        self.transports: list[Any] = []
        self.policies: list[Any] = []
        self.lost: list[Any] = []
        self.reports: list[Any] = []

    def startFactory(self) -> None:
        self.calls.append("start")

    def stopFactory(self) -> None:
        self.calls.append("stop")

    def note(self, protocol: Any) -> None:
        """
        A connection is made.
        """
        transport = protocol.transport
        self.made.append(protocol)
        self.transports.append(transport)
        self.policies.append(getattr(transport, "policy", None))


class RefusingFactory(Counting):
    """
    Wants no connection.
    """

    def buildProtocol(self, addr: Any) -> None:
        self.calls.append("build")


def same(thing: Any) -> Any:
    """
    Wraps nothing.
    """
    return thing


def twice(factory: Any) -> TerminatingFactory:
    """
    Wraps a factory twice, the second time with another policy.
    """
    return TerminatingFactory(TerminatingFactory(factory, _FIRST), _SECOND)


def serverEndpoint() -> TCP4ServerEndpoint:
    return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")


def clientEndpoint(port: int) -> TCP4ClientEndpoint:
    return TCP4ClientEndpoint(reactor, "127.0.0.1", port)


class WrappingTests(SocketTestCase):
    """
    A server and a client in this process, over TCP.
    """

    @inlineCallbacks
    def exchange(
        self,
        server: Counting,
        client: Counting,
        listening: Any = None,
        connecting: Callable[[int], Any] = clientEndpoint,
        wrapServer: Callable[[Any], Any] = same,
        wrapClient: Callable[[Any], Any] = same,
    ) -> Any:
        """
        Ask once, and return what C{connect()}'s Deferred fires with.
        """
        listening = listening or serverEndpoint()
        port = yield listening.listen(wrapServer(server))
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        connected = yield connecting(number).connect(wrapClient(client))
        (asking,) = client.made
        try:
            yield self.until(lambda: server.lost and client.lost)
        finally:
            asking.transport.abortConnection()
            yield deferLater(reactor, 0)
        self.assertEqual(asking.count, _SIZE)
        yield port.stopListening()
        self.assertEqual(server.calls, ["start", "stop"])
        self.assertEqual(client.calls, ["start", "stop"])
        self.assertEqual((len(server.lost), len(client.lost)), (1, 1))
        return connected

    def check(self, factory: Counting, policy: TerminationPolicy) -> None:
        """
        The connection was wrapped once, and told of its end once.
        """
        (protocol,), (transport,) = factory.made, factory.transports
        self.assertIsInstance(transport, TerminatingTransport)
        self.assertNotIsInstance(transport.wrapped, TerminatingTransport)
        self.assertEqual(factory.policies, [policy])
        if isinstance(protocol, TerminationMixin):
            (report,) = factory.reports
            self.assertIs(report.outcome, Outcome.CLEAN)
            self.assertIs(report.delivered, True)
        else:
            self.assertEqual(factory.lost[0].type, ConnectionDone)

    @inlineCallbacks
    def test_mixin(self) -> Any:
        """
        On a plain server and a plain client the mixin is all that is needed.
        """
        server, client = Counting(MixedAnswer), Counting(Ask)
        yield self.exchange(server, client)
        self.check(server, TerminationPolicy())
        server, client = Counting(Answer), Counting(MixedAsk)
        connected = yield self.exchange(server, client)
        self.check(client, TerminationPolicy())
        self.assertIs(connected, client.made[0])

    @inlineCallbacks
    def test_mixinPolicy(self) -> Any:
        """
        The mixin's own policy counts, also in a wrapped factory, whose policy
        counts without one.
        """
        own = PolicyAnswer.terminationPolicy
        for protocol, wrap, policy in (
            (PolicyAnswer, same, own),
            (PolicyAnswer, lambda inner: TerminatingFactory(inner, _FIRST), own),
            (MixedAnswer, lambda inner: TerminatingFactory(inner, _FIRST), _FIRST),
        ):
            server = Counting(protocol)
            yield self.exchange(server, Counting(Ask), wrapServer=wrap)
            self.check(server, policy)

    @inlineCallbacks
    def test_factory(self) -> Any:
        """
        A wrapped factory's protocols need know nothing of it, and may.
        """
        for protocol in (Answer, MixedAnswer):
            server = Counting(protocol)
            yield self.exchange(server, Counting(Ask), wrapServer=TerminatingFactory)
            self.check(server, TerminationPolicy())

    @inlineCallbacks
    def test_factoryTwice(self) -> Any:
        """
        Wrapping a factory again changes nothing, the policy included.
        """
        for protocol in (Answer, MixedAnswer):
            server = Counting(protocol)
            yield self.exchange(server, Counting(Ask), wrapServer=twice)
            self.check(server, _FIRST)

    @inlineCallbacks
    def test_endpoints(self) -> Any:
        """
        The protocols of a wrapped endpoint's factory need know nothing of it,
        and C{connect()} gives the application its own protocol.
        """
        server, client = Counting(Answer), Counting(Ask)
        connected = yield self.exchange(
            server,
            client,
            TerminatingServerEndpoint(serverEndpoint(), _FIRST),
            lambda port: TerminatingClientEndpoint(clientEndpoint(port), _SECOND),
        )
        self.check(server, _FIRST)
        self.check(client, _SECOND)
        self.assertIs(connected, client.made[0])

    @inlineCallbacks
    def test_endpointsTwice(self) -> Any:
        """
        Wrapping an endpoint again changes nothing.
        """
        server, client = Counting(MixedAnswer), Counting(MixedAsk)
        listening = TerminatingServerEndpoint(serverEndpoint(), _FIRST)
        connected = yield self.exchange(
            server,
            client,
            TerminatingServerEndpoint(listening, _SECOND),
            lambda port: TerminatingClientEndpoint(
                TerminatingClientEndpoint(clientEndpoint(port), _SECOND), _FIRST
            ),
        )
        self.check(server, _FIRST)
        self.check(client, _SECOND)
        self.assertIs(connected, client.made[0])

    @inlineCallbacks
    def test_factoryInEndpoint(self) -> Any:
        """
        A wrapped factory in a wrapped endpoint is not wrapped again.
        """

        def wrap(factory: Any) -> TerminatingFactory:
            return TerminatingFactory(factory, _FIRST)

        server, client = Counting(Answer), Counting(Ask)
        connected = yield self.exchange(
            server,
            client,
            TerminatingServerEndpoint(serverEndpoint(), _SECOND),
            lambda port: TerminatingClientEndpoint(clientEndpoint(port), _SECOND),
            wrap,
            wrap,
        )
        self.check(server, _FIRST)
        self.check(client, _FIRST)
        self.assertIs(connected, client.made[0])

    @inlineCallbacks
    def test_strings(self) -> Any:
        """
        Endpoint strings do the same, for servers and clients.
        """
        for prefix in ("term:", "term:term:", "term:lingerTime=11:term:"):
            server, client = Counting(Answer), Counting(MixedAsk)
            connected = yield self.exchange(
                server,
                client,
                serverFromString(reactor, prefix + "tcp:0:interface=127.0.0.1"),
                lambda port, prefix=prefix: clientFromString(
                    reactor, f"{prefix}tcp:127.0.0.1:{port}"
                ),
            )
            policy = _FIRST if "=" in prefix else TerminationPolicy()
            self.check(server, policy)
            self.check(client, policy)
            self.assertIs(connected, client.made[0])

    @inlineCallbacks
    def test_inWrapper(self) -> Any:
        """
        C{term:} may stand inside of another wrapper.
        """
        for protocol in (Answer, MixedAnswer):
            server = Counting(protocol)
            inside = serverFromString(
                reactor, "haproxy:term:tcp:0:interface=127.0.0.1:lingerTime=11"
            )
            yield self.exchange(server, Counting(ProxyAsk), inside)
            (transport,) = server.transports
            self.assertTrue(ITerminableTransport.providedBy(transport))
            self.assertEqual(server.policies, [_FIRST])

    @inlineCallbacks
    def test_aroundWrapper(self) -> Any:
        """
        C{term:} may stand around another wrapper.
        """
        self.patience = 1
        server = Counting(Answer)
        around = serverFromString(reactor, "term:haproxy:tcp:0:interface=127.0.0.1")
        yield self.exchange(server, Counting(ProxyAsk), around)
        self.check(server, TerminationPolicy())

    @inlineCallbacks
    def test_mixinInWrapper(self) -> Any:
        """
        The mixin works in a factory that Twisted's own C{WrappingFactory}
        wraps.
        """
        server = Counting(MixedAnswer)
        yield self.exchange(server, Counting(Ask), wrapServer=WrappingFactory)
        self.check(server, TerminationPolicy())

    @inlineCallbacks
    def test_aroundAndInWrapper(self) -> Any:
        """
        C{term:} around a wrapper around C{term:}: the outer one counts, and
        the application is told of the end, and how it came.
        """
        for protocol in (Answer, MixedAnswer):
            server = Counting(protocol)
            both = serverFromString(
                reactor, "term:haproxy:term:tcp:0:interface=127.0.0.1"
            )
            yield self.exchange(server, Counting(ProxyAsk), both)
            self.assertEqual(len(server.reports), protocol is MixedAnswer)

    @inlineCallbacks
    def test_refused(self) -> Any:
        """
        A factory that builds no protocol refuses the connection.
        """
        server, client = RefusingFactory(Answer), Counting(Ask)
        port = yield TerminatingServerEndpoint(serverEndpoint()).listen(server)
        self.addCleanup(port.stopListening)
        yield clientEndpoint(port.getHost().port).connect(client)
        yield self.until(lambda: client.lost)
        self.assertEqual(client.made[0].count, 0)
        yield port.stopListening()
        self.assertEqual(server.calls, ["start", "build", "stop"])

    @inlineCallbacks
    def test_clientRefuses(self) -> Any:
        """
        A client's factory that builds no protocol is the same error as with
        a plain endpoint.
        """
        server = Counting(Answer)
        port = yield serverEndpoint().listen(server)
        self.addCleanup(port.stopListening)
        plain = clientEndpoint(port.getHost().port)
        errors = []
        for endpoint in (plain, TerminatingClientEndpoint(plain)):
            failed = endpoint.connect(RefusingFactory(Ask))
            error = yield self.assertFailure(failed, Exception)
            errors.append(repr(error))
        self.assertEqual(errors[0], errors[1])
        yield self.until(lambda: len(server.lost) == 2)

    @inlineCallbacks
    def test_unreachable(self) -> Any:
        """
        A connection that fails fails as it does with a plain endpoint.
        """
        port = yield serverEndpoint().listen(Counting(Answer))
        plain = clientEndpoint(port.getHost().port)
        yield port.stopListening()
        errors = []
        for endpoint in (plain, TerminatingClientEndpoint(plain)):
            client = Counting(Ask)
            error = yield self.assertFailure(endpoint.connect(client), Exception)
            errors.append(repr(error))
            yield self.until(lambda client=client: len(client.calls) > 1)
            self.assertEqual(client.calls, ["start", "stop"])
        self.assertEqual(errors[0], errors[1])

    @inlineCallbacks
    def test_interfaces(self) -> Any:
        """
        What a wrapped transport provides, it has; nothing of TCP is missing.
        """
        provided: list[Any] = []

        class Verifying(MixedAnswer):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                for interface in providedBy(transport).flattened():
                    verifyObject(interface, transport)
                    provided.append(interface)
                with transport.hold() as hold:
                    verifyObject(IHold, hold)
                verifyObject(ITerminationListener, self)
                verifyObject(IProtocol, transport.wrapped.protocol)
                verifyObject(IHalfCloseableProtocol, transport.wrapped.protocol)
                super().connectionMade()

        yield self.exchange(Counting(Verifying), Counting(Ask))
        for interface in (
            IConsumer,
            IHalfCloseableDescriptor,
            IPushProducer,
            ISystemHandle,
            ITCPTransport,
            ITerminableTransport,
        ):
            self.assertIn(interface, provided)

    @inlineCallbacks
    def test_logPrefix(self) -> Any:
        """
        The log knows the application's protocol, not what is around it.
        """
        prefixes: list[str] = []

        class Prefixed(Answer):
            def logPrefix(self) -> str:
                return "mine"

            def connectionMade(self) -> None:
                prefixes.append(self.transport.logPrefix())
                gate = self.transport.wrapped.protocol
                prefixes.append(gate.logPrefix())
                super().connectionMade()

        server = Counting(Prefixed)
        yield self.exchange(server, Counting(Ask), wrapServer=TerminatingFactory)
        self.assertEqual(prefixes[1], "mine")
        self.assertTrue(prefixes[0].startswith("mine,"), prefixes[0])


class StringTests(SynchronousTestCase):
    """
    The grammar of C{term:}.
    """

    def test_escapes(self) -> None:
        """
        What is escaped in the inner description stays so.
        """
        memory = MemoryReactorClock()
        for path in ("/a:b", "/a=b", "/a\\b", "/\\:=\\", "lingerTime=1", "term"):
            escaped = path
            for character in "\\:=":
                escaped = escaped.replace(character, "\\" + character)
            server: Any = serverFromString(
                memory, f"term:lingerTime=11:unix:{escaped}:mode=660"
            )
            self.assertEqual(server.endpoint._address, path)
            self.assertEqual(server.endpoint._mode, 0o660)
            self.assertEqual(server.policy, _FIRST)
            client: Any = clientFromString(
                memory, f"term:unix:path={escaped}:timeout=9:lingerTime=11"
            )
            self.assertEqual(client.endpoint._path, path)
            self.assertEqual(client.endpoint._timeout, 9)
            self.assertEqual(client.policy, _FIRST)

    def test_anywhere(self) -> None:
        """
        The policy's options may stand anywhere, and be escaped themselves.
        """
        for description in (
            "term:tcp:80:interface=\\:\\:1:lingerTime=11",
            "term:lingerTime=11:tcp:80:interface=\\:\\:1",
            "term:tcp:lingerTime=11:80:interface=\\:\\:1",
            "term:term:tcp:80:linger\\Time=1\\1:interface=\\:\\:1",
        ):
            server: Any = serverFromString(MemoryReactorClock(), description)
            self.assertEqual(server.policy, _FIRST)
            self.assertEqual(server.endpoint._interface, "::1")
            self.assertEqual(server.endpoint._port, 80)

    def test_otherParser(self) -> None:
        """
        The inner description may be another plugin's.
        """
        memory = MemoryReactorClock()
        server: Any = serverFromString(memory, "term:haproxy:tcp:80:lingerTime=11")
        self.assertEqual(server.endpoint._wrappedEndpoint._port, 80)
        self.assertEqual(server.policy, _FIRST)

    def test_interfaces(self) -> None:
        """
        Parser and endpoints provide what they say.
        """
        memory = MemoryReactorClock()
        for interface, thing in (
            (IStreamServerEndpoint, serverFromString(memory, "term:tcp:1")),
            (IStreamClientEndpoint, clientFromString(memory, "term:tcp:127.0.0.1:1")),
            (IPlugin, TermParser()),
            (IStreamServerEndpointStringParser, TermParser()),
            (IStreamClientEndpointStringParserWithReactor, TermParser()),
        ):
            self.assertTrue(verifyObject(interface, thing))


class DeferredTests(SynchronousTestCase):
    """
    A client endpoint's Deferred.
    """

    def test_cancel(self) -> None:
        """
        Cancelling it cancels the attempt.
        """
        cancelled: list[Any] = []

        class Pending:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred(cancelled.append)

        connecting = TerminatingClientEndpoint(Pending()).connect(Factory())
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertEqual(len(cancelled), 1)
