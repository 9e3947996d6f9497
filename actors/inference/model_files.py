"""Reads model files in threads with a time limit, so that a hanging network disk cannot block a change of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from actors.inference.messages import ModelRefused
from protocol.errors import ErrorCode

__all__ = ["CHANGE_SECONDS", "LIST_SECONDS", "DiskSilent", "ModelFiles"]

_log = structlog.get_logger("models")

CHANGE_SECONDS = 60.0
"""Limit for one read of names, headers or configs: a cold disk takes seconds."""
LIST_SECONDS = 8.0
"""Limit for listing all models; callers wait for ten seconds."""
THREADS = 4
"""A thread blocked by the disk cannot be ended, so their number is limited and nothing else runs in them."""
RETRY_MS = 10_000

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class DiskSilent(ModelRefused):
    """The disk did not answer in time; nothing is known about the model."""


class ModelFiles:
    """Reads model files for one owner, in threads of its own."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(THREADS)

    async def read(self, function: Callable[[*Given], Result], *given: *Given, seconds: float | None = None) -> Result:
        """Calls ``function`` in a thread. Raises `DiskSilent` (`unavailable`) if the disk does not answer in time.

        A call that times out or is cancelled continues in its thread until the disk returns; its result is dropped.
        """
        seconds = CHANGE_SECONDS if seconds is None else seconds
        with trio.move_on_after(seconds):
            return await trio.to_thread.run_sync(function, *given, limiter=self._threads, abandon_on_cancel=True)
        _log.warning("disk of the models does not answer", waited_seconds=seconds)
        raise DiskSilent(
            ErrorCode.UNAVAILABLE,
            f"the disk with the models did not answer within {seconds:g} seconds; nothing was changed. "
            "See whether it is mounted and reachable, then try again",
            retry_after_ms=RETRY_MS,
        )
