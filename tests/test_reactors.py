"""
A suite that says it runs on a reactor does so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import SkipTest

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

_CLASSES = {
    "epoll": ["EPollReactor", "NoneType"],
    "poll": ["PollReactor", "NoneType"],
    "select": ["SelectReactor", "NoneType"],
    "asyncio": ["AsyncioSelectorReactor", "_UnixSelectorEventLoop"],
    "uvloop": ["AsyncioSelectorReactor", "Loop"],
}
_CHILD = """
from twisted.internet import reactor
for thing in (reactor, getattr(reactor, "_asyncioEventloop", None)):
    print(type(thing).__name__)
"""


class ReactorTests(SynchronousTestCase):
    """
    The reactor is the one of C{TEST_REACTOR}.
    """

    def setUp(self) -> None:
        if "TEST_REACTOR" not in os.environ:
            raise SkipTest("TEST_REACTOR is not set")
        self.expected = _CLASSES[os.environ["TEST_REACTOR"]]

    def test_here(self) -> None:
        """
        In this process.
        """
        loop = getattr(reactor, "_asyncioEventloop", None)
        self.assertEqual(
            [type(thing).__name__ for thing in (reactor, loop)], self.expected
        )

    def test_processes(self) -> None:
        """
        In the processes that tests start.
        """
        said = subprocess.check_output((sys.executable, "-c", _CHILD), text=True)
        self.assertEqual(said.split(), self.expected)
