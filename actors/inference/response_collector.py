"""One answer, collected until its end: for an asker that wants all of it at once."""

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
    """Follows one generation; what it holds is bounded by the model's context."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._ended = trio.Event()
        self._last: GenerationEvent | None = None

    def deliver(self, event: GenerationEvent) -> None:
        """Take the next event. Never waits."""
        if isinstance(event, GenerationTokens):
            self._text.append(event.text)
        else:
            self._last = event
            self._ended.set()

    async def completion(self) -> Completion:
        """The whole answer, at its end. Raises `GenerationRefused` where it could not be finished; cancel-safe."""
        await self._ended.wait()
        if isinstance(self._last, GenerationDone):
            return Completion(text="".join(self._text), done=self._last.done)
        if isinstance(self._last, GenerationFailed):
            raise GenerationRefused(self._last.code, self._last.message)
        raise GenerationRefused(ErrorCode.UNAVAILABLE, "the generation was cancelled")
