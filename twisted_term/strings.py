"""
Endpoint strings: C{term:} before any other description.

The grammar is Twisted's own.  After C{term:} comes the inner description.  Among its
C{name=value} arguments there may be, in any place, the options of
L{twisted_term.TerminationPolicy}, and for a server those of the drain
(C{drainTimeout}, C{readinessDelay} and C{onSignal}) and those of what is served beside
it (C{status}, C{statusHosts} and C{agent}): C{term:tcp:8080:lingerTime=10}.  All other
arguments, with their escapes (C{\\:}, C{\\=}, C{\\\\}), belong to the inner endpoint.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
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
    Read a time that may not be C{none}, such as C{"10"} or C{"0.5"}.

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
#: The options of what is served beside a server, see L{twisted_term.status.endpoint}.
_BESIDE = ("status", "statusHosts", "agent")
_OPTIONS = (*policyOptions, *_DRAIN, *_BESIDE)
#: The modules of commands that are given endpoint strings.
_COMMANDS = ("twisted.scripts.twistd", "twisted.application.twist._twist")
#: The functions of Twisted that parse endpoint strings.
_PARSE = ("serverFromString", "clientFromString")
_UNKNOWN = re.compile(r"unexpected keyword argument '(.*)'")
_ARGUMENT = re.compile(r"((?:\\.|[^:\\])+)")
_NAME = re.compile(r"((?:\\.|[^=\\])*)=")


def quote(argument: str) -> str:
    """
    Escape an argument for an endpoint string.  Twisted's C{quoteStringArgument} does
    not escape C{=}, so that a positional argument with C{=} would become a named one.
    """
    for character in "\\:=":
        argument = argument.replace(character, "\\" + character)
    return argument


def split(args: tuple[str, ...], kwargs: dict[str, str]) -> tuple[str, dict[str, str]]:
    """
    Separate our options from the inner description.

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


def namesIn(description: str) -> list[str]:
    """
    The names of the C{name=value} arguments of an endpoint string, in order.
    """
    found = map(_NAME.match, _ARGUMENT.findall(description))
    return [name[1] for name in found if name is not None]


def checkTwice() -> None:
    """
    Call this in a method that Twisted's parser calls.

    @raise ValueError: if an argument of the whole string is given twice.  Twisted
        silently takes the last one, and the method gets only that one.
    """
    # The caller is a method of the parser, and its caller knows the string.
    known = sys._getframe(2)
    description = known.f_locals.get("description")
    if known.f_code.co_name in _PARSE and isinstance(description, str):
        names = namesIn(description)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{description!r}: {name} is given twice")


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
        raise ValueError(f"{inner!r}: {_problem(error)}") from None


def _hasTLS() -> bool:
    """
    Are the libraries of Twisted's extra C{tls} installed?
    """
    try:
        import twisted.internet.ssl
    except ImportError:
        return False
    return bool(twisted.internet.ssl.supported)


def _problem(error: Exception) -> str:
    """
    One line that says what is wrong, and what to do about it.
    """
    problem = " ".join(str(error).split())
    if isinstance(error, (ImportError, NameError)) and not _hasTLS():
        return "TLS needs more libraries: pip install 'twisted[tls]'"
    if not isinstance(error, TypeError):
        return problem
    unknown = _UNKNOWN.search(problem)
    if unknown is not None:
        near = get_close_matches(unknown[1], _OPTIONS, 1)
        problem = f"there is no option {unknown[1]}"
        if near:
            problem += f", did you mean {near[0]}?"
    return f"{problem}; term: takes {', '.join(_OPTIONS)}"


@contextmanager
def _oneLine() -> Iterator[None]:
    """
    Let C{twistd} and C{twist} end with the one line of a C{ValueError}.  They print a
    traceback for every exception but SystemExit.
    """
    try:
        yield
    except ValueError as error:
        if any(name in sys.modules for name in _COMMANDS):
            raise WrongString(str(error)) from None
        raise


class WrongString(SystemExit, ValueError):
    """
    What C{term:} raises for a wrong string that was given to a command of Twisted's.
    """


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
        with _oneLine():
            checkTwice()
            return self._server(reactor, *split(args, kwargs))

    def _server(
        self, reactor: Any, inner: str, ours: dict[str, str]
    ) -> TerminatingServerEndpoint:
        drain = {
            name: read(name, ours.pop(name))
            for name, read in _DRAIN.items()
            if name in ours
        }
        beside = {name: ours.pop(name) for name in _BESIDE if name in ours}
        policy = TerminationPolicy.fromStrings(**ours)
        endpoint = build(serverFromString, reactor, inner)
        if beside:
            # This is loaded only if an option asks for it.
            from .status.endpoint import watched

            endpoint = watched(reactor, endpoint, inner, **beside)
        return TerminatingServerEndpoint(endpoint, policy, reactor=reactor, **drain)

    def parseStreamClient(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> TerminatingClientEndpoint:
        """
        @raise ValueError: for a wrong option.
        """
        with _oneLine():
            checkTwice()
            return self._client(reactor, *split(args, kwargs))

    def _client(
        self, reactor: Any, inner: str, ours: dict[str, str]
    ) -> TerminatingClientEndpoint:
        for names, done in ((_DRAIN, "drained"), (_BESIDE, "watched")):
            for name in names:
                if name in ours:
                    raise ValueError(f"{name}={ours[name]!r}: a client is not {done}")
        policy = TerminationPolicy.fromStrings(**ours)
        return TerminatingClientEndpoint(
            build(clientFromString, reactor, inner), policy
        )


__all__ = [
    "TermParser",
    "WrongString",
    "build",
    "namesIn",
    "parseSeconds",
    "quote",
    "split",
]
