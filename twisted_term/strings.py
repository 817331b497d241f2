"""
Endpoint strings: C{term:} before any other description.

The grammar is Twisted's own.  After C{term:} comes the inner description, and
anywhere among its C{name=value} arguments the names of
L{twisted_term.TerminationPolicy}, and for a server those of the drain,
C{drainTimeout}, C{readinessDelay} and C{onSignal}:
C{term:tcp:8080:lingerTime=10}.  All else belongs to the inner endpoint, its
escapes (C{\\:}, C{\\=}, C{\\\\}) included.
"""

from __future__ import annotations

from typing import Any, Callable

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from .endpoints import TerminatingClientEndpoint, TerminatingServerEndpoint
from .policy import TerminationPolicy, parseLimit, policyOptions


def _yesOrNo(name: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{name}={text!r}: must be yes or no")
    return text == "yes"


def parseSeconds(name: str, text: str) -> float:
    """
    Read a time that has to be given, such as C{"10"} or C{"0.5"}.

    @raise ValueError: naming the option, its value and what is allowed.
    """
    seconds = parseLimit(name, text)
    if seconds is None:
        raise ValueError(f"{name}={text!r}: must be a number of seconds, 0 or more")
    return seconds


#: The options of a server's drain, and how each is read.
_DRAIN: dict[str, Callable[[str, str], Any]] = {
    "drainTimeout": parseLimit,
    "readinessDelay": parseSeconds,
    "onSignal": _yesOrNo,
}
_OPTIONS = (*policyOptions, *_DRAIN)


def quote(argument: str) -> str:
    """
    Escape an argument for an endpoint string.  Twisted's
    C{quoteStringArgument} leaves C{=} alone, which would turn a positional
    argument that has one into a named one.
    """
    for character in "\\:=":
        argument = argument.replace(character, "\\" + character)
    return argument


def split(args: tuple[str, ...], kwargs: dict[str, str]) -> tuple[str, dict[str, str]]:
    """
    Part our options from the inner description.

    @raise ValueError: if the inner description is missing.
    """
    while args and args[0] == "term":  # wrapping twice changes nothing
        args = args[1:]
    if not args or not args[0]:
        raise ValueError("term: must be followed by an endpoint, such as term:tcp:8080")
    ours = {name: text for name, text in kwargs.items() if name in _OPTIONS}
    inner = [quote(arg) for arg in args] + [
        f"{quote(name)}={quote(text)}"
        for name, text in kwargs.items()
        if name not in ours
    ]
    return ":".join(inner), ours


def build(fromString: Callable[[Any, str], Any], reactor: Any, inner: str) -> Any:
    """
    Make the inner endpoint.

    @raise ValueError: in one line, for whatever the inner endpoint's parser
        raises: TypeError for arguments that it does not take, OSError for a
        certificate that is not there, and others.
    """
    try:
        return fromString(reactor, inner)
    except Exception as error:
        problem = " ".join(str(error).split())
        if isinstance(error, TypeError):
            problem += f"; term: takes {', '.join(_OPTIONS)}"
        raise ValueError(f"{inner!r}: {problem}") from None


@implementer(
    IPlugin,
    IStreamServerEndpointStringParser,
    IStreamClientEndpointStringParserWithReactor,
)
class TermParser:
    """
    The parser of C{term:}, for servers and clients.
    """

    prefix = "term"

    def parseStreamServer(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> TerminatingServerEndpoint:
        """
        @raise ValueError: for a wrong option.
        """
        inner, ours = split(args, kwargs)
        drain = {
            name: read(name, ours.pop(name))
            for name, read in _DRAIN.items()
            if name in ours
        }
        policy = TerminationPolicy.fromStrings(**ours)
        endpoint = build(serverFromString, reactor, inner)
        return TerminatingServerEndpoint(endpoint, policy, reactor=reactor, **drain)

    def parseStreamClient(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> TerminatingClientEndpoint:
        """
        @raise ValueError: for a wrong option.
        """
        inner, ours = split(args, kwargs)
        for name in _DRAIN:
            if name in ours:
                raise ValueError(f"{name}={ours[name]!r}: a client is not drained")
        policy = TerminationPolicy.fromStrings(**ours)
        return TerminatingClientEndpoint(
            build(clientFromString, reactor, inner), policy
        )


__all__ = ["TermParser", "build", "parseSeconds", "quote", "split"]
