"""A collector that hangs, refuses or is gone costs spans, counted, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing
import trio
import trio.testing
from prometheus_client import CollectorRegistry

from actors.settings import Settings
from actors.tracing import exporter, spec
from actors.tracing.endpoint import export_settings
from actors.tracing.trace_context import new_trace
from actors.tracing.tracer import QUEUE_SPANS, Span, SpanKind, Tracer
from runtime import ActorSystem, SupervisorSpec
from runtime.testing import crash, running
from tests.server_fixture import eventually
from tests.tracing.collector import Collector, running_collector


def one_span() -> Span:
    return Span(name="x", kind=SpanKind.INTERNAL, context=new_trace(), parent=None, start_ns=1, end_ns=2)


def counts(registry: CollectorRegistry) -> dict[str, float]:
    """Spans by what became of them."""
    found = {
        f"{sample.name}{sample.labels.get('reason', '')}".removeprefix("leanvibe_trace_spans_"): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    return {name.replace("_total", ":").rstrip(":"): value for name, value in found.items()}


@asynccontextmanager
async def exporting(url: str, folder: Path) -> AsyncIterator[tuple[ActorSystem, Tracer, CollectorRegistry]]:
    settings = Settings(data_dir=folder, trace_endpoint=url)
    registry = CollectorRegistry()
    tracer = Tracer(registry, is_on=True)
    children = spec.spec(settings, export_settings(settings, {}), tracer)
    async with running(SupervisorSpec(children=children)) as system:
        yield system, tracer, registry


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(exporter, "RETRY_SECONDS", 0.01)


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (503, exporter.ATTEMPTS)])
async def test_tr8_what_is_refused_is_tried_again_only_where_that_helps(
    status: int, attempts: int, tmp_path: Path
) -> None:
    async with running_collector() as collector, exporting(collector.url, tmp_path) as (_, tracer, registry):
        collector.status = status
        tracer.record(one_span())
        await eventually(lambda: counts(registry).get("dropped:not_taken") == 1)
        assert len(collector.heads) == attempts
        collector.status = 200
        tracer.record(one_span())
        await eventually(lambda: counts(registry)["exported"] == 1)


async def test_tr9_a_collector_that_is_gone_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listening: whoever connects is refused.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with exporting(url, tmp_path) as (system, tracer, registry):
            tracer.record(one_span())
            await eventually(lambda: counts(registry).get("dropped:not_taken") == 1)
            (record,) = [one for one in system.records() if one.path == "tracing"]
            assert (record.incarnation, record.problem) == (1, None)


async def test_tr10_a_full_queue_drops_the_newest_and_counts_it() -> None:
    registry = CollectorRegistry()
    tracer = Tracer(registry, is_on=True)
    spans = [one_span() for _ in range(QUEUE_SPANS + 3)]
    for span in spans:
        tracer.record(span)
    assert counts(registry)["dropped:queue_full"] == 3
    assert tracer.take(QUEUE_SPANS * 2) == spans[:QUEUE_SPANS]


async def test_tr11_a_hanging_collector_holds_up_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "STOP_SECONDS", 0.05)
    async with running_collector() as collector:
        collector.hangs = True
        async with exporting(collector.url, tmp_path) as (_, tracer, registry):
            tracer.record(one_span())
            await eventually(lambda: collector.heads)
            # Of another batch than the one that hangs.
            tracer.record(one_span())
        assert counts(registry)["dropped:shutdown"] == 2
        assert len(collector.heads) == 1


async def test_tr12_the_last_spans_are_sent_at_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "GATHER_SECONDS", 3600.0)
    async with running_collector() as collector:
        async with exporting(collector.url, tmp_path) as (_, tracer, registry):
            tracer.record(one_span())
            await trio.testing.wait_all_tasks_blocked()
            assert not collector.heads
        assert counts(registry)["exported"] == len(list(collector.spans())) == 1


async def test_tr13_a_crash_of_the_exporter_loses_no_span_that_waits(tmp_path: Path) -> None:
    async with running_collector() as collector, exporting(collector.url, tmp_path) as (system, tracer, registry):
        await sent(collector, tracer, registry, 1)
        crash(system, "tracing", RuntimeError("as a bug would"))
        await sent(collector, tracer, registry, 2)


async def sent(collector: Collector, tracer: Tracer, registry: CollectorRegistry, count: int) -> None:
    tracer.record(one_span())
    await eventually(lambda: counts(registry)["exported"] == count)
    assert len(list(collector.spans())) == count


async def test_tr16_spans_that_a_collector_rejects_are_counted_and_not_sent_again(tmp_path: Path) -> None:
    async with running_collector() as collector, exporting(collector.url, tmp_path) as (_, tracer, registry):
        collector.rejected, collector.says = 5, "too old\n\x1b[31m"
        with structlog.testing.capture_logs() as logs:
            tracer.record(one_span())
            await eventually(lambda: counts(registry).get("dropped:rejected") == 1)
            # The same words again are no news.
            tracer.record(one_span())
            await eventually(lambda: counts(registry)["dropped:rejected"] == 2)
        assert counts(registry)["exported"] == 0
        said = [one for one in logs if one["event"] == "the collector says"]
        assert [(one["said"], one["log_level"]) for one in said] == [("too old  [31m", "warning")]
        assert len(collector.heads) == 2
        collector.rejected, collector.says = 0, ""
        tracer.record(one_span())
        await eventually(lambda: counts(registry)["exported"] == 1)
