"""
Wrong use fails where it is made, in one line that says what is allowed.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Callable

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.protocol import (
    ConnectedDatagramProtocol,
    DatagramProtocol,
    Factory,
    Protocol,
)
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.udp import Port
from twisted.protocols.amp import AMP
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from twisted_term import (
    DrainingService,
    ITerminableTransport,
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminatingServerEndpoint,
    TerminatingTransport,
    TerminationMixin,
    TerminationPolicy,
)
from twisted_term.web import ReadinessResource

from .processes import TWISTD
from .support import SECONDS, once

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

    def test_mixin(self) -> None:
        """
        A class that has the mixin behind its protocol, which then is served without
        any protection; one for datagrams; and a policy that is none.
        """

        def made(*bases: type, **contents: Any) -> Callable[[], object]:
            return lambda: type("Wrong", bases, contents)

        behind = "class Wrong: TerminationMixin must come before the protocol: class "
        for protocol in (LineReceiver, Protocol, HTTPChannel, AMP):
            said = f"{behind}Wrong(TerminationMixin, {protocol.__name__})"
            self.fails(TypeError, said, made(protocol, TerminationMixin))
        for protocol in (DatagramProtocol, ConnectedDatagramProtocol):
            for bases in ((TerminationMixin, protocol), (protocol, TerminationMixin)):
                self.fails(TypeError, "is for protocols on streams", made(*bases))
        self.fails(
            TypeError,
            "class Wrong: terminationPolicy={'lingerTime': 1}: must be a Termination",
            made(TerminationMixin, Protocol, terminationPolicy={"lingerTime": 1}),
        )

    def test_rightMixin(self) -> None:
        """
        What stands before the mixin may be no protocol, and a protocol that calls
        what comes after it.
        """

        class Logging:
            def makeConnection(self, transport: Any) -> None:
                super().makeConnection(transport)  # type: ignore[misc]

        class Part(Logging, TerminationMixin):
            pass

        class Whole(Part, LineReceiver):
            @property
            def terminationPolicy(self) -> Any:
                return TerminationPolicy()

        class Terminating(TerminationMixin, Protocol):
            pass

        class Lines(LineReceiver, Terminating):
            pass

        for right in (Whole, Lines):
            protocol = right()
            protocol.makeConnection(StringTransport())
            self.assertTrue(ITerminableTransport.providedBy(protocol.transport))

    def test_factory(self) -> None:
        """
        L{TerminatingFactory}.
        """
        said = "wrappedFactory=<class 'twisted.internet.protocol.Protocol'>: must be"
        self.fails(TypeError, said, TerminatingFactory, Protocol)
        self.fails(TypeError, "policy=5: must be", TerminatingFactory, self.factory, 5)
        policy = TerminationPolicy()
        self.fails(
            TypeError, "must be a factory", TerminatingFactory, policy, Factory()
        )

    def test_transport(self) -> None:
        """
        What the transport is given.
        """
        protocol = Protocol()
        transport = TerminatingTransport(StringTransport(), protocol)
        self.fails(TypeError, "deferred=b'x': must be a", transport.track, b"x")
        self.fails(TypeError, "timeout='10': must be", transport.terminate, "10")
        self.fails(ValueError, "timeout=-1: must be", transport.terminate, -1)
        for wrong in (None, {"lingerTime": 1}):
            said = f"policy={wrong!r}: must be a TerminationPolicy"
            self.fails(TypeError, said, setattr, transport, "policy", wrong)

    def test_flag(self) -> None:
        """
        C{onSignal} as text, which would be true whatever it says.
        """
        said = "onSignal='no': must be True or False"
        for make in (
            self.service(self.listening, self.factory, onSignal="no"),
            self.endpoint(self.listening, onSignal="no"),
        ):
            self.fails(TypeError, said, make)

    def test_readiness(self) -> None:
        """
        A value in the place of a function.
        """
        said = "ready=True: must be a function that says"
        self.fails(TypeError, said, ReadinessResource, True)

    def test_unknownOption(self) -> None:
        """
        An option that is misspelt: the line says which one was meant.
        """
        said = (
            "'tcp:8080:lingerTimes=5': there is no option lingerTimes, did you mean"
            " lingerTime?; term: takes flushTimeout,"
        )
        wrong = "term:tcp:8080:lingerTimes=5"
        self.fails(ValueError, said, serverFromString, self.reactor, wrong)
        self.fails(ValueError, said, clientFromString, self.reactor, wrong)

    def test_twice(self) -> None:
        """
        An option that is given twice, of C{term:} or of what is inside.
        """
        for text, name in (
            ("term:tcp:1:lingerTime=5:lingerTime=5", "lingerTime"),
            ("term:tcp:1:backlog=1:drainTimeout=1:backlog=2", "backlog"),
        ):
            said = f"{text!r}: {name} is given twice"
            self.fails(ValueError, said, serverFromString, self.reactor, text)
            self.fails(ValueError, said, clientFromString, self.reactor, text)
        # An escaped colon or equals sign is no separator.
        right = "term:unix:/a\\:lingerTime\\=1:lingerTime=2:mode=600"
        made: Any = serverFromString(self.reactor, right)
        self.assertEqual(made.policy.lingerTime, 2)

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
            "lingerBytes, halfCloseIdle, closeTimeout, handshakeTimeout, linger, "
            "peerFin, goodbye, drainTimeout, readinessDelay, onSignal"
        )
        for text, said in (
            ("tcp:1:lingerTimes=1", names),
            ("tcp:1:drainTimeout=soon", "drainTimeout='soon': must be a number of"),
            ("tcp:1:readinessDelay=none", "readinessDelay='none': must be a number"),
            ("tcp:1:readinessDelay=-1", "readinessDelay=-1.0: must be"),
            ("tcp:1:goodbye=1012", "goodbye='1012': must be going-away or restart"),
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


_THREAD = """
from twisted.internet import reactor, threads
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted_term import TerminatingTransport

transport = TerminatingTransport(StringTransport(), Protocol())
hold = transport.hold()

def wrong():
    for call in (
        lambda: transport.write(b"x"),
        transport.loseConnection,
        transport.hold,
        hold.release,
    ):
        try:
            call()
        except RuntimeError as error:
            print(error)

def right():
    transport.write(b"from the reactor's thread")
    hold.release()
    print("right")
    reactor.stop()

threads.deferToThread(wrong).addCallback(lambda _: right())
reactor.run()
"""
_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "OpenSSL":
            raise ModuleNotFoundError("No module named 'OpenSSL'", name=name)

sys.meta_path.insert(0, Missing())
for name in [*sys.modules]:  # what is imported as Python starts, by coverage perhaps
    if name.split(".")[0] in ("OpenSSL", "twisted"):
        del sys.modules[name]
from twisted.internet import endpoints, reactor
for parse in (endpoints.serverFromString, endpoints.clientFromString):
    try:
        parse(reactor, "term:ssl:localhost:8443")
    except ValueError as error:
        print(error)
"""


@once
class ProcessTests(SynchronousTestCase):
    """
    What a user sees of it.
    """

    def run_(self, *command: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def test_commands(self) -> None:
        """
        C{twistd} and C{twist} end with one line, and no traceback.
        """
        wrong = ("web", "--path=.", "--listen=term:tcp:8080:lingerTimes=5")
        for command in (TWISTD[1:], ("-m", "twisted")):
            code, _, said = self.run_(*command, *wrong)
            last = said.rstrip().splitlines()[-1]
            self.assertEqual(code, 1)
            start = "'tcp:8080:lingerTimes=5': there is no option lingerTimes, did you"
            self.assertTrue(last.startswith(start), said)
            self.assertNotIn("Traceback", said)

    def test_thread(self) -> None:
        """
        With C{python -X dev} a call from another thread is an error that says what
        to do.
        """
        code, said, errors = self.run_("-X", "dev", "-c", _THREAD)
        lines = said.splitlines()
        self.assertEqual((code, len(lines), lines[-1:]), (0, 5, ["right"]), errors)
        names = ("write", "loseConnection", "hold", "release")
        for name, line in zip(names, lines):
            self.assertIn(f".{name}() was called in the thread 'PoolThread-", line)
            self.assertTrue(line.endswith("use reactor.callFromThread"), line)

    def test_noThread(self) -> None:
        """
        Without it nobody looks.
        """
        code, said, errors = self.run_("-c", _THREAD)
        self.assertEqual((code, said), (0, "right\n"), errors)

    def test_extra(self) -> None:
        """
        Where TLS is missing, the line names what to install.
        """
        code, said, errors = self.run_("-c", _WITHOUT)
        line = (
            "'ssl:localhost:8443': TLS needs more libraries: pip install"
            " 'twisted[tls]'\n"
        )
        self.assertEqual((code, said), (0, 2 * line), errors)
