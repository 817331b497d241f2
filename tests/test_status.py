"""
The status page, its events and metrics: under a Clock, and as a server of its
own, which a browser watches too.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from functools import partial
from importlib.resources import files
from typing import Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from benchmarks.processes import freePort
from twisted_term import (
    DrainingService,
    IDrainListener,
    Initiator,
    Monitor,
    Outcome,
    State,
    TerminatingFactory,
    TerminatingTransport,
)
from twisted_term.connection.replaced import unsentBytes
from twisted_term.status import events, page
from twisted_term.status.hosts import Hosts
from twisted_term.status.metrics import MonitorCollector
from twisted_term.status.monitor import Ended
from twisted_term.status.resource import StatusResource
from twisted_term.status.states import LIVE, States
from twisted_term.termserver.tap import CannotListen, makeService
from twisted_term.web import DrainingSite, ReadinessResource

from . import browser
from .doubles import HalfCloseable, TransportTestCase
from .processes import SECOND_PORT, TWISTD, Server, connect, receiveAll
from .support import SECONDS, SocketTestCase, exchange, nothing, once, options
from .viewers import Page, Stream, fetch

_OPENMETRICS = "application/openmetrics-text"
_HOSTILE = "<script>alert('&\"')</script>"


def ended(monitor: Monitor, peer: Any = "peer", summary: str = "clean") -> None:
    """
    Tell the monitor of a connection that there has not been.
    """
    monitor.ended[Outcome.CLEAN, Initiator.LOCAL] += 1
    timeline = [(1.0, "flush"), (3.0, "FIN"), (3.0, "linger"), (5.0, "closed")]
    monitor.recent.append(
        Ended(monitor.total, 1.5, peer, Outcome.CLEAN, summary, timeline)
    )


class TimelineTests(TransportTestCase):
    """
    What happened when, in a report.
    """

    def ends(self, *stages: Any) -> list[tuple[float, str]]:
        """
        Each stage comes a second after the one before.
        """
        for stage in stages:
            self.clock.advance(1)
            stage()
        if not self.reports:
            self.end()
        (report,) = self.reports
        return report.timeline

    def fin(self) -> None:
        self.wire.protocol.writeConnectionLost()

    def peerFin(self) -> None:
        self.wire.protocol.readConnectionLost()

    def test_stages(self) -> None:
        """
        The stages of a lingering close, in order and in seconds.
        """
        self.connect()
        found = self.ends(self.transport.loseConnection, self.fin, self.peerFin)
        stages = ["flush", "FIN", "linger", "FIN from the peer", "closed"]
        self.assertEqual(found, list(zip([1, 2, 2, 3, 3], stages)))
        self.assertEqual(self.reports[0].peerFin, 3)

    def test_peerFirst(self) -> None:
        """
        The peer's FIN, when it comes first; with a protocol that takes it as a
        half-close there is time in between.
        """
        stages = ["FIN from the peer", "flush", "FIN", "linger", "closed"]
        self.connect()
        found = self.ends(self.peerFin, self.fin)
        self.assertEqual(found, list(zip([1, 1, 2, 2, 2], stages)))
        self.connect(HalfCloseable())
        found = self.ends(self.peerFin, self.transport.loseConnection, self.fin)
        self.assertEqual(found, list(zip([1, 2, 3, 3, 3], stages)))

    def test_halfClose(self) -> None:
        """
        A half-close, and a lingering close later.  The peer's FIN may come in
        the flush.
        """
        self.connect()
        found = self.ends(
            self.transport.loseWriteConnection,
            self.fin,
            self.transport.loseConnection,
            self.peerFin,
        )
        stages = ["flush", "FIN", "linger", "FIN from the peer", "closed"]
        self.assertEqual(found, list(zip([1, 2, 3, 4, 4], stages)))
        self.connect()
        found = self.ends(self.transport.loseConnection, self.peerFin, self.fin)
        stages = ["flush", "FIN from the peer", "FIN", "linger", "closed"]
        self.assertEqual(found, list(zip([1, 2, 3, 3, 3], stages)))

    def test_noFin(self) -> None:
        """
        A reset has neither FIN.
        """
        self.connect()
        self.transport.loseConnection()
        found = self.ends(self.transport.abortConnection)
        self.assertEqual(found, [(0, "flush"), (1, "reset")])
        self.assertIs(self.reports[0].peerFin, None)


class StatesTests(SynchronousTestCase):
    """
    How many are in which state.
    """

    def test_counts(self) -> None:
        """
        The number of connections is exact at once; a caller that asks often does not
        make each connection be asked each time.
        """
        clock = Clock()
        states = States(clock)
        asked = []

        class Connection:
            def __init__(self) -> None:
                self.now = State.OPEN

            @property
            def state(self) -> State:
                asked.append(self)
                return self.now

        connections = [Connection() for _ in range(100)]
        for connection in connections:
            states.add(connection)
        none = dict.fromkeys(LIVE, 0)
        self.assertEqual(states.counts(), {**none, State.OPEN: 100})
        del asked[:]
        for connection in connections[:30]:
            connection.now = State.LINGERING
        connections[99].now = State.CLOSED
        for connection in connections[:10]:
            states.discard(connection)
        for _ in range(1000):
            self.assertEqual(states.counts(), {**none, State.OPEN: 90})
        self.assertEqual(asked, [])
        clock.advance(0.2)
        after = {**none, State.OPEN: 69, State.LINGERING: 20}
        for _ in range(1000):
            self.assertEqual(states.counts(), after)
        self.assertLess(len(asked), 200)
        # The clock is set back.
        connections[99].now = State.OPEN
        clock.rightNow = -100.0
        self.assertEqual(states.counts(), {**after, State.OPEN: 70})
        for connection in connections:
            states.discard(connection)
        self.assertEqual((len(states), states.counts()), (0, none))


class MonitorTests(SocketTestCase):
    """
    Keeping account.
    """

    @inlineCallbacks
    def test_wrap(self) -> Any:
        """
        Live connections are known by their state, ended ones by outcome and
        initiator; wrapping twice, or around and inside other wrappings, counts
        none twice.
        """

        class Server(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"answer")
                self.transport.loseConnection()

        def quiet() -> Any:
            factory = Factory.forProtocol(Server)
            factory.noisy = False
            return factory

        for wrap in (
            lambda monitor: monitor.wrap(quiet()),
            lambda monitor: monitor.wrap(monitor.wrap(quiet())),
            lambda monitor: monitor.wrap(TerminatingFactory(quiet())),
            lambda monitor: TerminatingFactory(monitor.wrap(quiet())),
        ):
            monitor = Monitor(recent=2)
            port = self.listen(wrap(monitor))
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                yield self.until(lambda m=monitor: m.states()[State.OPEN] == 1)
                client.sendall(b"x")
                yield self.until(lambda m=monitor: m.states()[State.LINGERING] == 1)
                client.recv(100)
                self.assertEqual(monitor.total, 0)
            for _ in range(3):
                yield deferToThread(exchange, port, b"x")
            yield self.until(lambda m=monitor: m.total == 4)
            self.assertEqual(set(monitor.states().values()), {0})
            self.assertEqual(monitor.ended, {(Outcome.CLEAN, Initiator.LOCAL): 4})
            self.assertEqual([found.number for found in monitor.recent], [3, 4])
            self.assertEqual(monitor.recent[0].peer.host, "127.0.0.1")
            self.assertEqual(sum(monitor.spent[State.LINGERING].counts), 4)

    def test_classes(self) -> None:
        """
        Times are put into classes by upper bounds that include themselves.
        """
        monitor = Monitor(clock=Clock())
        spent = monitor.spent[State.OPEN]
        for seconds in (0.0, 0.001, 0.002, 600.0, 601.0):
            spent.add(seconds)
        self.assertEqual(spent.counts, [2, 1, 0, 0, 0, 0, 1, 1])
        self.assertAlmostEqual(spent.seconds, 1201.003)

    def test_bad(self) -> None:
        """
        What is wrong is told in one line.
        """
        number = "must be a number of connections"
        for kind, argument, said in (
            (ValueError, {"recent": -1}, "recent=-1: must be 0 connections or more"),
            (TypeError, {"recent": 2.5}, f"recent=2.5: {number}"),
            (TypeError, {"recent": None}, f"recent=None: {number}"),
            (TypeError, {"recent": True}, f"recent=True: {number}"),
            (TypeError, {"name": 7}, "name=7: must be text"),
        ):
            error = self.assertRaises(kind, Monitor, **argument)
            self.assertEqual(str(error), said)

    @inlineCallbacks
    def test_drainable(self) -> Any:
        """
        A factory that ends its connections itself is asked to behind a
        wrapping too.
        """
        site = DrainingSite(Resource())
        site.noisy = False
        site.log = nothing  # type: ignore[assignment]
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        ports: list[Any] = []
        listen = endpoint.listen
        endpoint.listen = lambda factory: listen(factory).addCallback(  # type: ignore
            lambda port: ports.append(port) or port
        )
        service = DrainingService(endpoint, Monitor().wrap(site))
        service.startService()
        with socket.create_connection(("127.0.0.1", ports[0].getHost().port)):
            yield deferLater(reactor, 0.1)
            yield self.untilDrained(service, site)

    @inlineCallbacks
    def untilDrained(self, service: Any, site: Any) -> Any:
        drained = service.stopService()
        yield self.until(lambda: site.draining)
        service.abort()
        yield drained


class ResourceTests(SynchronousTestCase):
    """
    The resource, in a Site under a Clock.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.monitor = Monitor(clock=self.clock)
        self.serving = True
        status = StatusResource(self.monitor, lambda: self.serving, self.clock)
        root = Resource()
        root.putChild(b"status", status)
        self.sites = [Site(each, reactor=self.clock) for each in (status, root)]
        for site in self.sites:
            site.log = nothing

    def get(
        self, path: str, site: int = 0, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """
        @return: status, headers and body.
        """
        _, transport = self.begin(path, site, method, **headers)
        head, _, body = transport.value().decode("utf-8").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        found = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), found, body

    def begin(
        self, path: str, site: int = 0, method: str = "GET", **headers: str
    ) -> tuple[Any, StringTransport]:
        channel = self.sites[site].buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # HTTP/1.0 has no chunks.
        request = f"{method} {path} HTTP/1.0\r\n{fields}\r\n"
        channel.dataReceived(request.encode("latin-1"))
        return channel, transport

    def events(self, transport: StringTransport) -> list[Any]:
        """
        What has arrived since the last call.
        """
        text = transport.value().decode("ascii")
        transport.clear()
        return [json.loads(event) for event in re.findall(r"data: (.*)\n\n", text)]

    # The page.

    def test_page(self) -> None:
        """
        The page is well-formed, has what a screen reader and a phone need, and
        nothing from elsewhere; all numbers are there without a script.
        """
        for _ in range(60):
            ended(self.monitor)
        self.monitor.ended[Outcome.ABORTED, Initiator.LOCAL] += 7
        self.monitor.bytesDiscarded = 123
        code, headers, body = self.get("/")
        self.assertEqual(code, 200)
        self.assertEqual(headers["content-type"], "text/html; charset=utf-8")
        self.assertIn("default-src 'none'", headers["content-security-policy"])
        page = Page(body)
        self.assertEqual(page.all("html"), [{"lang": "en"}])
        self.assertEqual([len(page.all(tag)) for tag in ("h1", "main")], [1, 1])
        (viewport,) = (m for m in page.all("meta") if m.get("name") == "viewport")
        self.assertEqual(viewport["content"], "width=device-width, initial-scale=1")
        self.assertEqual(len(page.all("table")), 4)
        self.assertEqual(len(page.all("caption")), 4)
        for cell in page.all("th"):
            self.assertIn(cell["scope"], ("row", "col"))
        ids = [found["id"] for _, found in page.elements if "id" in found]
        self.assertEqual(len(ids), len(set(ids)))
        for _, attributes in page.elements:
            for name in ("src", "href"):
                self.assertIn(attributes.get(name), (None, "data:,"))
            self.assertNotIn("style", attributes)  # the policy forbids it
        self.assertEqual(page.text["CLEAN-LOCAL"], "60")
        self.assertEqual(page.text["ABORTED-LOCAL"], "7")
        self.assertEqual(page.text["ended-LOCAL"], "67")
        self.assertEqual(page.text["discarded"], "123")
        self.assertEqual(page.text["status"], "Serving: 0 connections, 67 ended.")
        self.assertEqual(body.count('<tr role="row"><th scope="row"'), 50)

    def test_escaped(self) -> None:
        """
        Whatever a peer's address and a summary hold, it is text.
        """
        ended(self.monitor, _HOSTILE, _HOSTILE)
        _, _, body = self.get("/")
        (event,) = self.events(self.begin("/events")[1])
        (row,) = event["ended"]
        for text in (body, row):
            self.assertNotIn("alert('", text)
            self.assertEqual(text.count("&lt;script&gt;alert("), 2)
        Page(row)

    def test_contrast(self) -> None:
        """
        Text has a contrast of 4.5 at least, and the bars 3, in light and dark
        (WCAG 2.2, 1.4.3 and 1.4.11).
        """
        html = files("twisted_term.status").joinpath("status.html").read_text("utf-8")
        schemes = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
        self.assertEqual(len(schemes), 2)
        for scheme in schemes:
            colours = dict(re.findall(r"--(\w+): #(\w{6})", scheme))
            for text in ("ink", "soft"):
                for ground in ("paper", "band"):
                    ratio = contrast(colours[text], colours[ground])
                    self.assertGreaterEqual(ratio, 4.5, (text, ground))
            for mark in ("flush", "fin", "linger", "theirs"):
                self.assertGreaterEqual(contrast(colours[mark], colours["paper"]), 3)

    def test_places(self) -> None:
        """
        At any path: without the slash there is a redirect, since what the page
        refers to is below it.
        """
        code, headers, _ = self.get("/status", 1)
        self.assertEqual((code, headers["location"]), (302, "./status/"))
        for path in ("/status/", "/status/events", "/status/health"):
            self.assertEqual(self.get(path, 1, "HEAD")[0], 200)
        self.assertEqual(self.get("/status/nonsense", 1)[0], 404)

    def test_health(self) -> None:
        """
        C{/health} is 200 always; C{/ready} is 503 in a drain.
        """
        for serving, code, text in ((True, 200, "ready\n"), (False, 503, "draining\n")):
            self.serving = serving
            self.assertEqual(self.get("/health")[::2], (200, "healthy\n"))
            for method in ("GET", "OPTIONS"):
                self.assertEqual(self.get("/ready", 0, method)[::2], (code, text))
            self.assertEqual(self.get("/ready", 0, "HEAD")[::2], (code, ""))

    def test_readyWrong(self) -> None:
        """
        What says nothing about readiness is refused at once.
        """
        for resource in (ReadinessResource, partial(StatusResource, self.monitor)):
            error = self.assertRaises(TypeError, resource, True)
            self.assertEqual(
                str(error),
                "ready=True: must be a function that says whether the server is ready,"
                " such as lambda: not service.draining",
            )

    def test_host(self) -> None:
        """
        The page, its events and the metrics answer to their own names alone: a
        page from elsewhere whose name points here says its own.  Health and
        readiness tell nothing, and answer to balancers that say any.
        """
        for path in ("/", "/events", "/metrics"):
            self.assertEqual(self.get(path, Host="localhost:8024")[0], 200)
            self.assertEqual(self.get(path)[0], 200)  # no browser leaves it out
            code, headers, body = self.get(path, Host="evil.example:8024")
            self.assertEqual((code, headers["content-type"][:10]), (421, "text/plain"))
            self.assertEqual(
                body,
                "Host 'evil.example:8024': must be an IP address, this machine's name,"
                " or one of the hosts that the server was given\n",
            )
            both = self.get(path, Host="localhost\r\nHost: evil.example")
            self.assertIn(both[0], (400, 421))
        for path in ("/health", "/ready"):
            self.assertEqual(self.get(path, Host="evil.example")[0], 200)

    def test_hosts(self) -> None:
        """
        Addresses, names that nobody can own, this machine's and those given.
        """
        hosts = Hosts(["Status.Example."])
        for right in (
            "",
            "127.0.0.1",
            "127.0.0.1:8024",
            "10.1.2.3:80",
            "[::1]",
            "[fe80::1]:8024",
            "localhost",
            "LOCALHOST.:8024",
            "page.localhost:1",
            "webserver:8024",
            "status.example",
            "STATUS.example.:443",
            socket.gethostname(),
        ):
            self.assertIn(right, hosts)
        for wrong in (
            "evil.example",
            "evil.example:127",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.status.example",
            "1.2.3.4.5",
            "[evil.example]:80",
            "[::1].evil.example",
            "::1",
            "a:b:c",
            "evil.example, localhost",
        ):
            self.assertNotIn(wrong, hosts)
        error = self.assertRaises(TypeError, Hosts, "status.example")
        self.assertEqual(str(error), "hosts='status.example': must be a list of names")

    # The events.

    def test_events(self) -> None:
        """
        The numbers at once, and then what is new, once a second at most.
        """
        ended(self.monitor)
        channel, transport = self.begin("/events")
        self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", transport.value())
        (event,) = self.events(transport)
        self.assertEqual((event["last"], len(event["ended"])), (1, 1))
        self.assertEqual(event["counts"]["CLEAN-LOCAL"], 1)
        for _ in range(3):
            ended(self.monitor)
        self.clock.advance(0.5)
        self.assertEqual(self.events(transport), [])
        self.clock.advance(0.5)
        (event,) = self.events(transport)
        self.assertEqual((event["last"], len(event["ended"])), (4, 3))
        self.assertEqual(event["counts"]["CLEAN-LOCAL"], 4)
        # A state alone is news too.
        self.monitor.watch(_Live())
        self.clock.pump([1] * 3)
        (event,) = self.events(transport)
        self.assertEqual(event["counts"]["state-OPEN"], 1)
        self.assertEqual(event["ended"], [])
        self.assertEqual(event["summary"], "Serving: 1 connections, 4 ended.")
        # With the last viewer the looking ends.
        channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after(self) -> None:
        """
        A viewer says what it has already.
        """
        for _ in range(5):
            ended(self.monitor)
        (event,) = self.events(self.begin("/events?after=3")[1])
        self.assertEqual(len(event["ended"]), 2)
        code, _, body = self.get("/events?after=-1")
        self.assertEqual((code, body), (400, "after=b'-1': must be a whole number\n"))

    def test_heartbeat(self) -> None:
        """
        Where nothing happens, a comment shows that the stream lives.
        """
        _, transport = self.begin("/events")
        self.events(transport)
        self.clock.pump([1] * 14)
        self.assertEqual(transport.value(), b"")
        self.clock.pump([1] * 16)
        self.assertEqual(transport.value(), b":\n\n" * 2)

    def test_paused(self) -> None:
        """
        A viewer that does not read is sent nothing, and then the news in one
        event; another one misses nothing of it.
        """
        _, slow = self.begin("/events")
        _, other = self.begin("/events")
        self.events(slow), self.events(other)
        slow.producer.pauseProducing()
        for _ in range(100):
            ended(self.monitor)
            self.clock.advance(1)
        self.assertEqual(slow.value(), b"")
        self.assertEqual(len(self.events(other)), 100)
        slow.producer.resumeProducing()
        self.clock.advance(1)
        (event,) = self.events(slow)
        self.assertEqual((event["last"], len(event["ended"])), (100, 50))

    def test_manyViewers(self) -> None:
        """
        What all viewers see is rendered once, and each row once for all time;
        when there are too many, one more is told so, until somebody goes.
        """
        for _ in range(50):
            ended(self.monitor)
        rendered = []
        render, dump = page._render, events.json.dumps
        self.patch(page, "_render", lambda one: rendered.append(one) or render(one))
        dumped: list[Any] = []
        self.patch(events.json, "dumps", lambda news: dumped.append(news) or dump(news))
        viewers = [self.begin("/events") for _ in range(50)]
        self.assertEqual(len(rendered), 50)
        code, headers, body = self.get("/events")
        self.assertEqual((code, body), (503, "50 viewers are here already\n"))
        self.assertEqual(headers["retry-after"], "10")
        for _, transport in viewers:
            self.events(transport)
        del rendered[:], dumped[:]
        ended(self.monitor)
        self.clock.advance(1)
        self.assertEqual((len(rendered), len(dumped)), (1, 1))
        for _, transport in viewers:
            (event,) = self.events(transport)
            self.assertEqual(event["last"], 51)
        viewers[0][0].connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.get("/events")[0], 200)

    def test_draining(self) -> None:
        """
        A drain is told, and ends the streams; a later one ends after one event.
        """
        _, transport = self.begin("/events")
        self.events(transport)
        self.serving = False
        self.clock.advance(1)
        (event,) = self.events(transport)
        self.assertEqual(event["ready"], False)
        self.assertTrue(event["summary"].startswith("Draining: "))
        self.assertTrue(transport.disconnecting)
        _, transport = self.begin("/events")
        self.assertEqual(len(self.events(transport)), 1)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    # The metrics.

    def test_metrics(self) -> None:
        """
        What Prometheus' own parsers read, in both formats.
        """
        monitor = self.monitor
        for _ in range(3):
            ended(monitor)
        monitor.ended[Outcome.RESET_BY_PEER, Initiator.PEER] += 1
        monitor.watch(_Live())
        monitor.bytesUnacknowledged, monitor.bytesDiscarded = 10, 20
        monitor.writesDropped, monitor.undelivered = 30, 2
        spent = monitor.spent[State.HALF_CLOSED]
        spent.add(0.05)
        spent.add(5)
        plain = self.get("/metrics")
        accept = "application/openmetrics-text; version=1.0.0"
        new = self.get("/metrics", Accept=accept)
        self.assertTrue(plain[1]["content-type"].startswith("text/plain; version="))
        self.assertTrue(new[1]["content-type"].startswith("application/openmetrics"))
        for (code, _, body), parse in (
            (plain, text_string_to_metric_families),
            (new, openmetrics.text_string_to_metric_families),
        ):
            self.assertEqual(code, 200)
            samples = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in parse(body)
                for sample in family.samples
            }
            for name, value in (
                (("connections", "open"), 1),
                (("connections", "lingering"), 0),
                (("terminations_total", "clean", "local"), 3),
                (("terminations_total", "peer", "reset_by_peer"), 1),
                (("terminations_total", "local", "lost"), 0),
                (("unacknowledged_bytes_total",), 10),
                (("discarded_bytes_total",), 20),
                (("dropped_writes_total",), 30),
                (("undelivered_connections_total",), 2),
                (("draining",), 0),
                (("drain_seconds",), 0),
                (("state_seconds_count", "open"), 0),
                (("state_seconds_bucket", "+Inf", "lingering"), 0),
                (("state_seconds_count", "half_closed"), 2),
                (("state_seconds_sum", "half_closed"), 5.05),
                (("state_seconds_bucket", "0.1", "half_closed"), 1),
                (("state_seconds_bucket", "10.0", "half_closed"), 2),
                (("state_seconds_bucket", "+Inf", "half_closed"), 2),
            ):
                key = (f"twisted_term_{name[0]}", *sorted(("default", *name[1:])))
                self.assertEqual(samples[key], value)

    def test_accept(self) -> None:
        """
        Whatever C{Accept} says, there is an answer in one of the two formats.
        """
        for accept, kind in (
            (b"\xff", "text/plain"),
            (b";;;,,,==", "text/plain"),
            (b"text/plain;version", "text/plain"),
            (b"text/plain; version=99999.1.2;escaping=dots", "text/plain"),
            (b"application/openmetrics-text; version=abc", _OPENMETRICS),
            (b"application/openmetrics-text; version=", _OPENMETRICS),
            (b"application/openmetrics-text;version=\xff", _OPENMETRICS),
            (b"application/openmetrics-text;escaping=x", _OPENMETRICS),
            (b"a, APPLICATION/OpenMetrics-text;q=0.5", _OPENMETRICS),
        ):
            code, headers, body = self.get("/metrics", Accept=accept.decode("latin-1"))
            self.assertEqual(code, 200, accept)
            self.assertEqual(headers["content-type"].partition(";")[0], kind)
            self.assertIn("twisted_term_draining", body)
        # Two of them are one list (RFC 9110, 5.3).
        code, headers, _ = self.get(
            "/metrics", Accept=f"text/plain\r\nAccept: {_OPENMETRICS}"
        )
        self.assertEqual(headers["content-type"].partition(";")[0], _OPENMETRICS)

    def test_drainMetrics(self) -> None:
        """
        A drain is told from what was before it, and is over when the server is
        started again.
        """
        monitor = self.monitor
        factory = monitor.wrap(Factory())
        self.assertTrue(IDrainListener.providedBy(factory))
        self.assertTrue(verifyObject(IDrainListener, factory))
        monitor.undelivered, monitor.bytesUnacknowledged = 5, 500
        self.assertEqual(monitor.drain, (0, 0, 0))
        factory.drainBegins()
        self.clock.advance(3)
        factory.drainBegins()
        monitor.undelivered, monitor.bytesUnacknowledged = 7, 800
        self.clock.advance(1)
        self.assertEqual(monitor.drain, (4, 2, 300))
        _, _, body = self.get("/metrics")
        for line in (
            'draining{monitor="default"} 1.0',
            'drain_seconds{monitor="default"} 4.0',
            'drain_undelivered_connections{monitor="default"} 2.0',
            'drain_unacknowledged_bytes{monitor="default"} 300.0',
        ):
            self.assertIn(f"\ntwisted_term_{line}\n", body)
        self.clock.rightNow = -5.0  # the clock is set back
        self.assertEqual(monitor.drain.seconds, 0)
        factory.servingBegins()
        self.assertEqual((monitor.draining, monitor.drain), (False, (0, 0, 0)))

    def test_ownRegistry(self) -> None:
        """
        An application's own registry takes the collector; several monitors are
        told apart by their names.
        """
        monitors = [Monitor(clock=self.clock, name=name) for name in ("a", 'b"c')]
        ended(monitors[1])
        registry = CollectorRegistry()
        Counter("own_requests", "Of the application.", registry=registry).inc()
        registry.register(MonitorCollector(*monitors))
        text = generate_latest(registry).decode()
        self.assertIn("own_requests_total 1.0\n", text)
        labels = {"outcome": "clean", "initiator": "local"}
        for name, value in (("a", 0), ('b"c', 1)):
            found = registry.get_sample_value(
                "twisted_term_terminations_total", {"monitor": name, **labels}
            )
            self.assertEqual(found, value)
        error = self.assertRaises(
            ValueError, MonitorCollector, monitors[0], monitors[0]
        )
        self.assertEqual(str(error), "name='a': must be another for each Monitor")

    def test_noExtra(self) -> None:
        """
        Without the extra, one line says what is missing; the rest works.
        """
        for name in [name for name in sys.modules if name.startswith("prometheus_")]:
            self.addCleanup(sys.modules.__setitem__, name, sys.modules.pop(name))
        name = "twisted_term.status.metrics"
        self.addCleanup(sys.modules.__setitem__, name, sys.modules.pop(name))
        sys.modules["prometheus_client"] = None  # type: ignore[assignment]
        code, _, body = self.get("/metrics")
        self.assertEqual(code, 501)
        self.assertEqual(
            body,
            "/metrics needs prometheus_client: pip install 'twisted_term[metrics]'\n",
        )
        self.assertEqual(self.get("/")[0], 200)


class _Live:
    """
    A connection that stays open.
    """

    state = State.OPEN

    def callWhenTerminated(self, call: Any) -> None:
        pass


def contrast(one: str, other: str) -> float:
    """
    The contrast ratio of two colours (WCAG 2.2).
    """

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


class SlowViewerTests(SocketTestCase):
    """
    A viewer on a real socket that never reads.
    """

    @inlineCallbacks
    def test_memory(self) -> Any:
        """
        What waits for it in the server does not grow.
        """
        clock = Clock()
        monitor = Monitor(recent=1, clock=clock)
        site = Site(StatusResource(monitor, lambda: True, clock))
        site.noisy = False
        site.log = nothing  # type: ignore[assignment]
        watching = Monitor()
        made: list[TerminatingTransport] = []
        self.patch(watching, "watch", lambda transport: made.append(transport))
        port = self.listen(watching.wrap(site))
        with connect(
            port, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", small=True
        ):
            yield self.until(clock.getDelayedCalls)
            waiting = []
            for _ in range(200):
                ended(monitor, summary="x" * 200_000)
                clock.advance(1)
                yield deferLater(reactor, 0)
                waiting.append(unsentBytes(made[0].wrapped))
        # Of 40 MB, what the kernel does not take is one event.
        self.assertGreater(max(waiting), 0)
        self.assertLess(max(waiting), 500_000)
        yield self.until(lambda: not clock.getDelayedCalls())


class OptionTests(SynchronousTestCase):
    """
    C{--status}.
    """

    def test_default(self) -> None:
        """
        Without the option there is no page.
        """
        self.assertIsInstance(makeService(options()), DrainingService)

    def test_bad(self) -> None:
        """
        One line names the option, the endpoint, and what is allowed.
        """
        parsed = options("--status=nonsense")
        error = self.assertRaises(CannotListen, makeService, parsed)
        self.assertEqual(
            str(error),
            "twistd termserver: --status 'nonsense': must be an endpoint, such as"
            " tcp:8024:interface=127.0.0.1: 'nonsense': Unknown endpoint type:"
            " 'nonsense'",
        )

    def test_inUse(self) -> None:
        """
        A port that is in use ends twistd with one line.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            status = f"--status=tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            server = Server(
                self,
                (*TWISTD, "termserver", "--listen=tcp:0:interface=127.0.0.1", status),
            )
            self.assertEqual(server.end(), 1)
        self.assertIn("--status 'tcp:", server.log.splitlines()[-1])
        self.assertNotIn("Traceback", server.log)


class EndpointTests(SocketTestCase):
    """
    C{term:...:status=...}.
    """

    def endpoint(self, options: str) -> Any:
        text = f"term:tcp:0:interface=127.0.0.1:{options}"
        return serverFromString(reactor, text)

    @inlineCallbacks
    def test_port(self) -> Any:
        """
        The page is there while the port listens or one of its connections
        lives.
        """
        status = freePort()
        factory = Factory.forProtocol(Protocol)
        port = yield self.endpoint(f"status={status}").listen(factory)
        for _ in range(2):
            with connect(port.getHost().port):
                for _ in range(SECONDS * 10):
                    code, body = yield deferToThread(fetch, status, "/metrics")
                    if 'state="open"} 1.0' in body:
                        break
                self.assertIn(
                    'connections{monitor="tcp:0:interface=127.0.0.1",state="open"} 1.0',
                    body,
                )
                yield port.stopListening()
                code, _ = yield deferToThread(fetch, status, "/health")
                self.assertEqual(code, 200)
            yield self.until(lambda: refused(status))
            yield deferLater(reactor, 0.1)
            port.startListening()
        yield port.stopListening()
        yield self.until(lambda: refused(status))

    @inlineCallbacks
    def test_inUse(self) -> Any:
        """
        Where the page cannot be, nothing listens.
        """
        ports: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = self.endpoint(f"status={taken.getsockname()[1]}")
            inner = endpoint.endpoint._endpoint
            listen = inner.listen
            self.patch(
                inner,
                "listen",
                lambda factory: listen(factory).addCallback(
                    lambda port: ports.append(port) or port
                ),
            )
            yield self.assertFailure(endpoint.listen(Factory()), CannotListenError)
        (port,) = ports
        self.assertTrue(port.disconnected)

    @inlineCallbacks
    def test_service(self) -> Any:
        """
        The drain of a service behind the endpoint is told too.
        """
        endpoint = self.endpoint("status=tcp\\:0\\:interface=127.0.0.1")
        monitor = endpoint.endpoint.monitor
        service = DrainingService(endpoint, Factory.forProtocol(Protocol))
        for _ in range(2):
            service.startService()
            self.assertFalse(monitor.draining)
            yield deferLater(reactor, 0.05)
            drained = service.stopService()
            self.assertTrue(monitor.draining)
            yield drained

    def test_wrong(self) -> None:
        """
        What is no endpoint is told in one line, and a client has no page.
        """
        for status, problem in (
            ("nonsense", "'nonsense': Unknown endpoint type: 'nonsense'"),
            ("", "term: must be followed by an endpoint, such as term:tcp:8080"),
            ("tcp\\:x", "'tcp:x"),
        ):
            error = self.assertRaises(ValueError, self.endpoint, f"status={status}")
            plain = status.replace("\\", "")
            self.assertIn(
                f"status={plain!r}: must be a port of 127.0.0.1, such as 8024, or an"
                " endpoint, such as tcp\\:8024\\:interface=10.0.0.1: ",
                str(error),
            )
            self.assertIn(problem, str(error))
            self.assertNotIn("\n", str(error))
        error = self.assertRaises(ValueError, self.endpoint, "statusHosts=a.example")
        self.assertEqual(
            str(error), "statusHosts='a.example': needs status, such as status=8024"
        )
        error = self.assertRaises(
            ValueError, clientFromString, reactor, "term:tcp:h:1:status=1"
        )
        self.assertEqual(str(error), "status='1': a client is not watched")

    def test_web(self) -> None:
        """
        C{twistd web} has a page without any code, which shows its drain.
        """
        listen = "term:tcp:0:interface=127.0.0.1:status=0:statusHosts=a.example,b.c"
        server = Server(self, (*TWISTD, "web", f"--listen={listen}", "--path=."))
        port = int(server.wait(r"Site starting on (\d+)")[1])
        status = int(server.wait(SECOND_PORT)[1])
        self.assertEqual(fetch(port, "/")[0], 200)
        code, metrics = fetch(status, "/metrics", "b.c")
        self.assertEqual(code, 200)
        self.assertRegex(metrics, r'terminations_total\{.*outcome="clean"\} 1\.0\n')
        self.assertEqual(fetch(status, "/", "a.example:80")[0], 200)
        self.assertEqual(fetch(status, "/", "evil.example")[0], 421)
        self.assertEqual(fetch(status, "/ready"), (200, "ready\n"))
        with connect(port):  # who does not close it
            server.terminate()
            server.wait("draining, 1 connection")
            self.assertEqual(fetch(status, "/ready"), (503, "draining\n"))
            _, metrics = fetch(status, "/metrics")
            self.assertRegex(metrics, r"twisted_term_draining\{.*\} 1.0\n")
            self.assertRegex(metrics, r"twisted_term_drain_seconds\{.*\} [0-9]")
        self.assertEqual(server.end(), 0)
        self.assertNotIn("Traceback", server.log)


def refused(port: int) -> bool:
    """
    Does nobody listen there?
    """
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


class ServerTests(SynchronousTestCase):
    """
    C{twistd termserver --status}, in a process of its own.
    """

    def test_counts(self) -> None:
        """
        Known ends are counted as what they are, told to a viewer, and have
        their stages in the page.
        """
        watched = browser.Watched(self)
        stream = Stream(watched.status)
        first = stream.next()
        ends = (watched.clean, watched.slow, watched.aborted, watched.reset)
        for end in (*ends, watched.expired):
            end()
        last, rows = first, []
        before = len(first["ended"])
        while last["last"] < first["last"] + 5:
            last = stream.next()
            rows += last["ended"]
        changed = {
            name: last["counts"][name] - count
            for name, count in first["counts"].items()
            if name in last["counts"] and not name.startswith(("state", "connections"))
        }
        self.assertEqual(
            {name: count for name, count in changed.items() if count},
            {
                "CLEAN-LOCAL": 2,
                "ABORTED-LOCAL": 1,
                "RESET_BY_PEER-PEER": 1,
                "LINGER_EXPIRED-LOCAL": 1,
                "ended-LOCAL": 4,
                "ended-PEER": 1,
            },
        )
        self.assertEqual(len(rows), 5)
        _, page = fetch(watched.status, "/")
        self.assertEqual(page.count('<tr role="row"><th scope="row"'), 5 + before)
        stages = ["flush", "FIN", "linger", "FIN_from_the_peer", "closed"]
        found = [
            re.findall(r"<li>(.*?) <span>", row)
            for row in rows
            if "clean, by local" in row
        ]
        wanted = [stage.replace("_", " ") for stage in stages]
        self.assertEqual(found, [wanted, wanted])
        (expired,) = (row for row in rows if "linger expired" in row)
        self.assertNotIn("FIN from the peer", expired)
        code, metrics = fetch(watched.status, "/metrics")
        self.assertEqual(code, 200)
        self.assertIn(
            'twisted_term_terminations_total{initiator="local",monitor="termserver",'
            'outcome="clean"} 2.0',
            metrics,
        )

    def test_drain(self) -> None:
        """
        While the server drains the status port answers, C{/ready} with 503 and
        a viewer with the numbers; then both are gone, with status 0 and
        whatever the viewers do: one of them never reads.
        """
        watched = browser.Watched(self)
        stream = Stream(watched.status)
        stream.next()
        idle = connect(watched.status)
        deaf = connect(
            watched.status, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        self.addCleanup(idle.close)
        self.addCleanup(deaf.close)
        client = connect(watched.port, b"WAIT 3\nCLOSE\n")
        while stream.next()["counts"]["state-FLUSHING"] != 1:
            pass
        watched.server.terminate()
        watched.server.wait("draining, 1 connections left")
        self.assertEqual(fetch(watched.status, "/ready"), (503, "draining\n"))
        self.assertEqual(fetch(watched.status, "/health"), (200, "healthy\n"))
        last = event = stream.next()
        while event is not None:
            last, event = event, stream.next()
        self.assertEqual(last["ready"], False)
        again = Stream(watched.status)
        self.assertEqual(again.next()["summary"].split()[0], "Draining:")
        self.assertIs(again.next(), None)
        self.assertEqual(receiveAll([client]), [(b"DONE\n", "FIN")])
        self.assertEqual(watched.server.end(), 0)
        for word in ("Traceback", "Unhandled", "unclean"):
            self.assertNotIn(word, watched.server.log)


@once
class BrowserTests(SynchronousTestCase):
    """
    The page in headless Chromium.
    """

    skip = browser.missing()

    def text(self, name: str) -> str:
        return self.driver.execute_script(
            "return document.getElementById(arguments[0]).textContent", name
        )

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, "nothing happens")
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def test_live(self) -> None:
        """
        The numbers change without a reload; nothing is wider than a phone; the
        tables have their names; updates can be paused; a drain, and the end,
        are told.
        """
        watched = browser.Watched(self)
        watched.clean()
        self.driver = driver = browser.browser(self)
        browser.resize(driver, 360)
        driver.get(watched.url)
        driver.execute_script("window.same = true")
        self.until(lambda: self.text("CLEAN-LOCAL") == "1")
        before = int(self.text("ended-LOCAL"))
        client = connect(watched.port)
        self.until(lambda: self.text("state-OPEN") == "1")
        client.close()
        watched.slow()
        watched.aborted()
        self.until(lambda: int(self.text("ended-LOCAL")) == before + 2)
        self.assertEqual(self.text("state-OPEN"), "0")
        self.assertIn("FIN from the peer", self.text("recent"))
        self.assertTrue(driver.execute_script("return window.same"))
        for width in (360, 1000):
            browser.resize(driver, width)
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(wide, width)
        for width in (360, 1000):
            browser.resize(driver, width)
            tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            names = [
                (node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in tree
                if not node["ignored"]
            ]
            tables = [name for role, name in names if role == "table"]
            self.assertEqual(
                tables,
                [
                    "Connections by state",
                    "Ended connections by outcome",
                    "Not delivered",
                    "Recent terminations, the newest first, 50 at most",
                ],
            )
            roles = [role for role, _ in names]
            self.assertIn("status", roles)
            self.assertIn("main", roles)
            for header in ("Peer", "How it ended", "Timeline"):
                self.assertIn(("columnheader", header), names)
        self.assertEqual(self.complaints(), [])

        driver.execute_script("document.getElementById('pause').click()")
        self.assertEqual(self.text("status"), "Updates are paused.")
        watched.aborted()
        time.sleep(1.5)
        self.assertEqual(int(self.text("ended-LOCAL")), before + 2)
        driver.execute_script("document.getElementById('pause').click()")
        self.until(lambda: int(self.text("ended-LOCAL")) == before + 3)

        client = connect(watched.port, b"WAIT 2\nCLOSE\n")
        self.until(lambda: self.text("connections") == "1")
        watched.server.terminate()
        self.until(lambda: self.text("status").startswith("Draining: 1 connections"))
        self.assertEqual(self.complaints(), [])
        receiveAll([client])
        self.until(lambda: "does not answer" in self.text("status"))
        self.assertEqual(watched.server.end(), 0)
