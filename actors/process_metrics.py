"""Metrics of the server process, measured when they are collected."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.queued_output import lines_dropped

__all__ = ["ProcessMetrics"]


class ProcessMetrics(Collector):
    """Collector of process metrics."""

    def collect(self) -> Iterator[Metric]:
        """Measure and yield the metrics."""
        yield CounterMetricFamily(
            "leanvibe_log_lines_dropped",
            "Log lines that were not read in time or could not be written",
            value=lines_dropped(),
        )
