"""Health of the service: the engine in use, the state of named models, and gauges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from actors.inference.checkpoints.errors import ModelError
from actors.inference.checkpoints.inventory import InventoryEntry
from actors.inference.messages import DescribeEngine, DescribeModels, EngineHealth, ListModels, ModelDetails, ModelState
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_files import LIST_SECONDS
from actors.inference.model_manager import ModelManager
from actors.inference.model_registry import ModelRegistry, ServableModel
from actors.inference.process_family import FamilyMemory
from actors.inference.prompts import PromptEncoder
from actors.inference.scheduler import Scheduler
from runtime import Context

__all__ = ["SelfReport", "describe_engine", "describe_models"]


class SelfReport:
    """Part of the inference actor: reads the state of the other parts and changes none."""

    def __init__(
        self,
        engine: str,
        models: ModelManager,
        prompts: PromptEncoder,
        model_registry: ModelRegistry,
        metrics: InferenceMetrics,
    ) -> None:
        """``engine`` is `mlx` or `mock`."""
        self._engine = engine
        self._models = models
        self._prompts = prompts
        self._model_registry = model_registry
        self._metrics = metrics
        self._memory = FamilyMemory()

    def answer(
        self,
        question: DescribeEngine,
        context: Context,
        last_inference_ms: float | None,
        totals: Mapping[str, float],
        can_queue: bool,
    ) -> EngineHealth | None:
        """Reports current health for the request being handled; with memory, the answer follows later."""
        health = describe_engine(
            self._models,
            engine=self._engine,
            last_inference_ms=last_inference_ms,
            totals=totals,
            refuses=self._prompts.problem if can_queue else "too many requests are waiting",
        )
        if not question.with_memory:
            return health

        async def measured() -> EngineHealth:
            return attrs.evolve(health, all_processes_bytes=await self._memory.measure())

        context.answer_later(measured)
        return None

    def answer_models(self, question: ListModels | DescribeModels, context: Context) -> None:
        """Answers later, because the disk must be read."""
        context.answer_later(self.models if isinstance(question, ListModels) else self.model_details)

    async def models(self) -> tuple[ModelState, ...]:
        """All named models. Raises `ModelRefused` if the disk does not answer."""
        entries = await self._models.files.read(self._model_registry.entries, seconds=LIST_SECONDS)
        return describe_models(self._models, entries)

    async def model_details(self) -> tuple[ModelDetails, ...]:
        """All named models with details from their files. Raises `ModelRefused` if the disk does not answer."""
        states = await self.models()
        return await self._models.files.read(self._read_details, states, seconds=LIST_SECONDS)

    def _read_details(self, states: tuple[ModelState, ...]) -> tuple[ModelDetails, ...]:
        return tuple(self._details(one) for one in states)

    def _details(self, state: ModelState) -> ModelDetails:
        """Blocking."""
        if state.state == "absent":
            return ModelDetails(state=state, need_bytes=None, calibration=None)
        try:
            model = self._model_registry.find(state.name)
            need_bytes: int | None = self._model_registry.need_bytes(model, self._models.backend)
            found = self._model_registry.calibration(model)
        except (ModelError, OSError, ValueError):
            # Another kind of model, such as an embedding model, or damaged files.
            return ModelDetails(state=state, need_bytes=None, calibration=None)
        calibration = (
            None if found is None else (found.items, tuple((one.confidence, one.rate) for one in found.points))
        )
        return ModelDetails(state=state, need_bytes=need_bytes, calibration=calibration)

    def set_gauges(self) -> None:
        """Sets the gauges for running and waiting requests and worker memory."""
        schedulers = self._models.all
        self._metrics.occupancy(sum(len(one.rows) for one in schedulers), sum(len(one.queue) for one in schedulers))
        kinds = {kind for one in schedulers for kind in one.memory}
        self._metrics.memory({kind: sum(one.memory.get(kind, 0.0) for one in schedulers) for kind in kinds})


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
