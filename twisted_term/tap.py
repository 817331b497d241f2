"""
C{twistd termserver}: its options and its service.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure
from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError
from zope.interface import implementer

from .demo import DemoFactory
from .endpoints import DRAIN_TIMEOUT
from .policy import TerminationPolicy, parseLimit
from .service import DrainingService

_DEFAULT_LISTEN = "tcp:8023:interface=127.0.0.1"
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
  SEND n        n bytes in one write
  PUSH n        n bytes through a push producer
  PULL n        n bytes through a pull producer
  WAIT seconds  keep the connection in flight, then answer DONE
  SHUTDOWN      half-close: FIN after all that came before, and go on reading
  CLOSE         lingering close: FIN after all that came before
  ABORT         reset the connection
  STATUS        connections by state, and ended ones by outcome, as JSON
  HELP          the commands

Try this; all bytes arrive, then the end, and the log says how it ended:

  printf 'PUSH 1000000\nWAIT 1\nCLOSE\n' | nc 127.0.0.1 8023 | wc -c

SIGTERM and SIGINT drain: listening stops, each connection ends when what it
has asked for is done, and then the process.  A second one resets them all.
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
            "After SIGTERM, reset what is left after so long.",
        ]
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        Listen on this endpoint; repeatable [default: tcp:8023:interface=127.0.0.1]
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

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
        self["listen"] = self["listen"] or [_DEFAULT_LISTEN]


class CannotListen(SystemExit, UsageError):
    """
    Ends twistd with one line.  It is a SystemExit because twistd lets a
    traceback out for all else, and an Exception because twistd removes its
    pid file, and tells the process that waits for a daemon, for those alone.
    """

    def __init__(self, endpoint: str, problem: object) -> None:
        super().__init__(f"twistd termserver: --listen {endpoint!r}: {problem}")


@implementer(IStreamServerEndpoint)
class _Named:
    """
    An endpoint that is known by what the command line says.
    """

    def __init__(self, text: str, endpoint: Any) -> None:
        self.text = text
        self.endpoint = endpoint

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen; fails with L{CannotListen} if a port is in use, for example.
        """
        listening: Deferred[Any] = self.endpoint.listen(factory)

        def failed(failure: Failure) -> None:
            raise CannotListen(self.text, failure.value) from failure.value

        return listening.addErrback(failed)


def endpoints(options: Options, reactor: Any) -> list[_Named]:
    """
    One for each C{--listen}.

    @raise CannotListen: for one that cannot be parsed.
    """
    # The last one of two equal names wins, so these are the defaults.
    policy = ":".join(f"{name}={options[flag]}" for flag, (name, _) in _POLICY.items())
    found = []
    for text in options["listen"]:
        try:
            endpoint = serverFromString(reactor, f"term:{policy}:{text}")
        except Exception as error:
            problem = f"must be an endpoint, such as {_DEFAULT_LISTEN}: {error}"
            raise CannotListen(text, problem) from error
        found.append(_Named(text, endpoint))
    return found


def makeService(options: Options) -> DrainingService:
    """
    The demo's service.

    @raise CannotListen: for an endpoint that cannot be parsed.
    """
    from twisted.internet import reactor

    first, *others = endpoints(options, reactor)
    factory = DemoFactory(reactor)
    timeout = parseLimit("drainTimeout", options["drain-timeout"])
    service = DrainingService(first, factory, drainTimeout=timeout)
    for endpoint in others:
        service.addEndpoint(endpoint, factory)
    return service


__all__ = ["CannotListen", "Options", "endpoints", "makeService"]
