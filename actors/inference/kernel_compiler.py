"""The kernel compiler: compiles the CPU kernels in a separate process while a worker answers without them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import structlog
import trio
from attrs import frozen

from actors.inference.worker_process import WorkerProcess
from runtime import Actor, ActorRef, block

__all__ = ["CompileKernels", "KernelCompiler", "KernelsSettled"]

_log = structlog.get_logger("kernels")

COMPILE_SECONDS = 1200.0
"""Takes 15 seconds on an idle machine. The process is nice, so others may delay it; on timeout it is ended and its
results so far stay."""
TRIES = 3
AGAIN_SECONDS = 10.0


@frozen
class CompileKernels:
    """A worker runs without compiled kernels that it could use: compile them, or report the outcome again."""


@frozen
class KernelsSettled:
    """Outcome of the compilation; sent to the inference actor."""

    problem: str | None
    """Why there are no compiled kernels; None if there are."""


class KernelCompiler(Actor[CompileKernels]):
    """Owns at most one process, which ends with the actor."""

    mailbox = block(16)

    def __init__(self, cache_folder: Path, inference: ActorRef[KernelsSettled]) -> None:
        self._cache_folder = cache_folder
        self._inference = inference
        self._state: Literal["idle", "compiling", "settled"] = "idle"
        self._problem: str | None = None
        self._pid: int | None = None

    async def started(self) -> None:
        """Resumes the compilation of a lost incarnation."""
        if self.context.incarnation > 1:
            await self.handle(CompileKernels())

    async def handle(self, message: CompileKernels) -> None:
        """Starts compiling unless that is already in progress."""
        if self._state == "settled":
            await self._inference.tell(KernelsSettled(self._problem))
        elif self._state == "idle":
            self._state = "compiling"
            self.context.spawn(self._compile)

    def snapshot(self) -> dict[str, object]:
        """State and process id."""
        return {"state": self._state, "problem": self._problem, "compiler_pid": self._pid}

    async def _compile(self) -> None:
        for attempt in range(TRIES):
            if attempt:
                # The cause, a full disk perhaps, may have passed; nothing reports that.
                await trio.sleep(AGAIN_SECONDS)
            self._problem = await self._try()
            if self._problem is None:
                break
            _log.warning("kernels not compiled", problem=self._problem, tries_left=TRIES - 1 - attempt)
        self.context.note_problem(self._problem)
        self._state = "settled"
        await self._inference.tell(KernelsSettled(self._problem))

    async def _try(self) -> str | None:
        words = [sys.executable, "-m", "actors.inference.kernels", "--cache-dir", str(self._cache_folder), "--pipe"]
        try:
            worker = await WorkerProcess.start(lambda pipe: [*words, str(pipe)])
        except OSError as error:
            return f"the compiler process could not be started: {error.strerror}"
        began, self._pid = trio.current_time(), worker.pid
        try:
            with trio.move_on_after(COMPILE_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.drain_output)
                    status = await worker.process.wait()
                    nursery.cancel_scope.cancel(reason="it has ended")
                if status == 0:
                    _log.info("kernels compiled", seconds=round(trio.current_time() - began, 1))
                    return None
                words_of_it = "; ".join(list(worker.output)[-1:])
                return f"the compiler process ended with status {status}" + (f": {words_of_it}" if words_of_it else "")
            return f"the compiler process did not finish within {COMPILE_SECONDS:g} seconds"
        finally:
            self._pid = None
            await worker.end()
