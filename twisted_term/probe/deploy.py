"""
C{term-probe deploy}: what is lost when a server is told to stop.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import threading
import time
from argparse import (
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Optional

from . import http1
from .answers import BadAnswer
from .cases import Probe
from .client import Limits
from .loads import FLIGHTS, EventStream, Fate, Flight, Idle, Outcome, Socket, Through
from .options import Parser, addConnection, connectTo, fail, number
from .output import say
from .progress import Progress
from .stopping import CommandStop, ProcessStop, ReloadStop, Stop
from .targets import HTTPTarget

#: Clients that ask a balancer, and seconds until and behind the reload.
_BALANCED, _AROUND = 4, 1.0
_DESCRIPTION = """\
What is lost when a server is told to stop?  Loads it, sends the signal, and
says what became of each client.

  term-probe deploy http://host:port/path -- COMMAND ...   starts and stops it
  term-probe deploy http://host:port/path --pid PID        stops what runs
  term-probe deploy http://host:port/path --reload COMMAND reloads what runs

While the server is told, it stands still (SIGSTOP), so that what has to come
right before the signal does so; with --reload that needs --pid as well.  Exit
status: 1 where something that had been accepted was lost; else 2 for an error,
3 if the server does not end within --limit, and 0.
"""
_MANUAL = """\
the clients

{}

whole: the answer came to its end; ended: nothing was due, and FIN came; trunc:
FIN in mid-answer; none: FIN and no answer; refused: it could not connect.
"""


class Round(NamedTuple):
    """
    One stop.

    @ivar end: how the server ended; C{None} if it has not.
    @ivar seconds: from the signal to that.
    @ivar outcomes: what became of the clients, by the name of their sort.
    """

    end: Optional[str]
    seconds: float
    outcomes: dict[str, list[Outcome]]

    def asJSON(self) -> dict[str, Any]:
        """
        As a machine reads it.
        """
        cases = {
            name: [
                {
                    "fate": one.fate.value,
                    "lost": one.lost,
                    "seconds": round(one.seconds, 4),
                    "note": one.note,
                }
                for one in outcomes
            ]
            for name, outcomes in self.outcomes.items()
        }
        return {"end": self.end, "seconds": round(self.seconds, 4), "cases": cases}


class Deploy:
    """
    The rounds.
    """

    def __init__(self, given: Namespace) -> None:
        self.target = HTTPTarget(given.target, given.method, given.header)
        self.sorts = [self._sort(flight) for flight in FLIGHTS]
        if given.stream is not None:
            self.target.at(given.stream)
            self.sorts.append(lambda site: EventStream(site, given.stream))
        if given.websocket is not None:
            self.target.at(given.websocket)
            self.sorts.append(lambda site: Socket(site, given.websocket))
        self._given = given
        self._balancer: Optional[Probe[HTTPTarget]] = None
        if given.through is not None:
            self._balancer = self._probe(HTTPTarget(given.through, "GET", given.header))

    @staticmethod
    def _sort(flight: type[Flight]) -> Callable[[Any], Flight]:
        return flight

    def _probe(self, target: HTTPTarget) -> Probe[HTTPTarget]:
        """
        @raise OSError: if it cannot be connected to.
        """
        limits = Limits(self._given.patience)
        return Probe(target, connectTo(target, self._given), limits, 0)

    def play(self, tell: Callable[[str], None] = lambda text: None) -> Round:
        """
        One stop.

        @param tell: is told what is under way.

        @raise OSError: if the server cannot be started or connected to.
        @raise BadAnswer: if it answers something else.
        """
        with contextlib.ExitStack() as stack:
            tell("starting")
            stop = self._start(stack)
            site = self._probe(self.target)
            tell("reference")
            site.learn(http1.polite)
            tell("loading")
            flights = self._ready(site, stack)
            balanced = stack.enter_context(self._throughBalancer())
            tell("stopping")
            with ThreadPoolExecutor(len(flights) + 1) as pool:
                with stop.frozen():
                    for flight in flights:
                        flight.strike()
                    since = time.monotonic()
                    stop.tell()
                finishing = [pool.submit(_finish, flight) for flight in flights]
                end = stop.wait(self._given.limit)
                seconds = time.monotonic() - since
                if end is None and isinstance(stop, CommandStop):
                    stop.kill()
                outcomes: dict[str, list[Outcome]] = {}
                for flight, future in zip(flights, finishing):
                    outcomes.setdefault(flight.name, []).append(future.result())
            balanced.set()
        if self._balancer is not None:
            outcomes[Through.name] = self._seen
        return Round(end, seconds, outcomes)

    def _start(self, stack: contextlib.ExitStack) -> Stop:
        given = self._given
        if given.reload is not None:
            return ReloadStop(given.reload, given.pid)
        if given.pid is not None:
            return ProcessStop(given.pid, given.signal)
        if _isTaken(self.target, given):
            raise OSError("something listens there before the command is started")
        stop = CommandStop(given.command, given.signal)
        stack.callback(stop.kill)
        stop.awaitListening(lambda: connectTo(self.target, given))
        return stop

    def _ready(
        self, site: Probe[HTTPTarget], stack: contextlib.ExitStack
    ) -> list[Flight]:
        flights = []
        for sort in self.sorts:
            for _ in range(self._given.connections):
                flight = sort(site)
                stack.callback(flight.close)
                flight.prepare()
                if not isinstance(flight, Idle) or flight.kept:
                    flights.append(flight)
        return flights

    @contextlib.contextmanager
    def _throughBalancer(self) -> Iterator[threading.Event]:
        """
        Clients ask it while the context lasts.
        """
        stop = threading.Event()
        self._seen: list[Outcome] = []
        if self._balancer is None:
            yield stop
            return
        self._balancer.learn(http1.polite)
        clients = [Through(self._balancer) for _ in range(_BALANCED)]

        def ask(client: Through) -> None:
            while not stop.is_set():
                client.ask()

        threads = [threading.Thread(target=ask, args=[one]) for one in clients]
        for thread in threads:
            thread.start()
        try:
            time.sleep(_AROUND)
            yield stop
            time.sleep(_AROUND)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for client in clients:
                self._seen += client.outcomes


def _finish(flight: Flight) -> Outcome:
    try:
        return flight.finish()
    except (OSError, BadAnswer) as error:
        return Outcome(Fate.FAILED, True, 0.0, str(error))
    finally:
        flight.close()


def _isTaken(target: HTTPTarget, given: Namespace) -> bool:
    with contextlib.suppress(OSError):
        connectTo(target, given)
        return True
    return False


def lost(rounds: Sequence[Round]) -> int:
    """
    How many clients have lost something.
    """
    return sum(
        one.lost for r in rounds for outcomes in r.outcomes.values() for one in outcomes
    )


def status(rounds: Sequence[Round]) -> int:
    """
    The exit status.
    """
    if lost(rounds):
        return 1
    return 3 if any(one.end is None for one in rounds) else 0


_TITLES = {
    Fate.WHOLE: "whole",
    Fate.ENDED: "ended",
    Fate.FAILED: "failed",
    Fate.TRUNCATED: "trunc",
    Fate.UNANSWERED: "none",
    Fate.RESET: "reset",
    Fate.HANGS: "hangs",
    Fate.REFUSED: "refused",
}


def table(rounds: Sequence[Round]) -> list[str]:
    """
    For people.
    """
    titles = "".join(f"{title:>8}" for title in _TITLES.values())
    lines = [f"{'client':10}{'lost':>6}{titles}"]
    names = dict.fromkeys(name for one in rounds for name in one.outcomes)
    for name in names:
        outcomes = [one for r in rounds for one in r.outcomes.get(name, [])]
        counts = "".join(
            f"{sum(one.fate is fate for one in outcomes) or '':>8}" for fate in _TITLES
        )
        count = sum(one.lost for one in outcomes)
        lines.append(f"{name:10}{count or '':>6}{counts}".rstrip())
    for one in rounds:
        end = one.end or "not ended"
        lines.append(f"{end}, {one.seconds:.1f} s behind the signal")
    return lines


def _signal(text: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except (KeyError, AttributeError):
        problem = "must be the name of a signal, as TERM, HUP or QUIT"
        raise ArgumentTypeError(f"{text!r}: {problem}") from None


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: must be a command: {error}") from None
    if not words:
        raise ArgumentTypeError(f"{text!r}: must be a command")
    return words


def _parse(arguments: Sequence[str]) -> Namespace:
    sorts: list[type[Flight]] = [*FLIGHTS, EventStream, Socket, Through]
    shown = [f"  {sort.name:10} {sort.sentence}" for sort in sorts]
    parser = Parser(
        "term-probe deploy",
        description=_DESCRIPTION,
        epilog=_MANUAL.format("\n".join(shown)),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("target", help="http://host:port/path, or https:")
    whole = "a whole number from 1 to {}"
    parser.add_argument(
        "--pid",
        type=number(int, 2, 1 << 22, "the id of a process"),
        help="tell this one",
    )
    parser.add_argument(
        "--reload", type=_words, metavar="COMMAND", help="run this to reload it"
    )
    parser.add_argument(
        "--signal", type=_signal, default=signal.SIGTERM, help="(default: TERM)"
    )
    parser.add_argument("--stream", metavar="PATH", help="a stream of events")
    parser.add_argument("--websocket", metavar="PATH", help="a WebSocket")
    parser.add_argument(
        "--through", metavar="URL", help="count what clients of a balancer see"
    )
    parser.add_argument(
        "--connections",
        type=number(int, 1, 100, whole.format(100)),
        default=3,
        help="of each sort (default: 3)",
    )
    parser.add_argument(
        "--rounds", type=number(int, 1, 1000, whole.format(1000)), default=1
    )
    parser.add_argument(
        "--limit",
        type=number(float, 1, 3600, "a number of seconds from 1 to 3600"),
        default=60.0,
        metavar="SECONDS",
        help="the server may take so long to end (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    addConnection(parser)
    split = list(arguments).index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:split])
    given.command = [*arguments[split + 1 :]]
    ways = (given.command != [], given.pid is not None, given.reload is not None)
    if ways not in {
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (False, True, True),
    }:
        parser.error("needs one of: -- COMMAND, --pid PID, --reload COMMAND")
    if given.pid is not None and given.reload is None and given.rounds > 1:
        parser.error(f"--rounds {given.rounds}: a process can be stopped once")
    return given


def run(arguments: Sequence[str]) -> int:
    """
    The command.

    @return: the exit status.
    """
    given = _parse(arguments)
    rounds: list[Round] = []
    progress = Progress(given.rounds)
    try:
        try:
            deploy = Deploy(given)
            while len(rounds) < given.rounds:
                progress.show("starting")
                rounds.append(deploy.play(progress.rename))
        finally:
            progress.stop()
    except ValueError as error:
        fail(str(error))
    except BrokenPipeError:
        raise
    except (OSError, BadAnswer) as error:
        fail(f"{given.target!r}: {error}")
    if given.json:
        document = {
            "schema": 1,
            "target": given.target,
            "lost": lost(rounds),
            "rounds": [one.asJSON() for one in rounds],
        }
        say(json.dumps(document, indent=1))
    else:
        say("\n".join(table(rounds)))
        count = lost(rounds)
        say(f"{given.target}: {f'{count} lost' if count else 'nothing is lost'}")
    return status(rounds)


__all__ = ["Deploy", "Round", "lost", "run", "status", "table"]
