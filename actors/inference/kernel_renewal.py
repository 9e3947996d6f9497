"""Moves the model in use to a worker with compiled kernels, once another process has compiled them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from actors.inference.kernel_compiler import CompileKernels
from actors.inference.scheduler import Scheduler
from runtime import ActorRef, Context, RuntimeFault

if TYPE_CHECKING:
    from actors.inference.model_manager import ModelManager

__all__ = ["KernelRenewal"]


class KernelRenewal:
    """Part of the inference actor: called only from the actor's task and its child tasks."""

    def __init__(self, models: ModelManager, compiler: ActorRef[CompileKernels] | None, context: Context) -> None:
        self._models = models
        self._compiler = compiler
        self._context = context
        self._is_renewing = False
        self.problem: str | None = None
        """Why there will be no compiled kernels; None if there are, or they are still being compiled."""

    def request(self, scheduler: Scheduler) -> None:
        """Requests compilation if a worker that became ready runs without kernels that it could use."""
        if not _waits_for_kernels(scheduler) or self.problem is not None:
            return
        if self._compiler is not None and self._compiler.is_running:
            with suppress(RuntimeFault):  # the next worker that becomes ready asks again
                self._compiler.tell_nowait(CompileKernels())

    def settled(self, problem: str | None) -> None:
        """Handles the outcome of the compilation."""
        self.problem = problem
        if problem is None and not self._is_renewing:
            self._is_renewing = True
            self._context.spawn(self._renew, name="renew_for_kernels")

    async def _renew(self) -> None:
        """Renews the worker in use. Answers in progress finish on the old one, with its rounding."""
        try:
            await self._models.until_unchanging()
            if not _waits_for_kernels(self._models.current):
                return
            problem = await self._models.renew()
            if problem is not None:
                self.problem = f"the kernels are compiled, but no worker uses them: {problem}"
            elif _waits_for_kernels(self._models.current):
                self.problem = "the kernels are compiled, but the worker does not find them"
        finally:
            self._is_renewing = False


def _waits_for_kernels(scheduler: Scheduler) -> bool:
    return scheduler.state == "ready" and scheduler.report is not None and scheduler.report.kernels == "compiling"
