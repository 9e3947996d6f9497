"""Replies of Anthropic's API, whole or as events, built from a generation's text. No I/O; ids are random."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import frozen

from actors.rest.answer_reading.reader import AnswerPart, AnswerReader, Reasoning, whole_answer
from actors.rest.openai.tool_call_reader import CallStart, ToolCall
from protocol.codec import encode
from protocol.events import Done, FinishReason

__all__ = ["PING", "MessageEvents", "MessageHead", "error_event", "message", "message_start", "new_id"]

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def new_id(prefix: str) -> str:
    """Draw a unique id."""
    return f"{prefix}_{secrets.token_hex(12)}"


@frozen(kw_only=True)
class MessageHead:
    """Fields common to all parts of one reply."""

    id: str
    model: str
    prompt_tokens: int
    new_reader: Callable[[], AnswerReader]
    """Makes a parser for reasoning and calls."""
    is_forced: bool = False
    """True if the answer must consist of tool calls."""

    def reply(self, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        """Build an unfinished message with this content."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }


def message(head: MessageHead, text: str, done: Done, stop_text: str | None) -> dict[str, Any]:
    """The complete answer."""
    reader = head.new_reader()
    made = [*reader.feed(text), *reader.finish(is_cut=_is_cut(done), is_forced=head.is_forced)]
    thought, parts = whole_answer(made)
    content: list[dict[str, Any]] = []
    if thought:
        content.append({"type": "thinking", "thinking": thought, "signature": signature(thought)})
    for part in parts:
        if isinstance(part, ToolCall):
            content.append(
                {"type": "tool_use", "id": new_id("toolu"), "name": part.name, "input": _object(part.arguments)}
            )
        elif content and content[-1]["type"] == "text":
            content[-1]["text"] += part
        else:
            content.append({"type": "text", "text": part})
    has_calls = any(one["type"] == "tool_use" for one in content)
    return {**head.reply(content, usage(done)), **_end(done, stop_text, has_calls=has_calls)}


def signature(thought: str) -> str:
    """A digest of the reasoning. Anthropic's clients require a signature and send it back; it has no effect."""
    return base64.b64encode(hashlib.sha256(thought.encode()).digest()).decode()


def usage(done: Done) -> dict[str, Any]:
    """The complete `usage`. As at Anthropic, a prompt's length is `input_tokens` plus `cache_read_input_tokens`."""
    counted = done.usage
    return {
        "input_tokens": counted.prompt_tokens - counted.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached_tokens,
        "output_tokens": counted.completion_tokens,
    }


def message_start(head: MessageHead) -> bytes:
    """The first event. The number of cached tokens is not known yet, and is reported with the last event."""
    counted = {"input_tokens": head.prompt_tokens, "cache_read_input_tokens": None, "output_tokens": 0}
    return _event("message_start", message=head.reply([], counted))


class MessageEvents:
    """Events of a streamed message between the first and the last, produced as text arrives."""

    def __init__(self, head: MessageHead) -> None:
        self._head = head
        self._reader = head.new_reader()
        self._thought: list[str] = []
        """Text of the open thinking block so far."""
        self._index = -1
        """Index of the block that began last."""
        self._open: str | None = None
        """Type of the open block, or None."""
        self._has_calls = False

    def take(self, text: str) -> Iterator[bytes]:
        """Return events for everything that can no longer change; possibly none."""
        return self._made_of(self._reader.feed(text))

    def end(self, done: Done, stop_text: str | None) -> Iterator[bytes]:
        """Yield what was held back, then the final events."""
        yield from self._made_of(self._reader.finish(is_cut=_is_cut(done), is_forced=self._head.is_forced))
        yield from self._close()
        yield _event("message_delta", delta=_end(done, stop_text, has_calls=self._has_calls), usage=usage(done))
        yield _event("message_stop")

    def _made_of(self, parts: Sequence[AnswerPart]) -> Iterator[bytes]:
        for part in parts:
            if isinstance(part, Reasoning):
                if self._open != "thinking":
                    yield from self._close()
                    yield self._begin("thinking", thinking="", signature="")
                self._thought.append(part.text)
                yield self._delta({"type": "thinking_delta", "thinking": part.text})
            elif isinstance(part, CallStart):
                yield from self._close()
                self._has_calls = True
                yield self._begin("tool_use", id=new_id("toolu"), name=part.name, input={})
            elif not isinstance(part, str):
                yield self._delta({"type": "input_json_delta", "partial_json": part.text})
            elif part:
                if self._open != "text":
                    yield from self._close()
                    yield self._begin("text", text="")
                yield self._delta({"type": "text_delta", "text": part})

    def _begin(self, kind: str, **block: Any) -> bytes:
        self._index += 1
        self._open = kind
        return _event("content_block_start", index=self._index, content_block={"type": kind, **block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": signature("".join(self._thought))})
            self._thought.clear()
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._index)


def error_event(body: dict[str, Any]) -> bytes:
    """An error in the middle of a stream, its last event."""
    return b"event: error\ndata: " + encode(body) + b"\n\n"


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + encode({"type": kind, **data}) + b"\n\n"


def _is_cut(done: Done) -> bool:
    return done.finish_reason is FinishReason.LENGTH


def _end(done: Done, stop_text: str | None, *, has_calls: bool) -> dict[str, Any]:
    if _is_cut(done):
        reason = "max_tokens"
    elif stop_text is not None:
        reason = "stop_sequence"
    else:
        reason = "tool_use" if has_calls else "end_turn"
    return {"stop_reason": reason, "stop_sequence": stop_text}


def _object(arguments: str) -> dict[str, Any]:
    """The arguments as an object; empty if the answer was truncated within them, which `stop_reason` tells."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
