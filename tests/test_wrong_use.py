"""
Wrong use fails where it is made, in one line that says what is allowed.
"""

from __future__ import annotations

from typing import Any, Callable

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.udp import Port
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import (
    DrainingService,
    TerminatingClientEndpoint,
    TerminatingServerEndpoint,
)

_ENDPOINT = "must be an endpoint, which has listen(); serverFromString(reactor, ...)"
_CLIENT = "must be an endpoint, which has connect(); clientFromString(reactor, ...)"
_FACTORY = "must be a factory, which has buildProtocol(); Factory.forProtocol(...)"


class WrongUseTests(SynchronousTestCase):
    """
    Each is one line.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.listening = TCP4ServerEndpoint(self.reactor, 1)
        self.factory = Factory.forProtocol(Protocol)

    def fails(
        self, error: type, part: str, wrong: Callable[..., object], *arguments: Any
    ) -> None:
        """
        It fails in one line, which has C{part}, and no older error behind it.
        """
        raised = self.assertRaises(error, wrong, *arguments)
        self.assertIn(part, str(raised))
        self.assertNotIn("\n", str(raised))
        self.assertTrue(raised.__cause__ is None or raised.__suppress_context__)

    def service(self, *arguments: Any, **more: Any) -> Callable[[], object]:
        return lambda: DrainingService(*arguments, reactor=self.reactor, **more)

    def endpoint(self, *arguments: Any, **more: Any) -> Callable[[], object]:
        return lambda: TerminatingServerEndpoint(
            *arguments, reactor=self.reactor, **more
        )

    def test_times(self) -> None:
        """
        Times, of the service and of the endpoint.
        """
        for make in (
            lambda **more: self.service(self.listening, self.factory, **more),
            lambda **more: self.endpoint(self.listening, **more),
        ):
            for error, name, value, said in (
                (
                    TypeError,
                    "drainTimeout",
                    "25",
                    "='25': must be a number of seconds,",
                ),
                (
                    TypeError,
                    "drainTimeout",
                    True,
                    "=True: must be a number of seconds,",
                ),
                (TypeError, "readinessDelay", None, "=None: must be a number of"),
                (TypeError, "readinessDelay", "1", "='1': must be a number of seconds"),
                (ValueError, "drainTimeout", -1, "=-1: must be 0 seconds or more"),
                (ValueError, "drainTimeout", float("nan"), "=nan: must be 0 seconds"),
                (
                    ValueError,
                    "readinessDelay",
                    float("inf"),
                    "=inf: must be 1000000000",
                ),
                (ValueError, "drainTimeout", 10**400, "must be 1000000000 seconds or"),
            ):
                self.fails(error, said, make(**{name: value}))

    def test_objects(self) -> None:
        """
        Endpoints, factories and policies that are none.
        """
        udp = Port(0, Protocol(), reactor=self.reactor)  # type: ignore[arg-type]
        for wrong in ("tcp:8080", udp, None, self.factory, TCP4ServerEndpoint):
            self.fails(TypeError, _ENDPOINT, self.service(wrong, self.factory))
            self.fails(TypeError, _ENDPOINT, self.endpoint(wrong))
        client = TCP4ClientEndpoint(self.reactor, "127.0.0.1", 1)
        for wrong in ("tcp:127.0.0.1:1", self.listening, Factory):
            self.fails(TypeError, _CLIENT, TerminatingClientEndpoint, wrong)
        for wrong in (Protocol, Factory, "factory", self.listening, None):
            listens = TerminatingServerEndpoint(self.listening, reactor=self.reactor)
            connects = TerminatingClientEndpoint(client)
            self.fails(TypeError, _FACTORY, self.service(self.listening, wrong))
            self.fails(TypeError, _FACTORY, listens.listen, wrong)
            self.fails(TypeError, _FACTORY, connects.connect, wrong)
        wrong = {"lingerTime": 1}
        said = "policy={'lingerTime': 1}: must be a TerminationPolicy, or None"
        self.fails(TypeError, said, self.service(self.listening, self.factory, wrong))
        self.fails(TypeError, said, self.endpoint(self.listening, wrong))
        self.fails(TypeError, said, TerminatingClientEndpoint, client, wrong)

    def test_swapped(self) -> None:
        """
        Factory and endpoint in the wrong order.
        """
        self.fails(TypeError, _ENDPOINT, self.service(self.factory, self.listening))

    def test_laterEndpoint(self) -> None:
        """
        C{addEndpoint} asks the same.
        """
        service = DrainingService(self.listening, self.factory, reactor=self.reactor)
        self.fails(TypeError, _ENDPOINT, service.addEndpoint, "tcp:1", self.factory)
        self.fails(TypeError, _FACTORY, service.addEndpoint, self.listening, Protocol)

    def test_strings(self) -> None:
        """
        Options of C{term:}.
        """
        names = (
            "term: takes flushTimeout, workTimeout, lingerTime, lingerIdle, "
            "lingerBytes, halfCloseIdle, handshakeTimeout, drainTimeout, "
            "readinessDelay, onSignal"
        )
        for text, said in (
            ("tcp:1:lingerTimes=1", names),
            ("tcp:1:drainTimeout=soon", "drainTimeout='soon': must be a number of"),
            ("tcp:1:readinessDelay=none", "readinessDelay='none': must be a number"),
            ("tcp:1:readinessDelay=-1", "readinessDelay=-1.0: must be"),
            ("tcp:1:onSignal=maybe", "onSignal='maybe': must be yes or no"),
        ):
            wrong = f"term:{text}"
            self.fails(ValueError, said, serverFromString, self.reactor, wrong)
        for text, said in (
            ("drainTimeout=1", "drainTimeout='1': a client is not drained"),
            ("readinessDelay=1", "readinessDelay='1': a client is not drained"),
            ("onSignal=no", "onSignal='no': a client is not drained"),
        ):
            wrong = f"term:tcp:127.0.0.1:1:{text}"
            self.fails(ValueError, said, clientFromString, self.reactor, wrong)

    def test_right(self) -> None:
        """
        What is right is taken.
        """
        text = "term:tcp:1:readinessDelay=2.5:drainTimeout=none:onSignal=no"
        made: Any = serverFromString(self.reactor, text)
        self.assertEqual(
            (made.readinessDelay, made.drainTimeout, made.onSignal), (2.5, None, False)
        )
        made = serverFromString(self.reactor, "term:tcp:1")
        self.assertEqual(
            (made.readinessDelay, made.drainTimeout, made.onSignal), (0, 25, True)
        )
