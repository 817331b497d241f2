"""
Signals: which one is meant, what runs in which order, and what systemd hears of
the process.  Real processes, and a reactor that does what the test says.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
import weakref
from typing import Any, Callable
from unittest import skipIf

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

import twisted
from twisted_term import DrainingService, TerminatingServerEndpoint
from twisted_term.drain import notify
from twisted_term.drain.drainer import Drainer
from twisted_term.drain.signals import SignalDrain, drainAtShutdown, signalDrain

from .processes import (
    LISTEN,
    TERMSERVER,
    TWISTD,
    Server,
    connect,
    environment,
    receiveAll,
)
from .support import SECONDS

_OLD = twisted.version.major < 25

#: A server whose clients receive until the application closes them, which it
#: does in a trigger before shutdown.
_ENDLESS = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.python.log import startLogging

startLogging(sys.stdout)
live = set()

class Endless(Protocol):
    def connectionMade(self):
        live.add(self)
        self.hold = self.transport.hold()
        self.transport.write(b"x")

    def end(self):
        self.transport.write(b"bye")
        self.hold.release()
        self.transport.loseConnection()

    def connectionLost(self, reason):
        live.discard(self)

def stop():
    for one in list(live):
        one.end()

reactor.addSystemEventTrigger("before", "shutdown", stop)
listen = "term:tcp:0:interface=127.0.0.1:" + sys.argv[1]
serverFromString(reactor, listen).listen(Factory.forProtocol(Endless))
reactor.run()
"""
#: A port that is stopped and listens again; it answers late.
_RESTARTED = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.log import startLogging

startLogging(sys.stdout)

class Late(Protocol):
    def dataReceived(self, data):
        print("asked", flush=True)
        answer = deferLater(reactor, 1, self.transport.write, b"answer")
        self.transport.track(answer)

def listening(port):
    stopped = port.stopListening()
    stopped.addCallback(lambda _: deferLater(reactor, 0))
    stopped.addCallback(lambda _: port.startListening())
    stopped.addCallback(lambda _: print("again on", port.getHost().port, flush=True))

endpoint = serverFromString(reactor, "term:tcp:0:interface=127.0.0.1")
endpoint.listen(Factory.forProtocol(Late)).addCallback(listening)
reactor.run()
"""
#: A server that closes the socket of its first connection behind our back; all
#: connections have work in flight that never ends.
_CLOSED = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.python.log import startLogging

startLogging(sys.stdout)
first = []

class Held(Protocol):
    def connectionMade(self):
        self.hold = self.transport.hold()
        first.append(self)

    def dataReceived(self, data):
        getattr(first[0].transport.getHandle(), sys.argv[1])()
        self.transport.write(b"done")

listen = "term:tcp:0:interface=127.0.0.1:drainTimeout=1"
serverFromString(reactor, listen).listen(Factory.forProtocol(Held))
reactor.run()
"""


class ProcessTests(SynchronousTestCase):
    """
    Signals to real processes.
    """

    def test_secondInDelay(self) -> None:
        """
        A second signal in C{readinessDelay} resets the connections, and none is
        accepted any more: the process ends.
        """
        server = Server(self, (*TERMSERVER, LISTEN, "--readiness-delay=600"))
        port = server.port()
        client = connect(port, b"ECHO x\n")
        client.recv(2)
        server.terminate()
        server.wait(r"listening for 59\d s more\n(?s:.*)listening for")
        connect(port).close()  # it does still listen
        server.terminate()
        self.assertEqual(receiveAll([client]), [(b"", "RST")])
        self.assertEqual(server.end(), 0)
        self.assertRaises(ConnectionRefusedError, connect, port)

    def test_repeated(self) -> None:
        """
        A signal that follows the first one at once, as from a process manager
        that passes on what the terminal has sent to all, is no second one.
        """
        server = Server(self, (*TERMSERVER, LISTEN))
        client = connect(server.port(), b"ECHO x\nWAIT 1\n")
        client.recv(2)
        server.terminate()
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(receiveAll([client]), [(b"DONE\n", "FIN")])
        self.assertEqual(server.end(), 0)

    def test_restarted(self) -> None:
        """
        A port of C{term:} that was stopped and listens again is drained.
        """
        server = Server(self, (sys.executable, "-c", _RESTARTED))
        client = connect(int(server.wait(r"again on (\d+)")[1]), b"?")
        server.wait("asked")
        server.terminate()
        ((data, end),) = receiveAll([client])
        self.assertEqual((data, end), (b"answer", "FIN"))
        self.assertEqual(server.end(), 0)

    def test_closedSocket(self) -> None:
        """
        A connection whose socket the application has closed, or taken away,
        keeps neither the others from being reset nor the process.
        """
        for method in ("close", "detach"):
            server = Server(self, (sys.executable, "-c", _CLOSED, method))
            port = int(server.wait(r"starting on (\d+)")[1])
            with connect(port):
                others = [connect(port), connect(port, b"?")]
                self.assertEqual(others[1].recv(9), b"done")
                server.terminate()
                self.assertEqual(receiveAll(others), [(b"", "RST")] * 2)
                self.assertEqual(server.end(), 0)
            self.assertRegex(server.log, r"drained [23] connections")

    def order(self, option: str) -> tuple[bytes, str]:
        """
        What a client of an endless response sees of SIGTERM.
        """
        server = Server(self, (sys.executable, "-c", _ENDLESS, option))
        client = connect(int(server.wait(r"starting on (\d+)")[1]))
        client.recv(1)
        server.terminate()
        (result,) = receiveAll([client])
        self.assertEqual(server.end(), 0)
        return result

    def test_drainFirst(self) -> None:
        """
        What closes its connections before shutdown is not asked before the
        drain is over: here at its deadline.
        """
        self.assertEqual(self.order("drainTimeout=1"), (b"", "RST"))

    def test_stopFirst(self) -> None:
        """
        With C{onSignal=no} it is asked at once, and the drain waits for it.
        """
        self.assertEqual(self.order("drainTimeout=600:onSignal=no"), (b"bye", "FIN"))

    def test_readinessDelay(self) -> None:
        """
        C{term:} alone goes on listening for C{readinessDelay}.
        """
        listen = "term:tcp:0:interface=127.0.0.1:readinessDelay=3"
        server = Server(self, (*TWISTD, "web", "--listen", listen, "--path=."))
        port = server.port()
        request = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
        idle = connect(port, request)
        idle.recv(1, socket.MSG_PEEK)
        server.terminate()
        server.wait("listening for 3 s more")
        late = connect(port, request)
        for data, end in receiveAll([idle, late]):
            self.assertTrue(data.startswith(b"HTTP/1.1 404 "), data)
            self.assertEqual(end, "FIN")
        self.assertEqual(server.end(), 0)

    def test_ready(self) -> None:
        """
        C{READY=1} and C{STOPPING=1} come, once each, for C{term:} alone.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        address = tempfile.mkdtemp() + "/notify"
        listener.bind(address)
        listener.settimeout(SECONDS)
        server = Server(
            self,
            (*TWISTD, "web", "--listen", "term:tcp:0:interface=127.0.0.1", "--path=."),
            env=environment(NOTIFY_SOCKET=address),
        )
        self.assertEqual(listener.recv(1000), b"READY=1")
        server.port()
        server.terminate()
        self.assertEqual(server.end(), 0)
        listener.setblocking(False)
        said = []
        while True:
            try:
                said.append(listener.recv(1000).decode())
            except BlockingIOError:
                break
        self.assertEqual(said[0], "STOPPING=1")
        self.assertRegex(said[-1], "^STATUS=drained ")
        self.assertEqual(said.count("STOPPING=1"), 1)
        self.assertNotIn("READY=1", said)


class Reactor(MemoryReactorClock):
    """
    Has handlers for signals, and stops when it is told.
    """

    stopped = 0

    def handler(self, number: int, frame: object) -> None:
        raise AssertionError("the reactor's own")

    def callFromThread(self, what: Callable[..., object], *args: Any) -> None:
        self.callLater(0, what, *args)

    def stop(self) -> None:
        self.stopped += 1

    def addSystemEventTrigger(self, *trigger: Any) -> Any:
        super().addSystemEventTrigger(*trigger)
        return self.triggers["before"]["shutdown"][-1]

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers["before"]["shutdown"].remove(trigger)

    def shutDown(self) -> None:
        """
        What comes before.
        """
        for what, args, kwargs in list(self.triggers["before"]["shutdown"]):
            what(*args, **kwargs)


class Port:
    """
    Listens to nothing.
    """

    def startListening(self) -> None:
        pass

    def stopListening(self) -> None:
        pass


class Drained:
    """
    Drains when the test says so.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.draining: Deferred[Any] = Deferred()

    def drain(self) -> Deferred[Any]:
        self.calls.append("drain")
        return self.draining

    def abort(self) -> None:
        self.calls.append("abort")


class SignalTests(SynchronousTestCase):
    """
    Signals to this process, with a reactor that does what the test says.
    """

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, self.reactor.handler)
        self.signals = SignalDrain(self.reactor)
        self.reactor.running = True

    def running(self, drained: Any, first: bool = True) -> None:
        self.signals.add(drained, first)
        for what, args, kwargs in self.reactor.whenRunningHooks:
            what(*args, **kwargs)
        self.reactor.whenRunningHooks = []

    def kill(self, number: int = signal.SIGTERM) -> None:
        os.kill(os.getpid(), number)
        self.reactor.advance(0)

    def test_repeat(self) -> None:
        """
        What comes within 0.4 seconds is the first signal again, whichever it
        is; what comes later is a second one.
        """
        drained = Drained()
        self.running(drained)
        self.kill()
        self.assertEqual(drained.calls, ["drain"])
        for number in (signal.SIGTERM, signal.SIGINT):
            self.reactor.advance(0.15)
            self.kill(number)
        self.assertEqual(drained.calls, ["drain"])
        self.reactor.advance(0.15)
        self.kill()
        self.assertEqual(drained.calls, ["drain", "abort"])
        self.assertEqual(self.reactor.stopped, 0)
        drained.draining.callback(None)
        self.reactor.advance(0.1)  # what has ended has a last turn
        self.assertEqual(self.reactor.stopped, 1)

    def test_busy(self) -> None:
        """
        It is the time at which they come that counts, and not the time at
        which a busy reactor hears of them.
        """
        drained = Drained()
        self.running(drained)
        os.kill(os.getpid(), signal.SIGTERM)
        self.reactor.rightNow += 1
        os.kill(os.getpid(), signal.SIGTERM)
        self.reactor.advance(0)
        self.assertEqual(drained.calls, ["drain", "abort"])

    def test_order(self) -> None:
        """
        What is not to be first is not drained by a signal, and not waited for:
        the reactor stops.  A second signal aborts it all the same.
        """
        first, later = Drained(), Drained()
        self.running(first)
        self.signals.add(later, False)
        self.kill()
        self.assertEqual((first.calls, later.calls), (["drain"], []))
        first.draining.callback(None)
        self.reactor.advance(0.1)  # what has ended has a last turn
        self.assertEqual(self.reactor.stopped, 1)
        self.reactor.advance(1)
        self.kill()
        self.assertEqual(later.calls, ["abort"])

    def test_raises(self) -> None:
        """
        One that raises harms no other, and the reactor stops.
        """

        class Bad(Drained):
            def drain(self) -> Deferred[Any]:
                raise ValueError("drain")

            def abort(self) -> None:
                raise ValueError("abort")

        bad, drained = Bad(), Drained()
        self.running(bad)
        self.signals.add(drained, True)
        self.kill()
        self.assertEqual(drained.calls, ["drain"])
        self.reactor.advance(1)
        self.kill()
        self.assertEqual(drained.calls, ["drain", "abort"])
        drained.draining.callback(None)
        self.reactor.advance(0.1)  # what has ended has a last turn
        self.assertEqual(self.reactor.stopped, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_late(self) -> None:
        """
        What comes after the signal is drained at once.
        """
        drained, late = Drained(), Drained()
        self.running(drained)
        self.kill()
        self.signals.add(late, True)
        self.assertEqual(late.calls, ["drain"])

    def test_restored(self) -> None:
        """
        With the last one, the reactor's own handlers are back.
        """
        drained = Drained()
        self.running(drained)
        self.assertNotEqual(signal.getsignal(signal.SIGINT), self.reactor.handler)
        self.signals.remove(drained)
        self.signals.remove(drained)
        self.assertEqual(signal.getsignal(signal.SIGINT), self.reactor.handler)

    @skipIf(_OLD, "this reactor is made of a MemoryReactor newer than Twisted 24.7's")
    def test_shutdown(self) -> None:
        """
        A drainer is drained before shutdown, and on a signal, as long as it is in
        use, and no longer.
        """
        drainer = Drainer(self.reactor, None)
        self.signals = signalDrain(self.reactor)
        self.reactor.running = True
        drainAtShutdown(self.reactor, drainer, True)
        triggers = self.reactor.triggers["before"]["shutdown"]
        unused = len(triggers)
        port = drainer.listens(Port())
        for _ in range(2):
            self.assertEqual(len(triggers), unused + 1)
            self.assertNotEqual(signal.getsignal(signal.SIGINT), self.reactor.handler)
            port.stopListening()
            self.assertEqual(len(triggers), unused)
            self.assertEqual(signal.getsignal(signal.SIGINT), self.reactor.handler)
            port.startListening()
        self.reactor.shutDown()
        self.assertTrue(port.stopped)

    def test_leak(self) -> None:
        """
        The table does not keep a reactor alive that nothing else refers to; and one
        reactor has one table.
        """
        references = []
        for _ in range(10):
            reactor: Any = Reactor()
            inner = TCP4ServerEndpoint(reactor, 1)
            service = DrainingService(inner, Factory(), reactor=reactor)
            service.startService()
            TerminatingServerEndpoint(inner, reactor=reactor).listen(Factory())
            self.assertIs(signalDrain(reactor), signalDrain(reactor))
            references.append(weakref.ref(reactor))
        del reactor, inner, service
        gc.collect()
        self.assertEqual([found() for found in references], [None] * 10)


@skipIf(_OLD, "this reactor is made of a MemoryReactor newer than Twisted 24.7's")
class ReadyTests(SynchronousTestCase):
    """
    When C{READY=1} is said.
    """

    def setUp(self) -> None:
        self.said: list[dict[str, object]] = []
        self.patch(notify, "notify", lambda **said: self.said.append(said))
        self.reactor: Any = Reactor()

    def run_(self) -> None:
        self.reactor.running = True
        for what, args, kwargs in self.reactor.whenRunningHooks:
            what(*args, **kwargs)
        self.reactor.whenRunningHooks = []

    def test_all(self) -> None:
        """
        Once the reactor runs, and whatever was to listen does.
        """

        class Slow:
            def __init__(self) -> None:
                self.listening: Deferred[Any] = Deferred()

            def listen(self, factory: Any) -> Deferred[Any]:
                return self.listening

        slow, failing = Slow(), Slow()
        factory = Factory.forProtocol(Protocol)
        inner = TCP4ServerEndpoint(self.reactor, 1)
        TerminatingServerEndpoint(inner, reactor=self.reactor).listen(factory)
        service = DrainingService(slow, factory, reactor=self.reactor)
        service.startService()
        fails = TerminatingServerEndpoint(failing, reactor=self.reactor).listen(factory)
        self.run_()
        self.assertEqual(self.said, [])
        slow.listening.callback(object())
        self.assertEqual(self.said, [])
        failing.listening.errback(ValueError("in use"))
        self.failureResultOf(fails, ValueError)
        self.assertEqual(self.said, [{"READY": 1}])
        TerminatingServerEndpoint(inner, reactor=self.reactor).listen(factory)
        self.assertEqual(self.said, [{"READY": 1}])

    def test_drained(self) -> None:
        """
        A service that listens when it is drained already is not ready.
        """

        class Slow:
            def __init__(self) -> None:
                self.listening: Deferred[Any] = Deferred()

            def listen(self, factory: Any) -> Deferred[Any]:
                return self.listening

        slow = Slow()
        factory = Factory.forProtocol(Protocol)
        service = DrainingService(slow, factory, reactor=self.reactor)
        service.startService()
        self.run_()
        service.drain()
        slow.listening.callback(Port())
        self.assertEqual(self.said, [])

    def test_notYetRunning(self) -> None:
        """
        The process is not ready before an endpoint that is about to listen listens.
        """
        process = notify.Process(self.reactor)
        process.awaits(succeed(None))
        late: Deferred[None] = Deferred()
        process.awaits(late)
        self.run_()
        self.assertEqual(self.said, [])
        late.callback(None)
        self.assertEqual(self.said, [{"READY": 1}])

    def test_stops(self) -> None:
        """
        C{STOPPING=1} is said once, and nothing is ready after it.
        """
        process = notify.Process(self.reactor)
        self.reactor.running = True
        process.stops()
        process.stops()
        process.awaits(succeed(None))
        self.assertEqual(self.said, [{"STOPPING": 1}])
