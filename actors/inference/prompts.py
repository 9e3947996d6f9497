"""Prompts to token ids, in a few threads and within a deadline."""

from __future__ import annotations

import math

import trio

from actors.inference.grammar import BadSchema
from actors.inference.messages import GenerationRefused
from actors.inference.text.chat_template import TemplateRefused
from actors.inference.text.text_model import TextModel
from protocol.commands import Generate
from protocol.errors import ErrorCode

__all__ = ["DEADLINE_PASSED", "PromptEncoder"]

DEADLINE_PASSED = "the request's own deadline has passed"

ENCODING_THREADS = 4
ENCODING_SECONDS = 30.0


class PromptEncoder:
    """Encodes a bounded number of prompts at once."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(ENCODING_THREADS)

    @property
    def waiting(self) -> int:
        """Prompts that wait for a thread."""
        return self._threads.statistics().tasks_waiting

    async def encode(self, text: TextModel, generate: Generate, deadline_at: float = math.inf) -> list[int]:
        """The prompt as token ids. Raises `GenerationRefused`; cancelled, it leaves its thread to finish.

        ``deadline_at`` is the request's own, on Trio's clock.
        """
        gives_up_at = trio.current_time() + ENCODING_SECONDS
        try:
            with trio.fail_at(min(gives_up_at, deadline_at)):
                return await trio.to_thread.run_sync(
                    text.encode, generate, limiter=self._threads, abandon_on_cancel=True
                )
        except TemplateRefused as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"the model's chat template refuses this: {error}", field="data.messages"
            ) from None
        except BadSchema as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"data.{error.field}: {error}", field=f"data.{error.field}"
            ) from None
        except trio.TooSlowError:
            if deadline_at < gives_up_at:
                raise GenerationRefused(ErrorCode.DEADLINE_EXCEEDED, DEADLINE_PASSED) from None
            raise GenerationRefused(
                ErrorCode.OVERLOADED, "the prompt was not encoded in time", retry_after_ms=1000
            ) from None
