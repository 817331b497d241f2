"""
What a connection costs: GET, the answer, and the end; 16 at a time.

For bare Twisted, C{WrappingFactory}, a half-close by hand (the floor of a
lingering close in Twisted) and twisted_term: connections per second, and the
server's CPU time for each connection, user and system; and with --calls how
many functions it calls for each, under cProfile, builtins included.
In parentheses are the ratios to bare Twisted, and in the last lines those of
twisted_term to the half-close by hand, as medians of the rounds.  Other load on
the machine is in the rates, and hardly in the CPU time.

    python benchmarks/connections.py [--calls] [--rounds 9] [--seconds 0.7]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import signal
import sys
import tempfile
from contextlib import ExitStack

import rivals
import table
from load import Load
from processes import Rival, Server
from turns import rows, takeTurns

_NAMES = ("bare Twisted", "WrappingFactory", "half-close by hand", "twisted_term")
#: Seconds; the first connections of a process import modules.
_WARM = 0.2


class _Profiled(Server):
    """
    A server that counts its calls between two signals.
    """

    def __init__(self, name: str) -> None:
        super().__init__(Rival([sys.executable, __file__, "--serve", name]))

    def toggle(self) -> int:
        """
        @return: how many calls there have been.
        """
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        return int(self.process.stdout.readline())


def _serve(name: str) -> None:
    """
    Be that server.
    """
    profile = cProfile.Profile()
    counting = False

    def toggle(number: int, frame: object) -> None:
        nonlocal counting
        profile.disable()
        # A profile without calls has no statistics.
        calls = pstats.Stats(profile).total_calls if counting else 0
        print(calls, flush=True)
        counting = not counting
        if counting:
            profile.enable()

    signal.signal(signal.SIGUSR1, toggle)
    rivals.main("bare", name, "")


def _calls(load: Load, seconds: float) -> table.Row:
    values = {}
    for name in _NAMES:
        server = _Profiled(name)
        try:
            load.connections(server, _WARM)
            server.toggle()
            done = load.connections(server, seconds)
            values[name] = [server.toggle() / done.exchanges]
        finally:
            server.kill()
    return table.Row("connections", "calls", ",.1f", values)


def _measure(
    load: Load, directory: str, rounds: int, seconds: float
) -> list[table.Row]:
    with ExitStack() as stack:
        servers = {}
        commands = rivals.commands("bare", directory, _NAMES)
        for name, rival in commands.items():
            assert isinstance(rival, Rival), rival
            servers[name] = Server(rival)
            stack.callback(servers[name].kill)
            load.connections(servers[name], _WARM)
        done = takeTurns(servers, rounds, load.connections, seconds)
    return rows("connections", done)


def main() -> None:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(description="What a connection costs.")
    parser.add_argument("--calls", action="store_true", help="count Python's calls")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.7, help="of one turn")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve)
        return
    if options.rounds < 1:
        parser.error(f"--rounds={options.rounds}: must be at least 1")
    if not options.seconds > 0:
        parser.error(f"--seconds={options.seconds}: must be above 0")
    with tempfile.TemporaryDirectory() as directory:
        load = Load(directory)
        found = _measure(load, directory, options.rounds, options.seconds)
        if options.calls:
            found.append(_calls(load, options.seconds))
    print(table.text(table.cells(found, _NAMES)))
    print("\n".join(table.compared(found, "twisted_term", "half-close by hand")))


if __name__ == "__main__":
    main()
