"""
Servers that take turns with a client, and the rows of the table that this makes.
"""

from __future__ import annotations

from typing import Any, Callable

from load import Done
from processes import Server
from table import Row


def takeTurns(
    servers: dict[str, Server], rounds: int, measure: Callable[..., Done], *more: Any
) -> dict[str, list[Done]]:
    """
    Measure each server once in each round, and begin each with another one.
    """
    done: dict[str, list[Done]] = {name: [] for name in servers}
    order = list(servers)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            done[name].append(measure(servers[name], *more))
    return done


def rows(title: str, done: dict[str, list[Done]]) -> list[Row]:
    """
    The rate, and the server's CPU time for each unit of work.
    """
    inBytes = title in ("bulk", "discarded while lingering")
    rates, cpu = {}, {}
    for name, some in done.items():
        work = [one.bytes / 1e6 if inBytes else one.exchanges for one in some]
        rates[name] = [amount / one.seconds for amount, one in zip(work, some)]
        # Seconds for 1000 MB, or microseconds for one.
        scale = 1e3 if inBytes else 1e6
        cpu[name] = [one.server / amount * scale for amount, one in zip(work, some)]
    return [
        Row(title, "MB/s" if inBytes else "1/s", ",.0f", rates),
        Row(
            title, "CPU s/GB" if inBytes else "CPU µs", ".3f" if inBytes else ".1f", cpu
        ),
    ]
