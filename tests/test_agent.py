"""
HAProxy's agent check, in memory and with a real HAProxy.
"""

from __future__ import annotations

import contextlib
import csv
import socket
import subprocess
import tempfile
import time
from io import StringIO
from pathlib import Path
from shutil import which
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_term import AgentFactory, DrainingService
from twisted_term.drain.agent import agentState
from twisted_term.testing import Peer, memoryPair

from .processes import TWISTD, Server, connect, receiveAll
from .support import SECONDS, once

#: A line server that is asked about, and its agent.
_SERVICE = """
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted_term import AgentFactory, DrainingService
from twisted_term.termserver.demo import DemoFactory

application = Application("asked")
service = DrainingService(
    serverFromString(reactor, "tcp:{port}:interface=127.0.0.1"),
    DemoFactory(reactor),
    readinessDelay=2,
)
service.setServiceParent(application)
StreamServerEndpointService(
    serverFromString(reactor, "tcp:{agent}:interface=127.0.0.1"), AgentFactory(service)
).setServiceParent(application)
"""
#: The same with nothing but a string.
_STRING = """
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted_term.termserver.demo import DemoFactory

application = Application("asked")
StreamServerEndpointService(
    serverFromString(
        reactor,
        "term:tcp:{port}:interface=127.0.0.1:readinessDelay=2:agent={agent}",
    ),
    DemoFactory(reactor),
).setServiceParent(application)
"""
_CONFIGURATION = """
global
 stats socket {folder}/stats level admin
defaults
 mode tcp
 timeout connect 2s
 timeout client 30s
 timeout server 30s
 option redispatch
frontend front
 bind 127.0.0.1:{front}
 default_backend back
backend back
 server first 127.0.0.1:{port} check inter 100ms fall 2 rise 1 \
agent-check agent-port {agent} agent-inter 100ms \
agent-send any\\n
 server second 127.0.0.1:{second}
"""


class Served:
    """
    As a service says it.
    """

    def __init__(self, draining: bool, ports: list[Any]) -> None:
        self.draining = draining
        self.ports = ports


class AgentTests(SynchronousTestCase):
    """
    L{AgentFactory}.
    """

    def test_states(self) -> None:
        """
        What is said in each phase.
        """
        for draining, ports, said in (
            (False, ["a port"], b"up ready"),
            (True, ["a port"], b"drain"),
            (True, [], b"stopped"),
            (False, [], b"stopped"),  # not started yet
        ):
            self.assertEqual(agentState(Served(draining, ports)), said)

    def test_answer(self) -> None:
        """
        A line, and FIN, whatever has been sent; and nothing stays.
        """
        clock, peer = Clock(), Peer()
        agent = AgentFactory(Served(True, ["a port"])).buildProtocol(None)
        assert isinstance(agent, Protocol)
        memoryPair(clock, agent, peer)
        peer.transport.write(b"any\n")
        clock.pump([0] * 9)
        self.assertEqual((peer.received, peer.end), (len(b"drain\n"), "FIN"))
        clock.pump([1] * 6)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_wrong(self) -> None:
        """
        What cannot be asked is refused in one line.
        """
        error = self.assertRaises(TypeError, AgentFactory, "service")
        self.assertIn("'service': must be a DrainingService", str(error))

    def test_wrongString(self) -> None:
        """
        The same for C{agent=}; and a client has none.
        """
        error = self.assertRaises(
            ValueError, serverFromString, reactor, "term:tcp:0:agent=nonsense"
        )
        self.assertEqual(
            str(error),
            "agent='nonsense': must be a port of 127.0.0.1, such as 8024, or an"
            " endpoint, such as tcp\\:8024\\:interface=10.0.0.1: 'nonsense': Unknown"
            " endpoint type: 'nonsense'",
        )
        error = self.assertRaises(
            ValueError, clientFromString, reactor, "term:tcp:h:1:agent=1"
        )
        self.assertEqual(str(error), "agent='1': a client is not watched")

    def test_service(self) -> None:
        """
        A L{DrainingService} can.
        """
        for name in ("draining", "ports"):
            self.assertTrue(hasattr(DrainingService, name))


@once
class HAProxyTests(SynchronousTestCase):
    """
    A real HAProxy, in TCP mode, with an L{AgentFactory}.
    """

    def command(self) -> tuple[str, ...]:
        """
        Starts the server with the agent.
        """
        return self.program(_SERVICE)

    def program(self, text: str) -> tuple[str, ...]:
        """
        The command of a program.
        """
        path = self.folder / "asked.py"
        path.write_text(text.format(**self.ports))
        return (*TWISTD, f"--python={path}")

    def setUp(self) -> None:
        """
        HAProxy, before a server with an agent and another one.
        """
        command = which("haproxy")
        if command is None:
            raise SkipTest("needs haproxy: apt-get install haproxy")
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        names = ("front", "port", "agent", "second")
        self.ports = {n: s.getsockname()[1] for n, s in zip(names, sockets)}
        for skt in sockets:
            skt.close()
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(
            _CONFIGURATION.format(folder=self.folder, **self.ports)
        )
        self.first = self.start()
        Server(
            self,
            (*TWISTD, "termserver", f"--listen=tcp:{self.ports['second']}"),
        ).port()
        balancer = subprocess.Popen(
            [command, "-db", "-f", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(balancer.wait)
        self.addCleanup(balancer.kill)
        self.until("UP")

    def start(self) -> Server:
        """
        The server with the agent.
        """
        server = Server(self, self.command())
        server.wait("DemoFactory .*starting on")
        return server

    def stat(self, name: str) -> str:
        """
        What HAProxy knows of the first server.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect(str(self.folder / "stats"))
            client.sendall(b"show stat\n")
            text = b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()
        for row in csv.DictReader(StringIO(text.lstrip("# "))):
            if row["svname"] == "first":
                return row[name]
        raise AssertionError(text)

    def until(self, wanted: str, name: str = "status") -> None:
        """
        Wait until HAProxy says so of the first server.
        """
        said: list[str] = []
        deadline = time.monotonic() + SECONDS
        while wanted not in said:
            self.assertLess(time.monotonic(), deadline, said)
            with contextlib.suppress(OSError):  # it starts
                status = self.stat(name)
                said += [status] if status not in said else []
            time.sleep(0.05)

    def ask(self, count: int) -> None:
        """
        So many connections; each gets its answer.
        """
        clients = [
            connect(self.ports["front"], b"ECHO x\nCLOSE\n") for _ in range(count)
        ]
        self.assertEqual(receiveAll(clients), [(b"x\n", "FIN")] * count)

    def test_restart(self) -> None:
        """
        HAProxy stops sending before the server stops listening, keeps what it has
        sent, and sends again when the next process is there.
        """
        self.ask(6)
        kept = [connect(self.ports["front"], b"WAIT 8\n") for _ in range(2)]
        self.until("4", "stot")  # of eight
        self.first.terminate()
        self.until("DRAIN (agent)")
        connect(self.ports["port"]).close()  # it still listens
        self.ask(6)
        self.until("DOWN (agent)")
        self.ask(6)
        # Nothing has come to it since.
        self.assertEqual(int(self.stat("stot")), 4)
        for client in kept:
            self.assertEqual(client.recv(5), b"DONE\n")
        self.assertEqual(self.first.end(), 0)
        for client in kept:
            client.sendall(b"CLOSE\n")
        receiveAll(kept)
        self.start()
        self.until("UP")
        self.ask(6)
        self.assertGreater(int(self.stat("stot")), 4)


class StringTests(HAProxyTests):
    """
    The same with C{agent=} in an endpoint string, and no other code.
    """

    def command(self) -> tuple[str, ...]:
        return self.program(_STRING)


class TermserverTests(HAProxyTests):
    """
    The same with C{twistd termserver --agent}.
    """

    def command(self) -> tuple[str, ...]:
        return (
            *(*TWISTD, "termserver", "--readiness-delay=2"),
            f"--listen=tcp:{self.ports['port']}:interface=127.0.0.1",
            f"--agent={self.ports['agent']}",
        )
