"""
Twisted's own transport tests, over wrapped connections: on the reactor that
C{TEST_REACTOR} names, or else on each of the epoll and select reactors.  They
build reactors of their own.  L{tests.suites} runs all the rest.
"""

from __future__ import annotations

import os
from fnmatch import filter as matching
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.test import test_newtls, test_tcp, test_tls, test_unix
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase

from .suites import FAULTS, REASONS, reason
from .wrapped import install

_REACTORS = {
    "epoll": ("EPollReactor",),
    "poll": ("PollReactor",),
    "select": ("SelectReactor",),
    "asyncio": ("AsyncioSelectorReactor",),
    "uvloop": ("AsyncioSelectorReactor",),
}.get(os.environ.get("TEST_REACTOR", ""), ("EPollReactor", "SelectReactor"))


_WITHOUT = {**REASONS, **FAULTS}


def _uvloopReactor() -> AsyncioSelectorReactor:
    import uvloop

    return AsyncioSelectorReactor(uvloop.new_event_loop())


def _named(case: type, method: str) -> str:
    return f"{case.__module__}.{case.__name__}.{method}"


class Wrapping:
    """
    Wraps all that a built reactor listens or connects with.
    """

    def setUp(self) -> None:
        case: Any = self
        name = _named(type(case).__mro__[2], case._testMethodName)
        why = reason(name, _WITHOUT)
        if why is not None:
            case.skipTest(why)
        install(case.patch)
        super().setUp()  # type: ignore[misc]


_found: list[str] = []
for _module in (test_newtls, test_tcp, test_tls, test_unix):
    for _name, _case in list(vars(_module).items()):
        if (
            isinstance(_case, type)
            and issubclass(_case, ReactorBuilder)
            and issubclass(_case, SynchronousTestCase)
            and _name.endswith(tuple(f"_{reactor}Tests" for reactor in _REACTORS))
        ):
            _more: dict[str, Any] = {"__module__": __name__}
            if os.environ.get("TEST_REACTOR") == "uvloop":
                _more["reactorFactory"] = staticmethod(_uvloopReactor)
            globals()[_name] = type(_name, (Wrapping, _case), _more)
            _found += (_named(_case, name) for name in dir(_case))


class TableTests(SynchronousTestCase):
    def test_named(self) -> None:
        """
        Each reason names a test that Twisted has.
        """
        for pattern in _WITHOUT:
            if pattern.startswith("twisted.internet.test."):
                self.assertTrue(matching(_found, pattern), pattern)
