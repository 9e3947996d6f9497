"""The inference service in a small tree of its own: both actors as in the application, a real worker, subscribers that record their events."""

import itertools
import json
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import URL

from actors.inference.actor import Inference, InferenceSettings
from actors.inference.admission import AdmissionLimits
from actors.inference.calibration import Calibration
from actors.inference.checkpoints.inventory import InventoryEntry
from actors.inference.engine import Engine
from actors.inference.engine_registry import EngineRegistry
from actors.inference.messages import (
    CancelGeneration,
    Complete,
    Completion,
    DescribeEngine,
    EngineHealth,
    GenerationDone,
    GenerationEnded,
    GenerationEvent,
    GenerationFailed,
    GenerationStarted,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
    Subscribed,
    SubscribeStream,
)
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_registry import MockRegistry, ServableModel
from actors.inference.sandbox.actor import Sandbox
from actors.inference.standby import WarmStandby
from actors.inference.store import OPERATIONS, QUERIES
from actors.inference.stream_broker import StreamRules
from actors.inference.text.text_model import MockText, TextModel
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_process import InferenceWorker
from actors.storage.messages import Storage
from actors.storage.readers import Readers
from actors.storage.writer import Writer, WriterSettings
from protocol.commands import Generate
from protocol.events import Done
from runtime import Actor, ActorRef, ActorSystem, ChildSpec, DynamicSpec, SupervisorSpec
from runtime.inspection import actor_snapshot
from runtime.testing import Probe
from tests.cache_folder import cache_folder_of_tests

PATIENCE_SECONDS = 120.0
"""Far more than anything with the mock engine takes; only a failure waits for it."""


REQUEST_FIELDS = ("observer", "completion_fields", "wants_calibrated", "key", "epoch", "asked_at")
"""Of `StartGeneration`; `InferenceService.start` takes them in addition to the fields of `Generate`."""


@define(kw_only=True)
class FakeRegistry:
    """Models of the mock engine, or one checkpoint; a test says whose text cannot be read and what the weights weigh."""

    load_text: Callable[[], TextModel] = MockText
    checkpoint: Path | None = None
    names: Sequence[str] = ("mock", "other", "third")
    unreadable: Sequence[str] = ()
    weights_bytes: int = 0
    calibrations: dict[str, Calibration] = field(factory=dict)
    """By the model's name."""

    def start(self) -> ServableModel:
        return self.find(self.names[0])

    def entries(self) -> list[InventoryEntry]:
        return MockRegistry(self.names).entries()

    def find(self, name: str) -> ServableModel:
        MockRegistry(self.names).find(name)
        return ServableModel(name=name, folder=self.checkpoint)

    def text(self, model: ServableModel) -> TextModel:
        if model.name in self.unreadable:
            raise ValueError("tokenizer.json is damaged on purpose")
        return self.load_text()

    def calibration(self, model: ServableModel) -> Calibration | None:
        return self.calibrations.get(model.name)

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        return self.weights_bytes


class Follower(Actor[GenerationEvent | GenerationEnded]):
    """Records its messages."""

    def __init__(self, service: "InferenceService") -> None:
        self.service = service

    async def handle(self, message: GenerationEvent | GenerationEnded) -> object:
        self.service.note(message)
        return None


class InferenceService:
    """The inference service from outside."""

    def __init__(self, system: ActorSystem, registry: CollectorRegistry, patience_seconds: float) -> None:
        self.system = system
        self.registry = registry
        self.inference: ActorRef[Any] = system.reference("inference/inference")
        self.subscribers = system.dynamic("subscribers")
        self.subscriber: ActorRef[Any] = system.reference("nobody")
        self.events: defaultdict[str, list[GenerationEvent]] = defaultdict(list)
        self.patience_seconds = patience_seconds
        self._noted = trio.Event()
        self._names = (f"s{number}" for number in itertools.count(1))

    @property
    def engine(self) -> ActorRef[Any]:
        """The newest engine."""
        paths = [one.path for one in self.system.records() if one.path.startswith("inference/engines/")]
        return self.system.reference(max(paths, key=lambda path: int(path.rpartition("/")[2])))

    def note(self, event: Any) -> None:
        self.events[event.stream].append(event)
        self._noted.set()
        self._noted = trio.Event()

    async def new_follower(self, name: str) -> ActorRef[Any]:
        return await self.subscribers.start_child(name, lambda: Follower(self))

    # --- what clients do ----------------------------------------------------------------------------

    async def start(
        self,
        prompt: str,
        *,
        client: str = "client",
        stream: str | None = None,
        subscriber: ActorRef[Any] | None = None,
        resume: ResumeFrom | None = None,
        domain: str = "",
        **fields: Any,
    ) -> str:
        """Start a generation; returns the name of its stream once it is accepted."""
        request_fields = {name: fields.pop(name) for name in REQUEST_FIELDS if name in fields}
        request = StartGeneration(
            client_id=client,
            stream=stream or next(self._names),
            generate=Generate(prompt=prompt, **fields),
            subscriber=subscriber or self.subscriber,
            resume=resume,
            domain=domain,
            **request_fields,
        )
        started: GenerationStarted = await self.inference.ask(request, timeout=self.patience_seconds)
        return started.stream

    async def complete(self, prompt: str, *, client: str = "client", **fields: Any) -> Completion:
        request = Complete(client_id=client, generate=Generate(prompt=prompt, **fields))
        return await self.inference.ask(request, timeout=self.patience_seconds)

    async def cancel(self, stream: str) -> bool:
        return await self.inference.ask(CancelGeneration(stream), timeout=self.patience_seconds)

    async def health(self) -> EngineHealth:
        return await self.inference.ask(DescribeEngine(), timeout=self.patience_seconds)

    async def subscribe(
        self,
        stream: str,
        subscriber: ActorRef[Any],
        *,
        epoch: str | None = None,
        after: int = 0,
        client: str = "client",
    ) -> Subscribed:
        """One page."""
        request = SubscribeStream(client_id=client, stream=stream, epoch=epoch, after_seq=after, subscriber=subscriber)
        return await self.inference.ask(request, timeout=self.patience_seconds)

    # --- what they see ------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about the events holds."""
        with trio.fail_after(self.patience_seconds):
            while not holds():
                await self._noted.wait()

    async def until_health(self, holds: Callable[[EngineHealth], bool]) -> EngineHealth:
        with trio.fail_after(self.patience_seconds):
            while not holds(health := await self.health()):  # noqa: ASYNC110  health is asked for, never told
                await trio.sleep(0.01)
        return health

    async def tokens(self, stream: str, count: int = 1) -> None:
        """Wait for that many events of a stream."""
        await self.until(lambda: len(self.events[stream]) >= count)

    async def last(self, stream: str) -> GenerationEvent:
        """Wait for the end of a stream; its last event."""
        await self.until(
            lambda: bool(self.events[stream]) and not isinstance(self.events[stream][-1], GenerationTokens)
        )
        return self.events[stream][-1]

    async def answer(self, stream: str) -> str:
        """The whole text of an answer that ends well, with all its events in order."""
        await self.done(stream)
        return self.text(stream)

    async def done(self, stream: str) -> Done:
        last = await self.last(stream)
        assert isinstance(last, GenerationDone), last
        assert [one.seq for one in self.events[stream]] == list(range(1, len(self.events[stream]) + 1))
        return last.done

    async def failure(self, stream: str) -> GenerationFailed:
        last = await self.last(stream)
        assert isinstance(last, GenerationFailed), last
        return last

    def text(self, stream: str) -> str:
        return "".join(one.text for one in self.events[stream] if isinstance(one, GenerationTokens))

    def point(self, stream: str, received: int, seed: int = 0) -> ResumeFrom:
        """The position of a subscriber that received this many events."""
        heard = [one for one in self.events[stream][:received] if isinstance(one, GenerationTokens)]
        return ResumeFrom(
            seq=received,
            token_ids=tuple(token_id for one in heard for token_id in one.token_ids),
            log_probability=sum(one.log_probability for one in heard),
            seed=seed,
        )

    async def restart_worker(self) -> None:
        """Kill the worker and wait for the next."""
        pid = await self.worker_pid()
        os.kill(pid, signal.SIGKILL)
        await self.until_health(lambda one: one.state == "ready" and one.worker_pid not in (None, pid))

    def outcomes(self) -> dict[str, int]:
        """`request_success_total` by reason."""
        return {
            sample.labels["finished_reason"]: int(sample.value)
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "leanvibe_request_success_total"
        }

    def figure(self, name: str) -> float:
        value = self.registry.get_sample_value(f"leanvibe_{name}")
        assert value is not None, name
        return value

    # --- what goes wrong ----------------------------------------------------------------------------

    async def worker_pid(self) -> int:
        health = await self.until_health(lambda one: one.worker_pid is not None and one.state == "ready")
        assert health.worker_pid is not None
        return health.worker_pid

    async def spare_pid(self) -> int:
        """Wait for the process that stands by."""
        with trio.fail_after(self.patience_seconds):
            while True:
                pid = (await actor_snapshot(self.system, "inference/standby", timeout=60))["standby_pid"]
                if isinstance(pid, int):
                    return pid
                await trio.sleep(0.02)

    async def kill_worker(self) -> None:
        os.kill(await self.worker_pid(), signal.SIGKILL)


def storage_spec(system: ActorSystem, database: URL) -> ChildSpec:
    """The storage service with the tables of the inference service; the relay's messages are dropped."""
    return ChildSpec(
        id="storage",
        start=SupervisorSpec(
            children=(
                ChildSpec(
                    id="writer",
                    start=lambda: Writer(
                        WriterSettings(url=database, operations=OPERATIONS), system.reference("storage/relay")
                    ),
                ),
                ChildSpec(id="readers", start=lambda: Readers(database, QUERIES)),
            )
        ),
    )


@asynccontextmanager
async def inference_service(
    *,
    step_seconds: float = 0.0,
    faults: Sequence[dict[str, Any]] = (),
    faulty_lives: int = 1_000_000,
    limits: AdmissionLimits | None = None,
    engine: str = "mock",
    checkpoint: Path | None = None,
    cache_folder: Path | None = None,
    blas: str = "auto",
    prefix_bytes: int = 0,
    drafts: bool = False,
    load_text: Callable[[], TextModel] = MockText,
    model_registry: FakeRegistry | None = None,
    model_memory_bytes: int = 0,
    idle_unload_seconds: float = 0.0,
    has_standby: bool = False,
    keeps_standby: bool = True,
    early: list[InferenceWorker] | None = None,
    is_ready: bool = True,
    database: URL | None = None,
    detach_seconds: float = 60.0,
    patience_seconds: float = PATIENCE_SECONDS,
    has_sandbox: bool = False,
    **system_arguments: Any,
) -> AsyncIterator[InferenceService]:
    """The service with one subscriber. ``faulty_lives`` is the number of worker processes that follow the plan of faults.

    With ``has_sandbox`` the text of ``checkpoint`` is read as in the product, and ``load_text`` is not called.
    """
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    lives = itertools.count()
    system = ActorSystem(watch_loop=False, **system_arguments)
    inference, inspection = system.reference("inference/inference"), system.reference("inspection")

    spare_config = WorkerConfig(engine=engine, cache_dir=cache_folder or Path(), mock_step_seconds=step_seconds)

    def make_engine(model: ServableModel) -> Engine:
        plan = json.dumps(list(faults)) if faults and next(lives) < faulty_lives else ""
        config = WorkerConfig(
            engine=engine,
            cache_dir=cache_folder or cache_folder_of_tests(),
            blas=blas,
            prefix_bytes=prefix_bytes,
            drafts=drafts,
            mock_step_seconds=step_seconds,
            worker_faults=plan,
        )
        standby = system.reference("inference/standby") if has_standby else None
        return Engine(config, model, inference, inspection, standby)

    storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
    stored = () if database is None else (storage_spec(system, database),)
    settings = InferenceSettings(
        engine=engine,
        limits=limits or AdmissionLimits(),
        model_memory_bytes=model_memory_bytes,
        idle_unload_seconds=idle_unload_seconds,
        streams=StreamRules(storage=None if database is None else storage, detach_seconds=detach_seconds),
    )
    models = model_registry or FakeRegistry(load_text=load_text, checkpoint=checkpoint)
    spec = SupervisorSpec(
        children=(
            *stored,
            ChildSpec(id="inspection", start=Probe().start),
            ChildSpec(
                id="inference",
                start=SupervisorSpec(
                    intensity=None,
                    children=(
                        ChildSpec(id="engine_registry", start=EngineRegistry),
                        ChildSpec(
                            id="standby",
                            start=lambda: WarmStandby(spare_config, early=early, keeps_one=keeps_standby),
                        ),
                        ChildSpec(id="sandbox", start=Sandbox),
                        ChildSpec(id="engines", start=DynamicSpec(max_children=4, intensity=None)),
                        ChildSpec(
                            id="inference",
                            start=lambda: Inference(
                                settings,
                                models,
                                system.dynamic("inference/engines"),
                                lambda model: lambda: make_engine(model),
                                system.reference("inference/engine_registry"),
                                metrics,
                                system.reference("inference/sandbox") if has_sandbox else None,
                            ),
                        ),
                    ),
                ),
            ),
            ChildSpec(id="subscribers", start=DynamicSpec(max_children=1000)),
        )
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(system.run, spec)
            try:
                service = InferenceService(system, registry, patience_seconds)
                service.subscriber = await service.new_follower("subscriber")
                if is_ready:
                    await service.until_health(lambda one: one.state == "ready")
                yield service
            finally:
                system.request_stop("the block is over")
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
