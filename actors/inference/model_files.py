"""Files of models, read in threads that nobody waits for without end: a network disk that hangs holds no change of models."""

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
"""For one look at names, headers or configs: a cold disk takes seconds."""
LIST_SECONDS = 8.0
"""For a list of all models, whose askers wait for ten seconds."""
THREADS = 4
"""A thread that the disk holds cannot be ended; there are no more of them, and none that others work with."""
RETRY_MS = 10_000

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class DiskSilent(ModelRefused):
    """The disk did not answer in time, which says nothing of the model."""


class ModelFiles:
    """Threads of one owner that read what models consist of."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(THREADS)

    async def read(self, function: Callable[[*Given], Result], *given: *Given, seconds: float | None = None) -> Result:
        """What ``function`` returns or raises. Raises `DiskSilent` (`unavailable`) where the disk does not answer in time.

        A call that is given up, or cancelled, goes on in its thread until the disk lets it go; what it comes to is forgotten.
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
