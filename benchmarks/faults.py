"""
Faults on the wire: what arrives through delay, loss, reordering, and a link
that is cut, from bare Twisted and from C{twistd termserver}?

A wire of two network namespaces is made for each round, which needs root; the
seed of a round is its number.  Printed are, for each fault,

    - C{runs}: connections, of all rounds together,
    - C{asked}: the bytes that they asked for, and C{lost}: those that have not
      arrived,
    - C{FIN}, C{RST}, C{none}: which end their clients saw,
    - C{over}: how many had ended at the server within its limits, 3 s, and 10
      more,
    - C{undelivered}: how many of them the server's log calls NOT delivered;
      bare Twisted does not know.

    python benchmarks/faults.py [rounds]
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import SkipTest, TestCase

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults import BARE, CASES, OURS, Case, Result, perform

_SERVERS = {"bare": BARE, "twisted_term": OURS}


def _rounds(case: Case, command: tuple[str, ...], rounds: int) -> Result:
    total = Result()
    for seed in range(rounds):
        owner = TestCase()
        try:
            total.add(perform(owner, case, command, seed))
        finally:
            owner.doCleanups()
    return total


def main() -> None:
    """
    Run both servers in turn, and print the table.
    """
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(
        f"{'fault':26}{'server':14}{'runs':>5}{'asked':>11}{'lost':>11}"
        f"{'FIN':>5}{'RST':>5}{'none':>5}{'over':>6}  undelivered"
    )
    for name, case in CASES.items():
        for server, command in _SERVERS.items():
            try:
                total = _rounds(case, command, rounds)
            except SkipTest as reason:
                sys.exit(f"no wire can be made: {reason}")
            broken = sum(not one.intact for one in total.exchanges)
            ends = "".join(f"{total.ends[end]:>5}" for end in ("FIN", "RST", "none"))
            print(
                f"{name:26}{server:14}{len(total.exchanges):>5}{total.asked:>11}"
                f"{total.asked - total.got:>11}{ends}{len(total.reports):>6}"
                f"{total.undelivered if server != 'bare' else '-':>13}"
                + (f"  BROKEN: {broken}" if broken else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
