"""Chunks of a streamed reply, produced as tokens arrive. No I/O; ids of calls are random."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from actors.inference.messages import GenerationTokens
from actors.rest.answer_reading.reader import AnswerPart, AnswerReader
from actors.rest.openai.replies import ReplyHead, chat_chunk, chat_part_chunk, completion_chunk, finish_reason_of
from actors.rest.openai.tool_call_reader import CallStart
from protocol.events import Done, FinishReason

__all__ = ["ChatChunks", "TextChunks", "call_id"]


def call_id() -> str:
    """Draw a unique id for a call."""
    return f"call_{secrets.token_hex(12)}"


class TextChunks:
    """Chunks of a continued prompt."""

    reasoning_tokens = 0
    """Raw completions have no separate reasoning."""

    def __init__(self, head: ReplyHead) -> None:
        self._head = head

    def take(self, tokens: Sequence[GenerationTokens]) -> Iterator[dict[str, Any]]:
        """Yield the chunk for these tokens."""
        yield completion_chunk(self._head, tokens)

    def end(self, done: Done) -> Iterator[dict[str, Any]]:
        """Yield the last chunk, with the finish reason."""
        yield completion_chunk(self._head, (), finish_reason=done.finish_reason.value)


class ChatChunks:
    """Chunks of a chat: reasoning and text as they arrive, and each call as OpenAI streams it, name first and then
    arguments.
    """

    def __init__(self, head: ReplyHead, reader: AnswerReader) -> None:
        self._head = head
        self._reader = reader
        self._calls = 0

    @property
    def reasoning_tokens(self) -> int:
        """Number of the answer's tokens that were reasoning."""
        return self._reader.reasoning_tokens

    def take(self, tokens: Sequence[GenerationTokens]) -> Iterator[dict[str, Any]]:
        """Yield chunks for everything that can no longer change; possibly none."""
        return self._made_of(self._reader.take(tokens))

    def end(self, done: Done) -> Iterator[dict[str, Any]]:
        """Yield what was held back, then the last chunk with the finish reason."""
        is_cut = done.finish_reason is FinishReason.LENGTH
        yield from self._made_of(self._reader.finish(is_cut=is_cut, is_forced=self._head.is_forced))
        if self._head.has_logprobs and (unscored := self._reader.take_said()):
            # Tokens without text of their own.
            yield chat_part_chunk(self._head, "", index=0, make_id=call_id, tokens=unscored)
        has_calls = self._calls > 0 and not self._reader.has_cut_call
        yield chat_chunk(self._head, (), finish_reason=finish_reason_of(self._head, done, has_calls=has_calls))

    def _made_of(self, parts: Sequence[AnswerPart]) -> Iterator[dict[str, Any]]:
        for part in parts:
            self._calls += isinstance(part, CallStart)
            scored = self._reader.take_said() if isinstance(part, str) else []
            yield chat_part_chunk(self._head, part, index=self._calls - 1, make_id=call_id, tokens=scored)
