"""
Twisted's own transport tests, over wrapped connections: on the reactor that
C{TEST_REACTOR} names, or else on each of the epoll and select reactors.  They
build reactors of their own.  L{tests.suites} runs all the rest.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.test import test_tcp, test_tls, test_unix
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


def _uvloopReactor() -> AsyncioSelectorReactor:
    import uvloop

    return AsyncioSelectorReactor(uvloop.new_event_loop())


class Wrapping:
    """
    Wraps all that a built reactor listens or connects with.
    """

    def setUp(self) -> None:
        case: Any = self
        tests = type(case).__mro__[2]
        name = f"{tests.__module__}.{tests.__name__}.{case._testMethodName}"
        why = reason(name, {**REASONS, **FAULTS})
        if why is not None:
            case.skipTest(why)
        install(case.patch)
        super().setUp()  # type: ignore[misc]


for _module in (test_tcp, test_tls, test_unix):
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
