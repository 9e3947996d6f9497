"""Collects a streamed generation into one `Completion`, for callers that do not stream."""

from __future__ import annotations

import trio

from actors.inference.messages import (
    Completion,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationTokens,
)
from protocol.errors import ErrorCode

__all__ = ["ResponseCollector"]


class ResponseCollector:
    """Subscriber of one generation; its size is bounded by the model's context."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._ended = trio.Event()
        self._last: GenerationEvent | None = None

    def deliver(self, event: GenerationEvent) -> None:
        """Takes the next event. Never blocks."""
        if isinstance(event, GenerationTokens):
            self._text.append(event.text)
        else:
            self._last = event
            self._ended.set()

    async def completion(self) -> Completion:
        """Waits for the end and returns the whole answer. Raises `GenerationRefused` if it did not complete;
        cancel-safe."""
        await self._ended.wait()
        if isinstance(self._last, GenerationDone):
            return Completion(text="".join(self._text), done=self._last.done)
        if isinstance(self._last, GenerationFailed):
            raise GenerationRefused(self._last.code, self._last.message)
        raise GenerationRefused(ErrorCode.UNAVAILABLE, "the generation was cancelled")
