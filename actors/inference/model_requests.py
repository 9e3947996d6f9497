"""Handles requests that change the worker in use."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from actors.inference.engine_messages import KillWorker
from actors.inference.kernel_compiler import KernelsSettled
from actors.inference.messages import GenerationRefused, KillEngine, LoadModel, ModelRefused, UnloadModel
from actors.inference.model_manager import ModelManager
from protocol.errors import ErrorCode
from runtime import Context

__all__ = ["ModelRequests"]

_log = structlog.get_logger("models")


class ModelRequests:
    """Part of the inference actor: carries changes out in tasks of the actor."""

    def __init__(self, models: ModelManager, context: Context, refuse: Callable[[], None]) -> None:
        """``refuse`` raises `GenerationRefused` while the server accepts no more work."""
        self._models = models
        self._context = context
        self._refuse = refuse

    def handle(self, message: LoadModel | UnloadModel | KernelsSettled | KillEngine) -> int | None:
        """Handles a message of the actor. Returns the answer to `KillEngine`; changes are answered later."""
        match message:
            case KernelsSettled(problem):
                self._models.kernels.settled(problem)
            case KillEngine():
                return self._kill()
            case _:
                self._change(message)
        return None

    def _kill(self) -> int:
        current = self._models.current
        if current.state != "ready" or current.worker_pid is None or not current.engine.is_running:
            raise ModelRefused(ErrorCode.CONFLICT, f"the engine is {current.state}, so there is no process to kill")
        _log.warning("engine process killed by an operator", worker_pid=current.worker_pid)
        current.engine.tell_nowait(KillWorker())
        return current.worker_pid

    def _change(self, request: LoadModel | UnloadModel) -> None:
        """Runs in a task of the actor, not of the caller, so that a caller that leaves cannot leave half a change behind."""
        port = self._context.defer()
        change = self._models.load if isinstance(request, LoadModel) else self._models.unload

        async def carry_out() -> None:
            try:
                self._refuse()
                port.reply(await change(request.name))
            except GenerationRefused as refusal:
                port.fail(refusal)
            except Exception as error:  # noqa: BLE001  isolation boundary: a request's exception is its caller's answer
                _log.exception("change of model failed", model=request.name)
                port.fail(ModelRefused(ErrorCode.INTERNAL, f"the change failed: {type(error).__name__}"))

        self._context.spawn(carry_out, name="change_model")
