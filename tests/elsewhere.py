"""
The tests of connections as if this were no Linux: the package's ways for other
systems are forced, in the servers that the tests start too
(C{tests/startup/sitecustomize.py})::

    python -m tests.elsewhere

A test of what Linux alone can do is skipped, with its reason.  If modules of tests are
named on the command line, such as C{tests.test_ends}, only these run.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Callable

from twisted.scripts import trial
from twisted.trial.unittest import SkipTest

#: The modules of tests that are about connections and their ends.
_MODULES = (
    "conformance",
    "delivery",
    "discard",
    "drain",
    "drainer",
    "elsewhere",
    "ends",
    "hook",
    "linger",
    "signals",
    "sockets",
    "stuck",
    "tls",
    "transport",
    "web",
    "wrapping",
)

#: The tests that are skipped, by their reason.  C{*} stands for a whole class.
SKIPS: dict[str, tuple[str, ...]] = {
    "it asserts what was delivered, and nobody can ask what is acknowledged": (
        "test_delivery.DeliveryTests.*",
        "test_delivery.SilentPeerTests.*",
        "test_ends.CloseNowTests.test_nothingUnsent",
        "test_ends.CloseNowTests.test_unsent",
        "test_hook.SocketTests.test_abortive",
        "test_sockets.EndTests.test_clean",
        "test_sockets.EndTests.test_endsAnother",
        "test_sockets.EndTests.test_exception",
        "test_sockets.EndTests.test_greeting",
        "test_sockets.EndTests.test_neverReads",
        "test_sockets.EndTests.test_resetWithBytesOutstanding",
        "test_stuck.StuckTests.test_thousand",
        "test_tls.HalfCloseTests.test_truncated",
        "test_tls.HandshakeTests.test_neverFinished",
        "test_tls.PeerTests.test_curl",
        "test_tls.PeerTests.test_openssl",
        "test_tls.PeerTests.test_python",
        "test_wrapping.WrappingTests.test_endpointsTwice",
        "test_wrapping.WrappingTests.test_factory",
        "test_wrapping.WrappingTests.test_factoryTwice",
        "test_wrapping.WrappingTests.test_mixin",
        "test_wrapping.WrappingTests.test_mixinInWrapper",
        "test_wrapping.WrappingTests.test_mixinPolicy",
        "test_wrapping.WrappingTests.test_strings",
    ),
    "nobody can ask whether a connection that is not read was reset": (
        "test_ends.PeerTests.test_bytesAfterPeerFin",
        "test_ends.PeerTests.test_resetWhileHeld",
        "test_hook.SocketTests.test_reset",
    ),
    "a reset while another process has the socket needs connect() to AF_UNSPEC": (
        "test_sockets.EndTests.test_abortWithDuplicate",
    ),
    "Linux alone discards in the kernel (MSG_TRUNC)": (
        "test_discard.DiscardTests.test_plain",
        "test_discard.DoReadTests.*",
    ),
    "Linux alone tells how many connections wait to be accepted": (
        "test_drainer.SocketTests.test_queue",
    ),
}


def skipping(reason: str) -> Callable[..., Any]:
    """
    A function that takes the place of a test, and skips.
    """

    def skipped(self: Any, *arguments: Any) -> None:
        raise SkipTest(reason)

    return skipped


def skip() -> None:
    """
    Replace what is to be skipped.

    @raise AttributeError: for a name that is no test.
    """
    from . import test_conformance

    for case in vars(test_conformance).values():
        if getattr(case, "knowsDelivery", False):
            case.knowsDelivery = False
    for reason, names in SKIPS.items():
        for name in names:
            module, case, method = name.split(".")
            found = getattr(import_module(f"tests.{module}"), case)
            if method == "*":
                found.skip = reason
            else:
                getattr(found, method)  # is there
                setattr(found, method, skipping(reason))


def main() -> None:
    """
    Run the tests; does not return.
    """
    if "TEST_ELSEWHERE" not in os.environ:  # which all processes read at their start
        os.environ["TEST_ELSEWHERE"] = "1"
        os.execv(
            sys.executable, [sys.executable, "-m", "tests.elsewhere", *sys.argv[1:]]
        )
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    skip()
    wanted = named or [f"tests.test_{name}" for name in _MODULES]
    sys.argv = ["trial", *options, *wanted]
    trial.run()


if __name__ == "__main__":
    main()
