"""The chunks of a streamed reply, made as tokens come. Pure but for the ids of calls, which are drawn."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from actors.inference.messages import GenerationTokens
from actors.rest.openai.replies import ReplyHead, chat_chunk, chat_part_chunk, completion_chunk, finish_reason_of
from actors.rest.openai.tool_call_reader import CallStart, Part, ToolCallReader
from protocol.events import Done, FinishReason

__all__ = ["CallChunks", "TextChunks", "call_id"]


def call_id() -> str:
    """A name for a call that no other has."""
    return f"call_{secrets.token_hex(12)}"


class TextChunks:
    """Of a chat without tools, or of a continued prompt."""

    def __init__(self, head: ReplyHead) -> None:
        self._head = head

    def take(self, tokens: Sequence[GenerationTokens]) -> Iterator[dict[str, Any]]:
        """What these tokens make."""
        yield self._chunk(tokens, None)

    def end(self, done: Done) -> Iterator[dict[str, Any]]:
        """The last, which says why it ended."""
        yield self._chunk((), done.finish_reason.value)

    def _chunk(self, tokens: Sequence[GenerationTokens], finish_reason: str | None) -> dict[str, Any]:
        if self._head.is_chat:
            return chat_chunk(self._head, tokens, finish_reason=finish_reason)
        return completion_chunk(self._head, tokens, finish_reason=finish_reason)


class CallChunks:
    """Of a chat that may call tools: text as it comes, and each call as OpenAI does it, its name first and then its arguments."""

    def __init__(self, head: ReplyHead, reader: ToolCallReader) -> None:
        self._head = head
        self._reader = reader
        self._calls = 0

    def take(self, tokens: Sequence[GenerationTokens]) -> Iterator[dict[str, Any]]:
        """What is certain now, perhaps nothing."""
        return self._made_of(self._reader.feed("".join(one.text for one in tokens)))

    def end(self, done: Done) -> Iterator[dict[str, Any]]:
        """What was held back, and the last, which says why it ended."""
        yield from self._made_of(
            self._reader.finish(is_cut=done.finish_reason is FinishReason.LENGTH, is_forced=self._head.is_forced)
        )
        yield chat_chunk(self._head, (), finish_reason=finish_reason_of(self._head, done, has_calls=self._calls > 0))

    def _made_of(self, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        for part in parts:
            self._calls += isinstance(part, CallStart)
            yield chat_part_chunk(self._head, part, index=self._calls - 1, make_id=call_id)
