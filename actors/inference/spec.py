"""The inference service's part of the supervision tree."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from actors.inference.actor import Inference, InferenceSettings
from actors.inference.admission import AdmissionLimits
from actors.inference.engine import Engine
from actors.inference.engine_registry import EngineRegistry
from actors.inference.kernel_compiler import KernelCompiler
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_registry import CheckpointRegistry, MockRegistry, ModelRegistry, ServableModel
from actors.inference.standby import WarmStandby
from actors.inference.stream_broker import StreamRules
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_process import InferenceWorker
from actors.references import References
from actors.request_log import RequestLog
from actors.settings import Settings
from actors.tracing.tracer import Tracer
from runtime import ActorSystem, ChildSpec, DynamicSpec, SupervisorSpec

__all__ = ["spec"]

MEBIBYTE = 1024 * 1024
MAXIMUM_ENGINES = 4
"""The one in use, one being loaded to take over, and those finishing their last answers."""
READ_MODEL_SECONDS = 30.0
"""Time to read a model's tokenizer at start-up; generous, so that a machine busy booting does not make the server give
up."""


def spec(
    system: ActorSystem,
    settings: Settings,
    to: References,
    checkpoint: Path | None,
    metrics: InferenceMetrics,
    tracer: Tracer,
    *,
    is_ephemeral: bool,
    early_worker: InferenceWorker | None,
    requests: RequestLog,
) -> ChildSpec:
    """The inference actor, one engine per loaded model, the warm standby and the kernel compiler.

    ``checkpoint`` is the folder of the first model. The first engine takes ``early_worker``, a process that is standing
    by or soon will be; its creator ends it if no engine took it.
    """
    of_worker = WorkerConfig.of(settings, is_ephemeral=is_ephemeral)
    of_inference = _inference_settings(settings, to)
    registry = _model_registry(settings, checkpoint)
    early = [] if early_worker is None else [early_worker]
    keeps_one = settings.spare_worker == "on" or (settings.spare_worker == "auto" and settings.engine == "mlx")
    engines = system.dynamic("inference/engines")
    engine_registry = system.reference("inference/engine_registry")
    standby = system.reference("inference/standby") if keeps_one or early else None
    kernels = system.reference("inference/kernels") if of_worker.compiles_beside else None
    # Messages of its own engines and compiler bypass the public reference.
    own = system.reference("inference/inference")
    compiler = ChildSpec(id="kernels", start=lambda: KernelCompiler(settings.cache_dir, own), is_helper=True)

    def inference() -> Inference:
        return Inference(
            of_inference,
            registry,
            engines,
            lambda model: partial(Engine, of_worker, model, own, to.inspection, standby),
            engine_registry,
            metrics,
            to.sandbox,
            kernels,
            tracer,
            requests,
        )

    return ChildSpec(
        id="inference",
        start=SupervisorSpec(
            # A machine may lose its worker any number of times; back-off spaces the attempts.
            intensity=None,
            children=(
                ChildSpec(id="engine_registry", start=EngineRegistry),
                ChildSpec(
                    id="standby",
                    start=lambda: WarmStandby(of_worker, early=early, keeps_one=keeps_one),
                    is_helper=True,
                ),
                *((compiler,) if kernels is not None else ()),
                ChildSpec(id="engines", start=DynamicSpec(max_children=MAXIMUM_ENGINES, intensity=None)),
                ChildSpec(id="inference", start=inference, start_seconds=READ_MODEL_SECONDS),
            ),
        ),
    )


def _inference_settings(settings: Settings, to: References) -> InferenceSettings:
    """Limits on requests, and retention of streams."""
    return InferenceSettings(
        engine=settings.engine,
        limits=AdmissionLimits(
            rows=settings.max_rows,
            waiting_requests=settings.max_waiting,
            kv_bytes=settings.kv_mebibytes * MEBIBYTE,
        ),
        default_max_tokens=settings.default_max_tokens,
        idle_unload_seconds=settings.idle_unload_seconds,
        model_memory_bytes=settings.model_memory_mebibytes * MEBIBYTE,
        streams=StreamRules(storage=to.storage, detach_seconds=settings.detach_seconds, access=to.access),
    )


def _model_registry(settings: Settings, checkpoint: Path | None) -> ModelRegistry:
    """The models that may be served, and the first one."""
    if settings.engine == "mock":
        return MockRegistry()
    folder = None if checkpoint is None else checkpoint.resolve()
    started_with = ServableModel(name=settings.model, folder=folder, adapter=settings.adapter)
    return CheckpointRegistry(started_with, settings.cache_dir, settings.compiled)
