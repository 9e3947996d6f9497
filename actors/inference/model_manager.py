"""Manages the model in use and the change to another: load the new engine, switch, drain the old one, end it.

A worker serves one model for its whole life, so a change starts a second engine. Requests are answered by the model
that accepted them: an engine ends only once it is empty, and nothing here cancels a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import structlog
import trio

from actors.inference.calibration import Calibration
from actors.inference.checkpoints.errors import ModelError, reason_in_short
from actors.inference.engine_messages import Attach, EngineMessage
from actors.inference.engine_registry import EngineRegistryMessage, EngineSnapshot, ReadEngines, StoreEngines
from actors.inference.kernel_compiler import CompileKernels
from actors.inference.kernel_renewal import KernelRenewal
from actors.inference.memory_fit import available_memory_bytes, fits_alone, fits_beside
from actors.inference.messages import (
    ModelChanged,
    ModelRefused,
    ResumeFrom,
    StartGeneration,
)
from actors.inference.model_files import ModelFiles, ModelUnreadable
from actors.inference.model_registry import ModelRegistry, ServableModel
from actors.inference.sandbox_messages import SandboxMessage, SetOpenTexts
from actors.inference.scheduler import Scheduler
from actors.inference.text.text_model import TextModel
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Backoff, Context, DynamicRef, Restart

__all__ = ["ModelManager"]

_log = structlog.get_logger("models")

RESUME_GRACE_SECONDS = 5.0
"""Time for subscribers to resume answers of a model that is no longer in use, after the inference actor was lost."""
START_AGAIN_SECONDS = 5.0
SETTLE_SECONDS = 400.0
"""Longer than the engine's own deadlines, so that the engine's reason is the one reported."""
BUSY_MS = 2000
ENGINE_BACKOFF = Backoff(base_seconds=0.25, maximum_seconds=10.0)

MakeScheduler = Callable[[ServableModel, TextModel, ActorRef[EngineMessage]], Scheduler]


class ModelManager:
    """Part of the inference actor: called only from the actor's task and its child tasks."""

    def __init__(
        self,
        *,
        model_registry: ModelRegistry,
        engines: DynamicRef,
        engine_for: Callable[[ServableModel], Callable[[], Actor[Any]]],
        engine_registry: ActorRef[EngineRegistryMessage],
        new_scheduler: MakeScheduler,
        move: Callable[[Scheduler, Scheduler], Awaitable[None]],
        context: Context,
        memory_bound_bytes: int,
        sandbox: ActorRef[SandboxMessage] | None = None,
        kernels: ActorRef[CompileKernels] | None = None,
    ) -> None:
        """``move`` moves waiting requests from one scheduler to another, whose model has another tokenizer."""
        self._model_registry = model_registry
        self.files = ModelFiles(model_registry, sandbox)
        """Reads model files."""
        self._engines = engines
        self._engine_for = engine_for
        self._engine_registry = engine_registry
        self._new_scheduler = new_scheduler
        self._move = move
        self._context = context
        self._memory_bound_bytes = memory_bound_bytes
        self._sandbox = sandbox
        self._current: Scheduler | None = None
        self._in_use: ServableModel | None = None
        self._candidate: Scheduler | None = None
        self._retiring: dict[str, Scheduler] = {}
        self._change: str | None = None
        self._problems: dict[str, str] = {}
        self._engines_started = 0
        self._backend = "cpu"
        self._changed = trio.Event()
        self.kernels = KernelRenewal(self, kernels, context)

    @property
    def current(self) -> Scheduler:
        """Scheduler of new requests."""
        assert self._current is not None, "made in `started`"
        return self._current

    @property
    def backend(self) -> str:
        """Device that the last loaded model runs on: `cpu` or `gpu`."""
        return self._backend

    @property
    def all(self) -> list[Scheduler]:
        """Every scheduler that may hold generations or become the current one."""
        candidate = [] if self._candidate in (None, self._current) else [self._candidate]
        return [one for one in (self._current, *candidate, *self._retiring.values()) if one is not None]

    @property
    def in_use(self) -> ServableModel:
        """The model that serves until a change completes."""
        return self.current.model if self._in_use is None else self._in_use

    @property
    def candidate(self) -> Scheduler | None:
        """Scheduler of the model being loaded to take over."""
        return self._candidate

    @property
    def retiring(self) -> Collection[Scheduler]:
        """Schedulers whose engines end once they are empty."""
        return self._retiring.values()

    def problem_of(self, name: str) -> str | None:
        """Why the last load of a model failed."""
        return self._problems.get(name)

    def by_engine(self, path: str) -> Scheduler | None:
        """The scheduler of an engine; None if the engine has ended."""
        return next((one for one in self.all if one.engine.path == path), None)

    def scheduler_for(self, resume: ResumeFrom | None) -> Scheduler:
        """Chooses the scheduler of a request: the current one, or for a resumed request one whose model understands its
        tokens.

        Raises `ModelRefused` if the model that began the answer is no longer loaded.
        """
        if resume is None or not resume.token_ids or resume.model is None:
            return self.current
        for one in self.all:
            if one.model.name == resume.model and not one.is_ending and one is not self._candidate:
                return one
        if self.current.model.name == resume.model:
            return self.current
        raise ModelRefused(
            ErrorCode.MODEL_UNAVAILABLE, f"the model {resume.model}, which began this answer, is no longer loaded"
        )

    # --- life -------------------------------------------------------------------------------------

    async def started(self) -> None:
        """Starts the first model's engine, or takes over the engines already running."""
        engine_snapshot: EngineSnapshot = await self._engine_registry.ask(ReadEngines(), timeout=5)
        self._engines_started = engine_snapshot.engines_started
        if engine_snapshot.in_use is None:
            model = await self.files.read(self._model_registry.start)
            self._in_use = model
            self._current = self._new(model, await self._text(model))
            self._wake(self._current)
            return
        self._in_use = engine_snapshot.in_use
        for name, model in engine_snapshot.engines.items():
            scheduler = self._new(model, await self._text(model), name)
            if name == engine_snapshot.serving:
                self._current = scheduler
            elif self._engines.has_child(name):
                self._retire(scheduler, grace_seconds=RESUME_GRACE_SECONDS)
            self._attach(scheduler)
        if self._current is None:
            self._current = self._new(engine_snapshot.in_use, await self._text(engine_snapshot.in_use))
        self.note()

    def _attach(self, scheduler: Scheduler) -> None:
        if not self._engines.has_child(scheduler.name):
            if scheduler is self._current:
                self._wake(scheduler)
            return
        # An engine that is restarting reports itself once it is up.
        scheduler.state, scheduler.stage = "loading", "starting"
        if scheduler.engine.is_running:
            self._context.monitor(scheduler.engine)
            scheduler.engine.tell_nowait(Attach())

    def note(self) -> None:
        """Stores the current state in the engine registry and wakes waiting changes."""
        is_settled = self.current.model == self._in_use
        is_serving = self.current.state != "unloaded" and is_settled
        engines = {one.name: one.model for one in self.all if one.state != "unloaded"}
        engine_snapshot = EngineSnapshot(
            in_use=self._in_use,
            serving=self.current.name if is_serving else None,
            engines=engines,
            engines_started=self._engines_started,
        )
        if self._engine_registry.is_running:
            self._engine_registry.tell_nowait(StoreEngines(engine_snapshot))
        if self._sandbox is not None and self._sandbox.is_running:
            candidates = () if self._candidate is None else (self._candidate.model,)
            models = (*engines.values(), *candidates, self.in_use)
            folders = frozenset(one.folder for one in models if one.folder is not None)
            self._sandbox.tell_nowait(SetOpenTexts(folders))
        self.wake_waiters()

    def wake_waiters(self) -> None:
        """Wakes changes of model, which wait for a change of state."""
        if self.current.report is not None:
            self._backend = self.current.report.backend
        self._changed.set()
        self._changed = trio.Event()

    # --- what inference asks for ------------------------------------------------------------------

    def need(self, scheduler: Scheduler) -> None:
        """Loads the scheduler's model, if it was unloaded, because a generation waits for it."""
        if scheduler is self.current and scheduler.state == "unloaded":
            self._wake(scheduler)

    def unload_idle(self) -> None:
        """Ends the engine of the model in use after it was idle long enough."""
        if self.current.state == "ready" and self._change is None and not self._retiring:
            _log.info("idle model unloaded", model=self.current.model.name)
            self._unload_current()

    async def load(self, name: str) -> ModelChanged:
        """Makes a model the one in use. Raises `ModelRefused`; the previous model then still serves.

        Must not be cancelled half-way, so it runs in a task of the actor rather than of the caller.
        """
        self._begin(name)
        # No `finally`: an actor that is being lost must not remove the candidate from the registry as its last act.
        try:
            changed = await self._load(name)
        except Exception as error:
            if self._candidate not in (None, self._current):
                await self._discard(self._candidate)
            if isinstance(error, ModelRefused) and error.code is not ErrorCode.NOT_FOUND:
                self._problems[self._change or name] = error.message
            _log.warning("model not loaded", model=name, reason=str(error))
            self._end()
            raise
        self._end()
        return changed

    async def until_unchanging(self) -> None:
        """Waits until no change of model is in progress."""
        await self._until(lambda: self._change is None and not self._retiring)

    async def renew(self) -> str | None:
        """Replaces the engine in use by a new one with the same model, if both fit. Returns the problem, if any.

        Call it only while no change is in progress.
        """
        current, problem = self.current, None
        self._begin(current.model.name)
        try:
            candidate = self._new_candidate(current.model, current.text)
            # Only if both fit: otherwise requests would have to wait for the new engine although the old one could
            # answer.
            if await self._fits_beside(current.model):
                await self._load_beside(candidate)
            else:
                self._candidate = None
                problem = "there is not enough memory for a second worker"
        except Exception as error:  # noqa: BLE001  boundary: the old engine continues to serve
            if self._candidate not in (None, self._current):
                await self._discard(self._candidate)
            problem = str(error)
            _log.warning("worker not renewed", model=current.model.name, reason=problem)
        self._end()
        return problem

    async def unload(self, name: str) -> ModelChanged:
        """Ends the engine of the model in use once it is empty. Raises `ModelRefused`."""
        self._begin(name)
        try:
            model = await self.files.find(name)
            if not self._is_current(model):
                raise ModelRefused(ErrorCode.CONFLICT, f"{name} is not the model in use, which is {self.in_use.name}")
            if self.current.state != "unloaded":
                self._unload_current()
            # A request that arrived in the meantime loads it again, but the unload was carried out all the same.
            await self._until(lambda: not self._retiring)
            return ModelChanged(model=model.name, state="unloaded", worker_pid=None)
        finally:
            self._change = None

    # --- a change ---------------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        if self._change is not None:
            raise ModelRefused(
                ErrorCode.CONFLICT,
                f"another change, to {self._change}, is in progress; see GET /models",
                retry_after_ms=BUSY_MS,
            )
        self._change = name

    def _end(self) -> None:
        self._change = None
        self._candidate = None
        self.note()

    async def _load(self, name: str) -> ModelChanged:
        model = await self.files.find(name)
        self._change = model.name
        self._problems.pop(model.name, None)
        if self._is_current(model):
            self.need(self.current)
            await self._until(lambda: self.current.state in ("ready", "down"))
        else:
            # The engine of an earlier change may still be finishing its answers.
            await self._until(lambda: not self._retiring)
            candidate = self._new_candidate(model, await self._text(model))
            if await self._fits_beside(model):
                await self._load_beside(candidate)
            else:
                await self._load_after(candidate)
        if self.current.state == "down":
            raise ModelRefused(ErrorCode.MODEL_UNAVAILABLE, f"{name} cannot be loaded: {self.current.stage}")
        return ModelChanged(model=model.name, state="loaded", worker_pid=self.current.worker_pid)

    async def _load_beside(self, candidate: Scheduler) -> None:
        """Loads the new model while the old one serves."""
        problem = await self._start_and_settle(candidate)
        if problem is not None:
            raise self._refusal(candidate.model, problem, self.in_use.name)
        old, self._current = self.current, candidate
        self._settle(candidate)
        if old.state != "unloaded":
            self._retire(old)

    async def _load_after(self, candidate: Scheduler) -> None:
        """Loads the new model after the old one, since both do not fit: new requests wait while the old engine finishes
        and ends."""
        old, self._current = self.current, candidate
        candidate.state, candidate.stage = "loading", f"waiting until {old.model.name} has finished its answers"
        if old.state != "unloaded":
            self._retire(old)
        await self._until(lambda: not self._retiring)
        problem = await self._start_and_settle(candidate)
        if problem is None:
            self._settle(candidate)
            return
        back = self._new(old.model, old.text)
        self._current = back
        await self._discard(candidate)
        self._wake(back)
        await self._move(candidate, back)
        raise self._refusal(candidate.model, problem, old.model.name)

    def _settle(self, candidate: Scheduler) -> None:
        """Makes the candidate the model in use."""
        candidate.fails_waiting = True
        self._in_use = candidate.model
        self._candidate = None
        self.note()
        _log.info("model in use", model=candidate.model.name, worker_pid=candidate.worker_pid)

    async def _start_and_settle(self, candidate: Scheduler) -> str | None:
        """Starts an engine and waits until its model is loaded. Returns the problem, if any."""
        try:
            await self._start(candidate)
            with trio.fail_after(SETTLE_SECONDS):
                await self._until(lambda: candidate.was_ready or candidate.load_problem is not None)
        except trio.TooSlowError:
            return f"it was not ready after {SETTLE_SECONDS:g} seconds"
        except Exception as error:  # noqa: BLE001  boundary: any failure to start a process is reported as text
            return f"its process could not be started: {error}"
        return None if candidate.was_ready else candidate.load_problem

    async def _discard(self, candidate: Scheduler | None) -> None:
        assert candidate is not None
        candidate.is_ending = True
        await self._engines.stop_child(candidate.name)
        self._candidate = None
        self.note()

    async def _fits_beside(self, model: ServableModel) -> bool:
        """True if the model fits into memory together with those loaded. Raises `ModelRefused` if it would not fit even
        alone."""
        loaded = [one.model for one in self.all if one.state != "unloaded" and one is not self._candidate]
        try:
            weights, *others = [
                await self.files.read(self._model_registry.need_bytes, one, self._backend) for one in (model, *loaded)
            ]
        except (ModelError, OSError) as error:
            raise self._refusal(model, error, self.in_use.name) from None
        held, bound = sum(others), self._memory_bound_bytes
        free = await trio.to_thread.run_sync(available_memory_bytes, held)
        if not fits_alone(weights, held, bound_bytes=bound, free_bytes=free):
            usable = bound or (free or 0) + held
            problem = f"its weights take {weights / 1e6:,.0f} MB, and {usable / 1e6:,.0f} MB are available for models"
            raise self._refusal(model, problem, self.in_use.name)
        return fits_beside(weights, held, bound_bytes=bound, free_bytes=free)

    # --- engines ----------------------------------------------------------------------------------

    def _new(self, model: ServableModel, text: TextModel, name: str | None = None) -> Scheduler:
        if name is None:
            self._engines_started += 1
            name = str(self._engines_started)
        scheduler = self._new_scheduler(model, text, self._engines.child(name))
        scheduler.state, scheduler.stage = "unloaded", None
        return scheduler

    def _new_candidate(self, model: ServableModel, text: TextModel) -> Scheduler:
        candidate = self._candidate = self._new(model, text)
        candidate.fails_waiting = False
        return candidate

    def _wake(self, scheduler: Scheduler) -> None:
        scheduler.state, scheduler.stage = "loading", "starting"
        self.note()
        self._context.spawn(self._keep_starting, scheduler)

    async def _keep_starting(self, scheduler: Scheduler) -> None:
        """Starts the engine of the model in use, retrying until it succeeds; from then on its supervisor restarts it."""
        await self._until(lambda: not self._retiring)
        while scheduler is self._current:
            try:
                await self._start(scheduler)
            except Exception as error:  # noqa: BLE001  boundary: a machine short of memory or processes may recover
                _log.exception("engine not started", model=scheduler.model.name)
                scheduler.load_failed(f"failed: the worker could not be started: {error}")
            else:
                return
            await trio.sleep(START_AGAIN_SECONDS)

    async def _start(self, scheduler: Scheduler) -> None:
        if self._engines.has_child(scheduler.name):
            # An earlier incarnation started it, and the engine registry has restarted since and lost its record.
            self._attach(scheduler)
            return
        scheduler.state, scheduler.stage = "loading", "starting"
        self.note()
        await self._engines.start_child(
            scheduler.name, self._engine_for(scheduler.model), restart=Restart.PERMANENT, backoff=ENGINE_BACKOFF
        )

    def _unload_current(self) -> None:
        old = self.current
        self._current = self._new(old.model, old.text)
        self._retire(old)

    def _retire(self, scheduler: Scheduler, *, grace_seconds: float = 0.0) -> None:
        self._retiring[scheduler.name] = scheduler
        self._context.spawn(self._end_when_empty, scheduler, grace_seconds)

    async def _end_when_empty(self, scheduler: Scheduler, grace_seconds: float) -> None:
        await trio.sleep(grace_seconds)
        await self._until(lambda: scheduler.is_empty)
        scheduler.is_ending = True
        await self._engines.stop_child(scheduler.name)
        del self._retiring[scheduler.name]
        self.note()

    # --- small things -----------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()

    async def calibration_for(self, request: StartGeneration) -> dict[ServableModel, Calibration]:
        """Calibration of the request's model, keyed by model because another may take over before the answer begins."""
        if not request.wants_calibrated:
            return {}
        model = self.scheduler_for(request.resume).model
        found = await self.files.read(self._model_registry.calibration, model)
        return {} if found is None else {model: found}

    async def _text(self, model: ServableModel) -> TextModel:
        try:
            return await self.files.text(model)
        except ModelUnreadable:
            raise
        except (ModelRefused, OSError, ValueError) as error:
            if self._current is None:
                raise
            raise self._refusal(model, error, self.in_use.name) from None

    def _refusal(self, model: ServableModel, problem: object, serving: str) -> ModelRefused:
        reason = reason_in_short(str(problem).removeprefix("failed: "))
        return ModelRefused(
            ErrorCode.MODEL_UNAVAILABLE, f"{model.name} cannot be loaded: {reason}; {serving} stays active"
        )

    def _is_current(self, model: ServableModel) -> bool:
        return model == self.current.model
