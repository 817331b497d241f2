"""
Why a table and not Automat: bytes for each connection, and time for each
input, of the same three-step life in both.

    python benchmarks/machine.py
"""

from __future__ import annotations

import timeit
import tracemalloc
from typing import Any, Callable, Protocol

from automat import TypeMachineBuilder

from twisted_term.connection.machine import STEPS, Input, Node

_EVENTS = (Input.LOSE, Input.FIN_SENT, Input.PEER_FIN)


class _Life(Protocol):
    def lose(self) -> None: ...

    def finSent(self) -> None: ...

    def peerFin(self) -> None: ...


class _Core:
    pass


def _build() -> Callable[[_Core], Any]:
    builder = TypeMachineBuilder(_Life, _Core)
    start, flushing = builder.state("open"), builder.state("flushing")
    lingering, closed = builder.state("lingering"), builder.state("closed")

    start.upon(_Life.lose).to(flushing).returns(None)
    flushing.upon(_Life.finSent).to(lingering).returns(None)
    lingering.upon(_Life.peerFin).to(closed).returns(None)
    return builder.build()


_automat = _build()


def automat() -> Any:
    """
    One life in Automat.
    """
    life = _automat(_Core())
    life.lose()
    life.finSent()
    life.peerFin()
    return life


def table() -> Any:
    """
    One life in the table.
    """
    node = Node.OPEN
    for event in _EVENTS:
        node = STEPS[node, event][0]
    return node


def _size(make: Callable[[], Any]) -> float:
    tracemalloc.start()
    kept = [make() for _ in range(10_000)]
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    return size


if __name__ == "__main__":
    for make in (automat, table):
        seconds = min(timeit.repeat(make, number=20_000, repeat=5)) / 20_000
        print(
            f"{make.__name__}: {seconds * 1e6:.2f} us a life, {_size(make):.0f} bytes"
        )
