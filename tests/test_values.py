"""
Policies and endpoint strings.
"""

from __future__ import annotations

import gc
import socket
import weakref
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import TerminatingServerEndpoint, TerminationPolicy
from twisted_term._addresses import addressText
from twisted_term._waiters import Waiters
from twisted_term.policy import parseLimit
from twisted_term.strings import split


class WaitersTests(SynchronousTestCase):
    """
    Several callers of one end.
    """

    def test_cancelled(self) -> None:
        """
        One that is cancelled is forgotten, and the others are told, in order.
        """
        waiters: Waiters[int] = Waiters()
        told: list[Any] = []
        first = waiters.wait().addCallback(
            lambda result: told.append(("first", result))
        )
        gone = weakref.ref(cancelled := waiters.wait())
        last = waiters.wait()
        last.addCallback(lambda result: told.append(("last", result)))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        del cancelled
        gc.collect()
        self.assertIs(gone(), None)
        first.addCallback(lambda ignored: other.cancel())
        other = waiters.wait()
        waiters.fire(7)
        self.failureResultOf(other, CancelledError)
        self.assertEqual(told, [("first", 7), ("last", 7)])
        self.assertEqual(self.successResultOf(waiters.wait()), 7)


class AddressTests(SynchronousTestCase):
    """
    Addresses in the log and on the page.
    """

    def test_text(self) -> None:
        """
        What an operator can type; always one line.
        """
        for address, text in (
            (IPv4Address("TCP", "127.0.0.1", 40146), "127.0.0.1:40146"),
            (IPv6Address("TCP", "::1", 40146), "[::1]:40146"),
            (UNIXAddress(b"/run/a b"), "unix:/run/a b"),
            (UNIXAddress("\0hidden"), "unix:@hidden"),
            (UNIXAddress(None), "unix:"),
            (UNIXAddress(b""), "unix:"),
            ("some\nthing", "some thing"),
            (None, "None"),
        ):
            self.assertEqual(addressText(address), text)

    def test_real(self) -> None:
        """
        A UNIX socket's peer has no name.
        """
        here, there = socket.socketpair(socket.AF_UNIX)
        with here, there:
            peer = UNIXAddress(here.getpeername() or None)
            self.assertEqual(addressText(peer), "unix:")


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

    def test_tooMuch(self) -> None:
        """
        What is more than anybody waits for is named, and not shown in full.
        """
        seconds, size = "1000000000 seconds", "1000000000000000000 bytes"
        for name, bad, said in (
            ("flushTimeout", 10**400, f"too much: must be {seconds}"),
            ("flushTimeout", 10**5000, f"too much: must be {seconds}"),
            ("flushTimeout", 1e308, f"too much: must be {seconds}"),
            ("lingerTime", 2e9, f"2000000000.0: must be {seconds}"),
            ("lingerBytes", 10**400, f"too much: must be {size}"),
            ("lingerBytes", 10**18 + 1, f"1000000000000000001: must be {size}"),
        ):
            error = self.assertRaises(ValueError, TerminationPolicy, **{name: bad})
            self.assertEqual(str(error), f"{name}={said} or less, or none")
        for name, text, said in (
            ("lingerBytes", "9" * 400, f"too much: must be {size} or less, or none"),
            ("lingerBytes", "9" * 5000, "99...': must be a whole number of bytes,"),
            ("lingerTime", "9" * 400, "inf: must be a number of seconds, 0 or more"),
            ("lingerTime", "x" * 5000, "xx...': must be a number of seconds, 0 or"),
        ):
            error = self.assertRaises(ValueError, parseLimit, name, text)
            self.assertIn(said, str(error))
            self.assertTrue(str(error).startswith(f"{name}="))
            self.assertLess(len(str(error)), 200)
        TerminationPolicy(flushTimeout=10**9, lingerBytes=10**18)

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
