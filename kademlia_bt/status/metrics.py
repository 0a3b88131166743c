"""Metrics in the text format of Prometheus: a view as a collector of prometheus-client, which writes and escapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kademlia_bt.status.views import Metric

__all__ = ["exposition"]

_PREFIX = "kademlia_bt_"


class _Snapshot(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric in self._metrics:
            names = list(metric.samples[0][0]) if metric.samples else []
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(_PREFIX + metric.name, metric.help, labels=names)
            for labels, value in metric.samples:
                family.add_metric([labels[name] for name in names], value)
            yield family


def exposition(metrics: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """The metrics, and those of this process, with their content type, in the form that `accept` asks for."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(metrics))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
