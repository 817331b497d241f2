"""
C{twistd termserver}: its command line, and a server that it starts.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_term import TerminationPolicy
from twisted_term.termserver.demo import DemoProtocol
from twisted_term.termserver.tap import CannotListen, endpoints, makeService

from .support import options, receive

_SECONDS = 30
_TWISTD = [
    sys.executable,
    "-c",
    "from twisted.scripts.twistd import run; run()",
    "--nodaemon",
    "--pidfile=",
    "termserver",
]


def policies(*arguments: str) -> list[TerminationPolicy]:
    """
    The policy of each listener.
    """
    return [found.policy for found in wrapped(*arguments)]


def wrapped(*arguments: str) -> list[Any]:
    """
    The endpoint of each listener.
    """
    return [named.endpoint for named in endpoints(options(*arguments), reactor)]


class OptionTests(SynchronousTestCase):
    """
    What the command line comes to.
    """

    def test_default(self) -> None:
        """
        One listener on 127.0.0.1:8023, with the default policy.
        """
        (found,) = wrapped()
        inner: Any = found.endpoint
        self.assertEqual((inner._port, inner._interface), (8023, "127.0.0.1"))
        self.assertEqual(found.policy, TerminationPolicy())

    def test_listen(self) -> None:
        """
        C{--listen} may be repeated, with and without a leading C{term:},
        which makes no difference.
        """
        found = wrapped(
            "--listen=tcp:1",
            "--listen=term:tcp:2",
            "-lterm:term:tcp:3",
            "-l",
            "term:lingerTime=9:tcp:4",
            "-ltcp:5:lingerTime=9",
        )
        self.assertEqual([each.endpoint._port for each in found], [1, 2, 3, 4, 5])
        default, other = TerminationPolicy(), TerminationPolicy(lingerTime=9)
        policies = [each.policy for each in found]
        self.assertEqual(policies, [default, default, default, other, other])

    def test_policy(self) -> None:
        """
        Every limit is an option; texts are read as in endpoint strings.
        """
        expected = TerminationPolicy(1, 2.5, 3, 4, 5, None)
        found = policies(
            "--flush-timeout=1",
            "--work-timeout=2.5",
            "--linger-time=3",
            "--linger-idle=4",
            "--linger-bytes=5",
            "--half-close-idle=None",
            "--listen=tcp:1",
            "--listen=term:tcp:2",
        )
        self.assertEqual(found, [expected, expected])

    def test_ownOption(self) -> None:
        """
        An option in an endpoint string overrides that one option there, also
        with the default's value.
        """
        found = policies(
            "--linger-time=7",
            "--linger-idle=8",
            "--listen=term:tcp:1:lingerTime=30",
            "--listen=term:tcp:2:lingerBytes=9",
            "--listen=term:tcp:3",
        )
        expected = [
            TerminationPolicy(lingerTime=30, lingerIdle=8),
            TerminationPolicy(lingerTime=7, lingerIdle=8, lingerBytes=9),
            TerminationPolicy(lingerTime=7, lingerIdle=8),
        ]
        self.assertEqual(found, expected)

    def test_help(self) -> None:
        """
        The help has every option with its default, and every command.
        """
        usage = options().getUsage(80)
        words = " ".join(usage.split())
        for text in (
            "-l, --listen=",
            "[default: tcp:8023:interface=127.0.0.1]",
            "--flush-timeout= Reset when the peer has acknowledged nothing",
            "[default: 600]",
            "--linger-bytes= After FIN, discard at most so many incoming bytes."
            " [default: none]",
        ):
            self.assertIn(text, words)
        for name in dir(DemoProtocol):
            if name.startswith("do_"):
                self.assertIn(f"\n  {name[3:]} ", usage)
        self.assertLessEqual(max(map(len, usage.splitlines())), 80)

    def test_badOptions(self) -> None:
        """
        A bad limit is named as it was written, with what is allowed.
        """
        seconds = "must be a number of seconds, 0 or more, or none"
        for argument, complaint in (
            ("--linger-time=x", f"--linger-time='x': {seconds}"),
            ("--linger-time=", f"--linger-time='': {seconds}"),
            ("--linger-idle=nan", f"--linger-idle=nan: {seconds}"),
            ("--flush-timeout=-1", f"--flush-timeout=-1.0: {seconds}"),
            ("--work-timeout=inf", f"--work-timeout=inf: {seconds}"),
            ("--half-close-idle=1s", f"--half-close-idle='1s': {seconds}"),
            ("--drain-timeout=soon", f"--drain-timeout='soon': {seconds}"),
            ("--readiness-delay=soon", f"--readiness-delay='soon': {seconds}"),
            (
                "--readiness-delay=none",
                "--readiness-delay='none': must be a number of seconds, 0 or more",
            ),
            (
                "--linger-bytes=1.5",
                "--linger-bytes='1.5': must be a whole number of bytes, 0 or more,"
                " or none",
            ),
        ):
            error = self.assertRaises(UsageError, options, argument)
            self.assertEqual(str(error), complaint)
        self.assertRaises(UsageError, options, "--nonsense=1")
        self.assertRaises(UsageError, options, "nonsense")


#: What C{--listen} cannot be, and a part of what is said of it.
_BAD_ENDPOINTS = (
    ("", "term: must be followed by an endpoint"),
    ("nonsense", "Unknown endpoint type: 'nonsense'"),
    ("term:", "term: must be followed by an endpoint, such as term:tcp:8080"),
    ("term:term", "term: must be followed by an endpoint"),
    ("term:nonsense:1", "Unknown endpoint type: 'nonsense'"),
    ("tcp", "missing 1 required positional argument: 'port'"),
    ("tcp:x", "'x'"),
    ("term:tcp:8080:lingerTime=-1", "lingerTime=-1.0: must be a number of seconds"),
    ("tcp:8080:lingerTime=soon", "lingerTime='soon': must be a number of seconds"),
    (
        "tcp:8080:lingering=1",
        "there is no option lingering, did you mean linger?; term: takes flushTimeout,"
        " workTimeout, lingerTime, lingerIdle, lingerBytes, halfCloseIdle",
    ),
)


class EndpointTests(TestCase):
    """
    What is said of a C{--listen} that is no endpoint, or is in use.
    """

    def test_bad(self) -> None:
        """
        One line names the endpoint, and what is wrong with it.
        """
        for endpoint, part in _BAD_ENDPOINTS:
            parsed = options("--listen=tcp:0", "--listen", endpoint)
            error = self.assertRaises(CannotListen, makeService, parsed)
            self.assertIn(part, str(error))
            start = f"twistd termserver: --listen {endpoint!r}: must be an endpoint, "
            self.assertTrue(str(error).startswith(start), error)
            self.assertNotIn("\n", str(error))

    def test_beside(self) -> None:
        """
        The same with what is served beside it.
        """
        for option, port in (("status", 8024), ("agent", 8025)):
            parsed = options("--listen=tcp:0", f"--{option}=nonsense")
            error = self.assertRaises(CannotListen, makeService, parsed)
            self.assertEqual(
                str(error),
                f"twistd termserver: --{option} 'nonsense': must be an endpoint, such"
                f" as tcp:{port}:interface=127.0.0.1: 'nonsense': Unknown endpoint"
                " type: 'nonsense'",
            )

    def test_inUse(self) -> None:
        """
        A port that is in use is named.
        """
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        endpoint = f"tcp:{port.getHost().port}:interface=127.0.0.1"
        service = makeService(options("--listen", endpoint))
        error = self.assertRaises(CannotListen, service.privilegedStartService)
        start = f"twistd termserver: --listen {endpoint!r}: Couldn't listen on "
        self.assertTrue(str(error).startswith(start), error)
        self.assertIsInstance(error, UsageError)  # an Exception


class TwistdTests(SynchronousTestCase):
    """
    The real thing, in a process of its own.
    """

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        twistd = subprocess.Popen(
            [*_TWISTD, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        overdue = threading.Timer(_SECONDS, twistd.kill)
        overdue.start()
        self.addCleanup(overdue.cancel)
        self.addCleanup(twistd.wait)
        self.addCleanup(twistd.kill)
        return twistd

    def test_help(self) -> None:
        """
        C{--help} is the options, the commands and an example.
        """
        output, _ = self.start("--help").communicate()
        self.assertTrue(output.startswith("Usage: twistd [options] termserver"))
        self.assertTrue("| nc 127.0.0.1 8023 | wc -c\n" in output)

    def test_badInput(self) -> None:
        """
        Bad input ends the process with a status that says so; what is wrong
        is in the last line, and there is no traceback.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            inUse = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            cases = [
                ("--linger-time=x", "--linger-time='x': must be a number of seconds"),
                ("--listen=tcp:99999", "'tcp:99999': bind(): port must be 0-65535"),
                (f"--listen={inUse}", f"'{inUse}': Couldn't listen on 127.0.0.1:"),
                *((f"--listen={bad}", part) for bad, part in _BAD_ENDPOINTS[:3]),
            ]
            processes = [self.start(argument) for argument, _ in cases]
            # What twistd makes of an option that it rejects itself: older ones 0.
            unknown = self.start("--unknown")
            unknown.communicate()
            for (argument, part), twistd in zip(cases, processes):
                output, _ = twistd.communicate()
                listens = argument.startswith("--listen")
                status = 1 if listens else unknown.returncode
                self.assertEqual(twistd.returncode, status, argument)
                self.assertIn(part, output.rstrip().splitlines()[-1])
                self.assertNotIn("Traceback", output)
                # twistd itself puts the help before what is wrong with an option.
                if listens:
                    count = len(
                        [x for x in output.splitlines() if "UnixAppLogger" not in x]
                    )
                    self.assertEqual(count, 1, output)

    def test_log(self) -> None:
        """
        Each ended connection is one readable line of the log.
        """
        twistd = self.start("--listen=tcp:0:interface=127.0.0.1")
        log = twistd.stdout
        assert log is not None
        for line in log:
            found = re.search(r"starting on (\d+)", line)
            if found:
                break
        assert found is not None
        names, lines = [], []
        for request, expected in (
            (b"SEND 1000\nCLOSE\n", r"clean, by local; delivered"),
            (b"PUSH 1000000\nSHUTDOWN\n", r"clean, by local; delivered"),
            (b"ABORT\n", r"aborted, by local"),
        ):
            client = socket.create_connection(("127.0.0.1", int(found[1])), _SECONDS)
            with client:
                names.append((client.getsockname()[1], expected))
                client.sendall(request)
                receive(client)
            # The line is there before anybody stops the server.
            for line in log:
                lines.append(line)
                if str(names[-1][0]) in line:
                    break
        twistd.terminate()
        rest, _ = twistd.communicate()
        lines += rest.splitlines()
        for port, expected in names:
            (line,) = (line for line in lines if re.search(rf"\b{port}\b", line))
            self.assertRegex(line, rf"127\.0\.0\.1.*{expected}.*open \d")
