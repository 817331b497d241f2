"""
Policies and endpoint strings.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import TerminatingServerEndpoint, TerminationPolicy
from twisted_term.strings import split


class PolicyTests(SynchronousTestCase):
    def test_errors(self) -> None:
        """
        A bad value is named, with what is allowed.
        """
        for value, error in ((-1, ValueError), ("x", TypeError), (True, TypeError)):
            bad: Any = value
            complaint = self.assertRaises(error, TerminationPolicy, lingerTime=bad)
            self.assertIn(f"lingerTime={value!r}: must be", str(complaint))
        nan = float("nan")
        self.assertRaises(ValueError, TerminationPolicy, flushTimeout=nan)

    def test_strings(self) -> None:
        """
        Texts are read, and C{none} is no limit.
        """
        policy = TerminationPolicy.fromStrings(lingerTime="0.5", lingerIdle="none")
        self.assertEqual(policy.lingerTime, 0.5)
        self.assertIsNone(policy.lingerIdle)


class StringTests(SynchronousTestCase):
    def test_innerSurvives(self) -> None:
        """
        The inner string's options and escapes survive.
        """
        inner, ours = split(
            ("unix", "/tmp/a=b:c\\d"), {"mode": "660", "lingerTime": "7"}
        )
        self.assertEqual(inner, "unix:/tmp/a\\=b\\:c\\\\d:mode=660")
        self.assertEqual(ours, {"lingerTime": "7"})

    def test_plugin(self) -> None:
        """
        Twisted finds the parser, for servers and clients.
        """
        reactor = MemoryReactorClock()
        endpoint = serverFromString(reactor, "term:tcp:8080:lingerTime=10")
        assert isinstance(endpoint, TerminatingServerEndpoint)
        assert endpoint.policy is not None
        self.assertEqual(endpoint.policy.lingerTime, 10)
        clientFromString(reactor, "term:tcp:127.0.0.1:80:lingerIdle=none")

    def test_errors(self) -> None:
        """
        A bad option and a bad inner endpoint are one-line errors, for servers
        and clients.
        """
        reactor = MemoryReactorClock()
        names = "term: takes flushTimeout, workTimeout, lingerTime, "
        for text, part in (
            ("term:tcp:8080:lingerTime=soon", "lingerTime='soon': must be"),
            ("term:tcp:8080:lingerBytes=1.5", "lingerBytes='1.5': must be a whole"),
            ("term:haproxy:index=0", "'haproxy:index=0': "),
            ("term:ssl:0:/none/such:/none/such", "'ssl:0:/none/such:/none/such': "),
            ("term:a\nb", "Unknown endpoint type: 'a b'"),
            ("term", "must be followed by an endpoint, such as term:tcp:8080"),
            ("term:", "must be followed by an endpoint"),
            ("term:term:lingerTime=1", "must be followed by an endpoint"),
            ("term:nonsense:1", "Unknown endpoint type: 'nonsense'"),
            ("term:unix", names),
            ("term:unix:/a:lingertime=1", names),
        ):
            for fromString in (serverFromString, clientFromString):
                error = self.assertRaises(ValueError, fromString, reactor, text)
                self.assertIn(part, str(error))
                self.assertNotIn("\n", str(error))
