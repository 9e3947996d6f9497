"""Reports on the service: health of the engine in use, and the state of named models. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from actors.inference.checkpoints.inventory import InventoryEntry
from actors.inference.messages import EngineHealth, ModelState
from actors.inference.model_manager import ModelManager
from actors.inference.model_registry import ServableModel
from actors.inference.scheduler import Scheduler

__all__ = ["describe_engine", "describe_models"]


def describe_engine(
    models: ModelManager,
    *,
    engine: str,
    last_inference_ms: float | None,
    totals: Mapping[str, float],
    refuses: str | None = None,
) -> EngineHealth:
    """Describes the engine in use and any load in progress.

    ``refuses`` is the reason why new requests are refused, if they are.
    """
    current, candidate = models.current, models.candidate
    return EngineHealth(
        engine=engine,
        state=current.state,
        model=current.model.name,
        worker_pid=current.worker_pid,
        restarts=max(0, current.engine.incarnation - 1),
        report=_report_of(models, current),
        problem=current.stage,
        queue_depth=sum(len(one.queue) for one in models.all),
        running=sum(len(one.rows) for one in models.all),
        tokens_per_second=current.tokens_per_second,
        last_inference_ms=last_inference_ms,
        memory=current.memory,
        memory_bound_bytes=current.memory_bound_bytes,
        totals=dict(totals),
        refuses=refuses,
        changing_to=None if candidate is None else candidate.model.name,
        change_stage=None if candidate is None else candidate.stage,
        context_tokens=current.context_tokens,
        tool_call_format=current.text.tool_call_format,
        has_tools=current.text.has_tools,
        reasoning=current.text.reasoning,
        silent_seconds=current.silent_seconds,
    )


def _report_of(models: ModelManager, current: Scheduler) -> dict[str, Any]:
    report: dict[str, Any] = {} if current.report is None else current.report.as_data()
    if report.get("kernels") == "compiling" and models.kernels.problem is not None:
        report |= {"kernels": "uncompiled", "warnings": [*report["warnings"], models.kernels.problem]}
    return report


def describe_models(models: ModelManager, entries: Iterable[InventoryEntry]) -> tuple[ModelState, ...]:
    """Describes every named model and its current state."""
    return tuple(
        _describe(
            entry,
            [one for one in models.all if _is_of(one.model, entry)],
            current=models.current,
            retiring=models.retiring,
            problem=models.problem_of(entry.name),
            is_in_use=_is_of(models.in_use, entry),
        )
        for entry in entries
    )


def _describe(
    entry: InventoryEntry,
    schedulers: Collection[Scheduler],
    *,
    current: Scheduler,
    retiring: Collection[Scheduler],
    problem: str | None,
    is_in_use: bool,
) -> ModelState:
    state, stage = "available" if entry.is_present else "absent", problem
    if problem is not None:
        state = "failed"
    # Several engines may run one model; the one that new requests reach takes precedence over one being retired.
    live = sorted((one for one in schedulers if one not in retiring), key=lambda one: one is not current)
    if live:
        state, stage = {"ready": "loaded", "down": "failed"}.get(live[0].state, live[0].state), live[0].stage
    if any(one in retiring for one in schedulers) and state in ("available", "failed", "unloaded"):
        state = "unloading" if current in schedulers else "draining"
    adapters = [one.model.adapter.name for one in schedulers if one.model.adapter is not None]
    return ModelState(
        name=entry.name,
        full_name=entry.full_name,
        state=state,
        is_in_use=is_in_use,
        stage=stage,
        running=sum(len(one.rows) for one in schedulers),
        size_bytes=entry.size_bytes,
        type=entry.type,
        quantization=entry.quantization,
        provenance=entry.provenance,
        source=entry.source,
        adapter=adapters[0] if adapters else None,
        digest=entry.digest,
        modified_seconds=entry.modified_seconds,
    )


def _is_of(model: ServableModel, entry: InventoryEntry) -> bool:
    if model.folder is not None and entry.folder is not None:
        return model.folder == entry.folder
    return model.name in (entry.name, entry.full_name)
