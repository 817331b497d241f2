"""
C{twistd termserver}: its options and its service.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet.endpoints import serverFromString
from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError

from .demo import DemoFactory
from .endpoints import TerminatingServerEndpoint
from .policy import TerminationPolicy, parseLimit

_DEFAULT_LISTEN = "tcp:8023:interface=127.0.0.1"
_POLICY = {
    "flush-timeout": ("flushTimeout", "Reset when the peer takes nothing so long."),
    "work-timeout": ("workTimeout", "Reset when work in flight sends nothing so long."),
    "linger-time": ("lingerTime", "Linger for so long in all."),
    "linger-idle": ("lingerIdle", "Linger for so long without incoming bytes."),
    "linger-bytes": ("lingerBytes", "Discard at most so many bytes while lingering."),
    "half-close-idle": (
        "halfCloseIdle",
        "Reset a half-closed connection when nothing arrives so long.",
    ),
}


class Options(BaseOptions):
    """
    The command line.
    """

    synopsis = "[options]"
    longdesc = (
        "A line server that shows how connections end without losing data."
        " Commands: ECHO text, SEND n, PUSH n, PULL n, WAIT seconds, SHUTDOWN,"
        " CLOSE, ABORT, STATUS, HELP; they may be pipelined. Limits are in"
        " seconds (bytes for --linger-bytes), or none for no limit. Try:"
        " printf 'SEND 100\\nCLOSE\\n' | nc 127.0.0.1 8023"
    )
    optParameters = [
        [flag, None, getattr(TerminationPolicy, name), text]
        for flag, (name, text) in _POLICY.items()
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        Listen on this endpoint, with or without a leading term: (repeatable)
        [default: tcp:8023:interface=127.0.0.1]
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """
        Check what can be checked before anything starts.
        """
        limits = {}
        for flag, (name, _) in _POLICY.items():
            if self[flag] is not None:
                try:
                    limits[name] = parseLimit(name, str(self[flag]))
                except ValueError as error:
                    raise UsageError(f"--{flag}: {error}") from None
        self["policy"] = TerminationPolicy(**limits)  # type: ignore[arg-type]
        self["listen"] = self["listen"] or [_DEFAULT_LISTEN]


def makeService(options: Options) -> MultiService:
    """
    The demo's service, one listener for each C{--listen}.

    @raise UsageError: for an endpoint that cannot be parsed.
    """
    from twisted.internet import reactor

    service = MultiService()
    factory = DemoFactory(reactor)
    for description in options["listen"]:
        try:
            endpoint: Any = serverFromString(reactor, description)
        except Exception as error:
            raise UsageError(f"--listen {description!r}: {error}") from None
        if not isinstance(endpoint, TerminatingServerEndpoint):
            endpoint = TerminatingServerEndpoint(endpoint, options["policy"])
        elif endpoint.policy == TerminationPolicy():
            endpoint.policy = options["policy"]
        listening = StreamServerEndpointService(endpoint, factory)
        listening._raiseSynchronously = True
        listening.setServiceParent(service)
    return service


__all__ = ["Options", "makeService"]
