"""The figures of a node as Prometheus reads them: a collector, and text.

    from prometheus_client import REGISTRY
    REGISTRY.register(NodeCollector(node))        beside a program's own metrics

A counter of prometheus-client takes half a microsecond each time it is counted, and a histogram one
and a half. So none of its counters is used: when somebody collects, the core's are read once.

Needs prometheus-client (`pip install pybehave[metrics]`).
Does not know: which figures there are (figures.py), sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pybehave.errors import LoopClosed, Timeout
from pybehave.observer.figures import Family, families
from pybehave.runtime.health import ASK_S

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

PREFIX: Final = "pybehave_"

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus's text format, which everything that scrapes understands."""


@final
class NodeCollector(Collector):
    """Collects the figures of a node that runs in this process; from any thread.

    Args:
        node: Which.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """Read the counters now; there are none while the node does not run or answer."""
        node = self._node
        if not node.watch.is_serving:
            return
        try:
            told = node.run_on_loop(lambda: families(node, node.watch.look()), timeout=ASK_S)
        except (LoopClosed, Timeout):
            return
        yield from metrics(told)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: a registry need not ask a node when it is made."""
        return ()


@final
class _Told(Collector):
    """Figures that have been gathered already."""

    def __init__(self, told: Iterable[Family]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        return metrics(self._told)


def text(told: Iterable[Family]) -> bytes:
    """Return figures in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(told))
    return generate_latest(registry)


def metrics(told: Iterable[Family]) -> Iterator[Metric]:
    """Yield figures as prometheus-client's families."""
    for name, kind, sentence, samples in told:
        if kind == "histogram":
            yield _histogram(name, sentence, samples)
            continue
        labels = list(samples[0][0]) if samples else []
        made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        family = made(PREFIX + name, sentence, labels=labels)
        for found, value in samples:
            family.add_metric([found[label] for label in labels], value)
        yield family


def _histogram(name: str, sentence: str, samples: list[tuple[dict[str, str], Any]]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, sentence, labels=[])
    for _, (buckets, total) in samples:
        family.add_metric([], buckets, total)
    return family
