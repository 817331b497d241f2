"""
A monitor's numbers for Prometheus.  It needs C{prometheus_client}, and touches
none of its global state.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..connection.report import Initiator, Outcome
from .monitor import BOUNDS, Monitor


class MonitorCollector(Collector):
    """
    Reads a L{Monitor} when it is asked.  Labels are the names of
    L{twisted_term.State}, L{Outcome} and L{Initiator} in small letters.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """
        All of them; what has not happened yet is 0, and not absent.
        """
        monitor = self._monitor
        connections = GaugeMetricFamily(
            "twisted_term_connections", "Live connections.", labels=["state"]
        )
        for state, count in monitor.states().items():
            connections.add_metric([state.name.lower()], count)
        yield connections

        terminations = CounterMetricFamily(
            "twisted_term_terminations",
            "Connections that have ended.",
            labels=["outcome", "initiator"],
        )
        for outcome in Outcome:
            for initiator in Initiator:
                terminations.add_metric(
                    [outcome.name.lower(), initiator.name.lower()],
                    monitor.ended[outcome, initiator],
                )
        yield terminations

        for name, text, value in (
            (
                "unacknowledged_bytes",
                "Bytes written and never acknowledged by the peer, as far as known.",
                monitor.bytesUnacknowledged,
            ),
            (
                "discarded_bytes",
                "Bytes that arrived after loseConnection.",
                monitor.bytesDiscarded,
            ),
            (
                "dropped_writes",
                "Writes that came after the end was asked for.",
                monitor.writesDropped,
            ),
        ):
            yield CounterMetricFamily(f"twisted_term_{name}", text, value=value)

        spent = HistogramMetricFamily(
            "twisted_term_state_seconds",
            "Seconds that ended connections have spent in a state.",
            labels=["state"],
        )
        bounds = [*map(str, BOUNDS), "+Inf"]
        for state, found in monitor.spent.items():
            buckets = list(zip(bounds, accumulate(found.counts)))
            spent.add_metric([state.name.lower()], buckets, found.seconds)
        yield spent


def exposition(monitor: Monitor, accept: str) -> tuple[bytes, str]:
    """
    @param accept: the request's C{Accept}; it decides the format.
    @return: the numbers, and their content type.
    """
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    encode, contentType = choose_encoder(accept)
    return encode(registry), contentType


__all__ = ["MonitorCollector", "exposition"]
