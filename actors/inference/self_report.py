"""The inference actor's reports on itself: health, named models and gauges."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from actors.inference.checkpoints.errors import ModelError
from actors.inference.health import describe_engine, describe_models
from actors.inference.messages import DescribeEngine, DescribeModels, EngineHealth, ListModels, ModelDetails, ModelState
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_files import LIST_SECONDS
from actors.inference.model_manager import ModelManager
from actors.inference.model_registry import ModelRegistry
from actors.inference.process_family import FamilyMemory
from actors.inference.prompts import PromptEncoder
from runtime import Context

__all__ = ["SelfReport"]


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
