"""
C{twistd termserver}: its options and its service.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure
from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError
from zope.interface import implementer

from ..drain.agent import AgentFactory
from ..drain.drainer import DRAIN_TIMEOUT
from ..drain.service import DrainingService
from ..policy import TerminationPolicy, parseLimit
from ..status.endpoint import onLoopback
from ..status.monitor import Monitor
from ..strings import namesIn, parseSeconds
from .demo import DemoFactory

_DEFAULT_LISTEN = "tcp:8023:interface=127.0.0.1"
# What is served beside the demo, with an example of where.
_BESIDE = {
    "status": "tcp:8024:interface=127.0.0.1",
    "agent": "tcp:8025:interface=127.0.0.1",
}
# A browser may keep an idle connection for long after our FIN.
_BESIDE_POLICY = {"lingerIdle": "1"}
_BESIDE_DRAIN = 2.0
_POLICY = {
    "flush-timeout": (
        "flushTimeout",
        "Reset when the peer has acknowledged nothing for so long.",
    ),
    "work-timeout": (
        "workTimeout",
        "Reset when work in flight has sent nothing for so long.",
    ),
    "linger-time": (
        "lingerTime",
        "After FIN, wait for the peer's FIN so long in all.",
    ),
    "linger-idle": (
        "lingerIdle",
        "After FIN, wait so long without incoming bytes.",
    ),
    "linger-bytes": (
        "lingerBytes",
        "After FIN, discard at most so many incoming bytes.",
    ),
    "half-close-idle": (
        "halfCloseIdle",
        "After SHUTDOWN, reset when nothing has arrived for so long.",
    ),
}
_MANUAL = r"""
A line server that shows how connections end without losing data.  Limits are
in seconds (--linger-bytes: in bytes), or none.  They apply once an end is asked
for.  An option in an endpoint string overrides that one limit there:
--listen term:tcp:8024:lingerTime=10

Commands, each on a line of its own; they may be pipelined, and are answered in
order:

  ECHO text     answer text
  SEND n        n bytes in one write; 64 MiB at most, of all connections
  PUSH n        n bytes through a push producer
  PULL n        n bytes through a pull producer
  WAIT seconds  keep the connection in flight, then answer DONE
  SHUTDOWN      half-close: FIN after all that came before, and go on reading
  CLOSE         lingering close: FIN after all that came before
  CLOSENOW      close now, and wait for nothing
  ABORT         reset the connection
  STATUS        connections by state, and ended ones by outcome, as JSON
  HELP          the commands

Try this; all bytes arrive, then the end, and the log says how it ended:

  printf 'PUSH 1000000\nWAIT 1\nCLOSE\n' | nc 127.0.0.1 8023 | wc -c

A client that does not read its answers gets no more of them until it does.

SIGTERM and SIGINT drain: listening stops, each connection ends when what it
has asked for is done, and then the process.  A second one, half a second later
or more, resets them all.
"""


def _default(name: str) -> str:
    limit = getattr(TerminationPolicy, name)
    return "none" if limit is None else f"{limit:g}"


class Options(BaseOptions):
    """
    The command line.
    """

    synopsis = "[options]"
    longdesc = ""
    optParameters = [
        [flag, None, _default(name), text] for flag, (name, text) in _POLICY.items()
    ] + [
        [
            "drain-timeout",
            None,
            f"{DRAIN_TIMEOUT:g}",
            "Once listening has stopped, reset what is left after so long.",
        ],
        [
            "readiness-delay",
            None,
            "0",
            "After SIGTERM, go on listening for so long: /ready says 503 already.",
        ],
        [
            "status",
            None,
            None,
            "Serve a status page and metrics on this endpoint, such as "
            f"{_BESIDE['status']}, or port of 127.0.0.1.",
        ],
        [
            "agent",
            None,
            None,
            "Answer HAProxy's agent-check on this endpoint, or port of 127.0.0.1.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["status-host"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        Listen on this endpoint; repeatable [default: tcp:8023:interface=127.0.0.1]
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_status_host(self, name: str) -> None:
        """
        A name by which the status page may be asked for, beside addresses and
        local names; repeatable
        """
        self["status-host"].append(name)

    def getUsage(self, width: Optional[int] = None) -> str:
        """
        The options, and a manual.
        """
        return super().getUsage(width).rstrip() + "\n" + _MANUAL

    def postOptions(self) -> None:
        """
        Check the limits.
        """
        names = {flag: name for flag, (name, _) in _POLICY.items()}
        for flag, name in {**names, "drain-timeout": "drainTimeout"}.items():
            try:
                parseLimit(name, self[flag])
            except ValueError as error:
                complaint = str(error).replace(name, f"--{flag}", 1)
                raise UsageError(complaint) from None
        try:
            parseSeconds("--readiness-delay", self["readiness-delay"])
        except ValueError as error:
            raise UsageError(str(error)) from None
        self["listen"] = self["listen"] or [_DEFAULT_LISTEN]


class CannotListen(SystemExit, UsageError):
    """
    Ends twistd with one line.  It is a SystemExit because twistd prints a traceback
    for every other exception.  It is an Exception (UsageError is one) because only
    for an Exception twistd removes its pid file, and tells the process that waits for
    the daemon.
    """

    def __init__(self, option: str, endpoint: str, problem: object) -> None:
        super().__init__(f"twistd termserver: --{option} {endpoint!r}: {problem}")


@implementer(IStreamServerEndpoint)
class _Named:
    """
    An endpoint whose name is its text on the command line.
    """

    def __init__(
        self, reactor: Any, option: str, text: str, policy: dict[str, str], example: str
    ) -> None:
        """
        @param policy: options for C{term:}; those in C{text} come before them.
        @raise CannotListen: for a text that cannot be parsed.
        """
        self.name = option, text
        given = namesIn(text)
        ours = [
            f"{name}={value}" for name, value in policy.items() if name not in given
        ]
        try:
            self.endpoint = serverFromString(reactor, ":".join(["term", *ours, text]))
        except Exception as error:
            problem = f"must be an endpoint, such as {example}: {error}"
            raise CannotListen(*self.name, problem) from error

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen; fails with L{CannotListen} if a port is in use, for example.
        """
        listening: Deferred[Any] = self.endpoint.listen(factory)

        def failed(failure: Failure) -> None:
            raise CannotListen(*self.name, failure.value) from failure.value

        return listening.addErrback(failed)


def endpoints(options: Options, reactor: Any) -> list[_Named]:
    """
    Make an endpoint for each C{--listen}.

    @raise CannotListen: for a text that cannot be parsed.
    """
    policy = {name: options[flag] for flag, (name, _) in _POLICY.items()}
    return [
        _Named(reactor, "listen", text, policy, _DEFAULT_LISTEN)
        for text in options["listen"]
    ]


def makeService(options: Options) -> Service:
    """
    The demo's service, with the status page and the agent if they are asked for.

    @raise CannotListen: for an endpoint that cannot be parsed.
    """
    from twisted.internet import reactor

    first, *others = endpoints(options, reactor)
    beside = {
        option: _Named(
            reactor, option, onLoopback(options[option]), _BESIDE_POLICY, example
        )
        for option, example in _BESIDE.items()
        if options[option] is not None
    }
    factory: Any = DemoFactory(reactor)
    factories: dict[str, Any] = {}
    if "status" in beside:
        # The page needs a web server, which is loaded only if it is asked for.
        from ..status.resource import statusSite

        monitor = Monitor(name="termserver")
        factory = monitor.wrap(factory)
        factories["status"] = statusSite(monitor, options["status-host"])
    timeout = parseLimit("drainTimeout", options["drain-timeout"])
    delay = parseSeconds("readinessDelay", options["readiness-delay"])
    service = DrainingService(
        first, factory, drainTimeout=timeout, readinessDelay=delay
    )
    for endpoint in others:
        service.addEndpoint(endpoint, factory)
    if not beside:
        return service
    factories["agent"] = AgentFactory(service)
    together = MultiService()
    service.setServiceParent(together)
    for option, endpoint in beside.items():
        # The page shows the drain until the drain is over.
        DrainingService(
            endpoint, factories[option], drainTimeout=_BESIDE_DRAIN, onSignal=False
        ).setServiceParent(together)
    return together


__all__ = ["CannotListen", "Options", "endpoints", "makeService"]
