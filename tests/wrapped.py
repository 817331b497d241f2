"""
Runs test suites that know nothing of this package over wrapped connections: each
factory that a reactor or an endpoint of Twisted's is given is wrapped as
C{term:} does it, without the drain.

It is the part of L{tests.suites} that runs in a process of its own::

    python -m tests.wrapped wrapped|bare FOLDER NAME ...

runs what trial would run for each C{NAME}, in C{FOLDER}, and adds a line of JSON
to C{FOLDER/results} for each test that begins and for each that ends.  A test
that has begun there before is left out.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable
from unittest import TestSuite

from twisted.internet import endpoints
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.posixbase import PosixReactorBase
from twisted.trial import util
from twisted.trial.reporter import Reporter
from twisted.trial.runner import TestLoader, TrialRunner

from twisted_term import (
    TerminatingClientEndpoint,
    TerminatingFactory,
    TerminationPolicy,
)

#: One of the tests has a peer that never stops sending.
POLICY = TerminationPolicy(lingerTime=1.0)
#: Seconds for a test that has no timeout of its own, and not trial's 120.
TIMEOUT = 20.0

_REACTOR = (
    "listenTCP",
    "connectTCP",
    "listenSSL",
    "connectSSL",
    "listenUNIX",
    "connectUNIX",
    "adoptStreamPort",
    "adoptStreamConnection",
)
_INNER = ("_wrappedEndpoint", "_endpoint")


def _isWrapped(factory: Any) -> bool:
    """
    Is there a wrapping around it, or in it, already?
    """
    while factory is not None:
        if isinstance(factory, TerminatingFactory):
            return True
        inner = getattr(factory, "_wrappedFactory", None)
        factory = getattr(factory, "wrappedFactory", inner)
    return False


def _wrap(factory: Any) -> Any:
    return factory if _isWrapped(factory) else TerminatingFactory(factory, POLICY)


def _isReal(endpoint: Any) -> bool:
    """
    Does it open sockets?  Tests with a reactor in memory look at what it is given.
    """
    for name in _INNER:
        if hasattr(endpoint, name):
            return _isReal(getattr(endpoint, name))
    return isinstance(getattr(endpoint, "_reactor", None), ReactorBase)


def _wrappingReactor(original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.arguments["factory"] = _wrap(bound.arguments["factory"])
        return original(*bound.args, **bound.kwargs)

    return method


def _wrappingServer(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def listen(self: Any, factory: Any) -> Any:
        return original(self, _wrap(factory) if _isReal(self) else factory)

    return listen


class _Unwrapped:
    """
    A client endpoint, as it is without this module.
    """

    def __init__(self, connect: Callable[..., Any]) -> None:
        self.connect = connect


def _wrappingClient(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any, factory: Any) -> Any:
        inner = functools.partial(original, self)
        if _isWrapped(factory) or not _isReal(self):
            return inner(factory)
        return TerminatingClientEndpoint(_Unwrapped(inner), POLICY).connect(factory)

    return connect


def _withoutStop(original: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    # Our abort resets at once, so that the aborting side is the last one to
    # hear of it, in a delayed call.  An asyncio reactor that is stopped in
    # one leaves behind the call with which it wakes itself up.
    def getDelayedCalls(self: Any) -> list[Any]:
        return [
            call
            for call in original(self)
            if "AsyncioSelectorReactor.stop" not in str(call.func)
        ]

    return getDelayedCalls


def install(patch: Callable[[Any, str, Any], object] = setattr) -> None:
    """
    Wrap from now on.

    @param patch: sets an attribute; that of a test case undoes it.
    """
    for name in _REACTOR:
        original = getattr(PosixReactorBase, name)
        patch(PosixReactorBase, name, _wrappingReactor(original))
    delayed = _withoutStop(AsyncioSelectorReactor.getDelayedCalls)
    patch(AsyncioSelectorReactor, "getDelayedCalls", delayed)
    kinds = (("listen", _wrappingServer), ("connect", _wrappingClient))
    for found in list(vars(endpoints).values()):
        for name, wrapping in kinds:
            if inspect.isclass(found) and name in vars(found):
                patch(found, name, wrapping(getattr(found, name)))


class _Recorder(Reporter):
    """
    Writes down what happens, at once.
    """

    results: Path

    def _note(self, test: Any, end: str, why: object = "") -> None:
        with self.results.open("a") as results:
            results.write(json.dumps([test.id(), end, str(why)]) + "\n")

    def startTest(self, test: Any) -> None:
        self._note(test, "begun")
        super().startTest(test)

    def addSuccess(self, test: Any) -> None:
        self._note(test, "passed")

    def addSkip(self, test: Any, reason: Any) -> None:
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, *args: Any) -> None:
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any, *args: Any) -> None:
        self._note(test, "unexpected success")

    def addFailure(self, test: Any, why: Any) -> None:
        self._note(test, "failed", self._formatFailureTraceback(self._getFailure(why)))

    addError = addFailure

    def done(self) -> None:
        pass


def _each(suite: Any) -> Iterator[Any]:
    try:
        inner = iter(suite)
    except TypeError:
        yield suite
    else:
        for one in inner:
            yield from _each(one)


def main(mode: str, folder: str, *names: str) -> None:
    """
    Run.
    """
    if mode == "wrapped":
        install()
    util.DEFAULT_TIMEOUT_DURATION = TIMEOUT
    results = Path(folder, "results").absolute()
    results.touch()
    begun = {json.loads(line)[0] for line in results.open()}
    found = _each(TestLoader().loadByNames(list(names), recurse=True))
    left = TestSuite(test for test in found if test.id() not in begun)
    _Recorder.results = results
    runner = TrialRunner(_Recorder, workingDirectory=os.path.join(folder, "trial"))
    runner.run(left)


if __name__ == "__main__":
    main(*sys.argv[1:])
