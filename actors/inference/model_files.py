"""Reads model files in threads with a time limit, so that a hanging network disk cannot block a change of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from actors.inference.checkpoints.errors import ModelNotFound
from actors.inference.messages import ModelRefused
from actors.inference.model_registry import ModelRegistry, ServableModel
from actors.inference.sandbox_messages import OpenText, SandboxMessage
from actors.inference.text.text_model import TextModel
from actors.inference.text.token_text import SandboxedText
from protocol.errors import ErrorCode
from runtime import ActorRef, RuntimeFault

__all__ = ["LIST_SECONDS", "ModelFiles", "ModelUnreadable"]

_log = structlog.get_logger("models")

CHANGE_SECONDS = 60.0
"""Limit for one read of names, headers or configs: a cold disk takes seconds."""
LIST_SECONDS = 8.0
"""Limit for listing all models; callers wait for ten seconds."""
OPEN_TEXT_SECONDS = 150.0
"""Longer than the sandbox's own deadlines, so that the sandbox's reason is the one reported."""
THREADS = 4
"""A thread blocked by the disk cannot be ended, so their number is limited and nothing else runs in them."""
RETRY_MS = 10_000
BUSY_MS = 2000

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class ModelUnreadable(ModelRefused):
    """The disk or the sandbox did not answer; nothing is known about the model."""


class ModelFiles:
    """Reads model files for one owner, in threads of its own."""

    def __init__(self, registry: ModelRegistry, sandbox: ActorRef[SandboxMessage] | None = None) -> None:
        """Without ``sandbox``, tokenizers and templates are loaded in this process."""
        self._registry = registry
        self._sandbox = sandbox
        self._threads = trio.CapacityLimiter(THREADS)

    async def read(self, function: Callable[[*Given], Result], *given: *Given, seconds: float | None = None) -> Result:
        """Calls ``function`` in a thread. Raises `ModelUnreadable` if the disk does not answer in time.

        A call that times out or is cancelled continues in its thread until the disk returns; its result is dropped.
        """
        seconds = CHANGE_SECONDS if seconds is None else seconds
        with trio.move_on_after(seconds):
            return await trio.to_thread.run_sync(function, *given, limiter=self._threads, abandon_on_cancel=True)
        _log.warning("model disk does not answer", waited_seconds=seconds)
        raise ModelUnreadable(
            ErrorCode.UNAVAILABLE,
            f"the disk with the models did not answer within {seconds:g} seconds; nothing was changed. "
            "See whether it is mounted and reachable, then try again",
            retry_after_ms=RETRY_MS,
        )

    async def find(self, name: str) -> ServableModel:
        """Finds a model by name. Raises `ModelRefused`."""
        try:
            return await self.read(self._registry.find, name)
        except ModelNotFound:
            raise ModelRefused(
                ErrorCode.NOT_FOUND, f"there is no model called {name} on this machine; see GET /models", field="name"
            ) from None

    async def text(self, model: ServableModel) -> TextModel:
        """Opens a model's text side, in the sandbox if there is one.

        Raises `ModelUnreadable`, or what is wrong with the files as `ModelRefused`, `OSError` or `ValueError`.
        """
        if self._sandbox is None or model.folder is None:
            return await self.read(self._registry.text, model)
        try:
            report = await self._sandbox.ask(OpenText(model.folder), timeout=OPEN_TEXT_SECONDS)
        except RuntimeFault as error:
            raise ModelUnreadable(
                ErrorCode.UNAVAILABLE, f"{model.name} cannot be loaded now: {error}", retry_after_ms=BUSY_MS
            ) from None
        return await self.read(SandboxedText, model.folder, report)
