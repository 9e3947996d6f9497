"""Metrics of the server's own process, read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.queued_output import lines_dropped

__all__ = ["ProcessMetrics"]


class ProcessMetrics(Collector):
    """Register it with a registry."""

    def collect(self) -> Iterator[Metric]:
        """Measure now."""
        yield CounterMetricFamily(
            "leanvibe_log_lines_dropped",
            "Log lines that were not read in time or could not be written",
            value=lines_dropped(),
        )
