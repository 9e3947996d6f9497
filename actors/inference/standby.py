"""The warm standby: a worker process that has imported everything but loaded no model, for an engine whose worker died.

Importing takes most of a new worker's start-up time, so an engine that gets this process resumes sooner. Nothing
depends on it: if it is missing, late or dead, the engine starts a process of its own.
"""

from __future__ import annotations

import structlog
import trio

from actors.inference.engine_messages import PrepareStandby, StandbyMessage, StandbyTaken, TakeStandby
from actors.inference.frames import FrameFault
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import PROTOCOL, Hello, StandingBy, WaitForModel, check_protocol
from actors.inference.worker_process import InferenceWorker
from runtime import Actor, block

__all__ = ["WarmStandby"]

_log = structlog.get_logger("standby")

IMPORT_SECONDS = 120.0
"""Enough on a busy machine; a process that is not ready by then is no help."""
AGAIN_SECONDS = 30.0
"""Pause after a standby died unused: whatever killed it may be a shortage of memory."""


class WarmStandby(Actor[StandbyMessage]):
    """Owns at most one process, from its start until an engine takes it."""

    mailbox = block(64)

    def __init__(
        self, config: WorkerConfig, *, early: list[InferenceWorker] | None = None, keeps_one: bool = True
    ) -> None:
        """``config`` is the configuration that its process imports for.

        ``early`` holds a process that was started before the tree and told to wait for a model; the first engine that
        asks takes it, whether it is standing by yet or not. Without ``keeps_one`` no other is prepared.
        """
        self._config = config
        self._early = [] if early is None else early
        self._keeps_one = keeps_one
        self._ready: InferenceWorker | None = None
        self._given: InferenceWorker | None = None
        self._keeping: trio.CancelScope | None = None
        self._let_go = trio.Event()

    async def handle(self, message: StandbyMessage) -> InferenceWorker | None:
        match message:
            case PrepareStandby():
                await self._end_unclaimed()
                if self._keeping is None and self._keeps_one:
                    self._keeping = self.context.spawn(self._keep)
            case TakeStandby():
                return await self._hand_over()
            case StandbyTaken(worker_pid):
                if self._given is not None and self._given.pid == worker_pid:
                    self._given = None
        return None

    async def stopping(self) -> None:
        """Ends a process that was handed over but never claimed; `_keep` ends the one it keeps."""
        await self._end_unclaimed()

    def snapshot(self) -> dict[str, object]:
        """Process id and activity."""
        return {
            "standby_pid": None if self._ready is None else self._ready.pid,
            "is_keeping": self._keeping is not None,
        }

    async def _hand_over(self) -> InferenceWorker | None:
        """Stops reading from the process before its new owner starts."""
        if self._early:
            self._given = self._early.pop()
            return self._given
        worker, self._ready = self._ready, None
        if worker is None or self._keeping is None:
            return None
        self._given = worker
        self._keeping.cancel(reason="handed over")
        await self._let_go.wait()
        self._keeping = None
        return worker

    async def _end_unclaimed(self) -> None:
        """Ends a process whose engine was lost while taking it over."""
        if self._given is not None:
            worker, self._given = self._given, None
            await worker.end()

    async def _keep(self) -> None:
        """Keeps one process ready until it is handed over."""
        self._let_go = trio.Event()
        try:
            while True:
                try:
                    await self._keep_one()
                except (OSError, FrameFault, trio.BrokenResourceError, trio.TooSlowError) as error:
                    _log.warning("no standby worker", error=repr(error))
                    self.context.note_problem(f"no standby worker: {error}")
                await trio.sleep(AGAIN_SECONDS)
        finally:
            self._let_go.set()

    async def _keep_one(self) -> None:
        worker = await InferenceWorker.start(self._config.command)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.drain_output)
                with trio.fail_after(IMPORT_SECONDS):
                    await worker.write(WaitForModel(PROTOCOL, self._config))
                    await _until_ready(worker)
                self._ready = worker
                self.context.note_problem(None)
                _log.info("standby worker ready", worker_pid=worker.pid)
                status = await worker.process.wait()
                self._ready = None
                _log.warning("standby worker lost", worker_pid=worker.pid, status=status)
                nursery.cancel_scope.cancel(reason="it is gone")
        finally:
            if self._given is not worker:
                self._ready = None
                await worker.end()


async def _until_ready(worker: InferenceWorker) -> None:
    while frames := await worker.receive_frames():
        for frame in frames:
            if isinstance(frame, Hello):
                check_protocol(frame.protocol)
            if isinstance(frame, StandingBy):
                return
    raise FrameFault(f"worker {worker.pid} ended before it was standing by: {'; '.join(list(worker.output)[-3:])}")
