"""
The numbers of monitors, for Prometheus.  This module needs C{prometheus_client}, and
does not change its global state.

Give the collector to the registry that the application exposes already::

    from prometheus_client import REGISTRY
    REGISTRY.register(MonitorCollector(monitor))
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Callable, NamedTuple

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

_OPENMETRICS = "application/openmetrics-text"


class _Number(NamedTuple):
    """
    A metric that is one number of each monitor.
    """

    name: str
    text: str
    value: Callable[[Monitor], float]


_COUNTERS = (
    _Number(
        "undelivered_connections",
        "Ended connections that did not deliver all bytes, as far as known.",
        lambda monitor: monitor.undelivered,
    ),
    _Number(
        "unacknowledged_bytes",
        "Bytes written and never acknowledged by the peer, as far as known.",
        lambda monitor: monitor.bytesUnacknowledged,
    ),
    _Number(
        "discarded_bytes",
        "Bytes that arrived after loseConnection.",
        lambda monitor: monitor.bytesDiscarded,
    ),
    _Number(
        "dropped_writes",
        "Writes that came after the end was asked for.",
        lambda monitor: monitor.writesDropped,
    ),
)
_GAUGES = (
    _Number(
        "draining",
        "1 from the begin of a drain, 0 before.",
        lambda monitor: monitor.draining,
    ),
    _Number(
        "drain_seconds",
        "Seconds since the drain began, 0 before.",
        lambda monitor: monitor.drain.seconds,
    ),
    _Number(
        "drain_undelivered_connections",
        "Connections that ended in the drain and did not deliver all bytes.",
        lambda monitor: monitor.drain.undelivered,
    ),
    _Number(
        "drain_unacknowledged_bytes",
        "Bytes never acknowledged on connections that ended in the drain.",
        lambda monitor: monitor.drain.bytesUnacknowledged,
    ),
)


class MonitorCollector(Collector):
    """
    Reads some L{Monitor}s when it is asked.  The label C{monitor} is the name of
    each; the others are the names of L{twisted_term.State}, L{Outcome} and
    L{Initiator} in small letters.
    """

    def __init__(self, *monitors: Monitor) -> None:
        """
        @raise ValueError: if two monitors have the same name.
        """
        names = [monitor.name for monitor in monitors]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name={name!r}: must be another for each Monitor")
        self._monitors = monitors

    def collect(self) -> Iterator[Metric]:
        """
        All metrics.  A number for something that has not happened yet is 0, and not
        absent.
        """
        connections = GaugeMetricFamily(
            "twisted_term_connections", "Live connections.", labels=["monitor", "state"]
        )
        terminations = CounterMetricFamily(
            "twisted_term_terminations",
            "Connections that have ended.",
            labels=["monitor", "outcome", "initiator"],
        )
        spent = HistogramMetricFamily(
            "twisted_term_state_seconds",
            "Seconds that ended connections have spent in a state.",
            labels=["monitor", "state"],
        )
        bounds = [*map(str, BOUNDS), "+Inf"]
        for monitor in self._monitors:
            for state, count in monitor.states().items():
                connections.add_metric([monitor.name, state.name.lower()], count)
            for outcome in Outcome:
                for initiator in Initiator:
                    labels = [monitor.name, outcome.name.lower()]
                    terminations.add_metric(
                        [*labels, initiator.name.lower()],
                        monitor.ended[outcome, initiator],
                    )
            for state, found in monitor.spent.items():
                buckets = list(zip(bounds, accumulate(found.counts)))
                spent.add_metric(
                    [monitor.name, state.name.lower()], buckets, found.seconds
                )
        yield from (connections, terminations, spent)
        for Family, numbers in (
            (CounterMetricFamily, _COUNTERS),
            (GaugeMetricFamily, _GAUGES),
        ):
            for name, text, value in numbers:
                family = Family(f"twisted_term_{name}", text, labels=["monitor"])
                for monitor in self._monitors:
                    family.add_metric([monitor.name], value(monitor))
                yield family


def exposition(monitor: Monitor, accept: str) -> tuple[bytes, str]:
    """
    @param accept: the request's C{Accept}: it decides between OpenMetrics and
        the older text format.  Its other parameters make no difference to our names.
    @return: the numbers, and their content type.
    """
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    wanted = f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in kinds else ""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    encode, contentType = choose_encoder(wanted)
    return encode(registry), contentType


__all__ = ["MonitorCollector", "exposition"]
