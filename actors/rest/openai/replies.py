"""Replies of OpenAI's API, built from a generation's events. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from actors.inference.embedding_messages import EncoderHealth
from actors.inference.messages import EngineHealth, GenerationTokens
from actors.rest.answer_reading.reader import AnswerPart, AnswerReader, Reasoning, whole_answer
from actors.rest.openai.tool_call_reader import CallStart, ToolCall
from protocol.events import Done, FinishReason

__all__ = [
    "ReplyHead",
    "chat_chunk",
    "chat_completion",
    "chat_entry",
    "chat_part_chunk",
    "completion",
    "completion_chunk",
    "completion_logprobs",
    "encoder_model",
    "finish_reason_of",
    "models",
    "usage",
    "usage_chunk",
]


@frozen(kw_only=True)
class ReplyHead:
    """Fields common to all parts of one reply."""

    id: str
    model: str
    created: int
    """POSIX seconds."""
    is_chat: bool
    includes_usage: bool = False
    """True if each chunk of the stream has a `usage`, which is null except in the last."""
    has_logprobs: bool = False
    is_forced: bool = False
    """True if the answer must consist of tool calls."""
    is_legacy: bool = False
    """True if a call is returned as `function_call`, the older form."""
    names_function: bool = False
    """True if the client named the function to call."""

    def part(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Build an object with these choices."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def models(engine: EngineHealth, created: int) -> dict[str, Any]:
    """The loaded model as an entry of `GET /v1/models`: OpenAI's fields, and others that clients look for."""
    return {
        "id": engine.model,
        "object": "model",
        "created": created,
        "owned_by": "leanvibe",
        # Anthropic's fields.
        "type": "model",
        "display_name": engine.model,
        "created_at": datetime.datetime.fromtimestamp(created, datetime.UTC).isoformat(),
        "lifecycle": "active",
        "max_input_tokens": engine.context_tokens,
        "max_tokens": engine.context_tokens,
        # One number under three names: llama.cpp's and OpenRouter's, vLLM's, and the longest answer, which has the
        # same limit.
        "context_length": engine.context_tokens,
        "max_model_len": engine.context_tokens,
        "max_output_tokens": engine.context_tokens,
        "state": engine.state,
        # Whether the model's own chat template supports tools; otherwise they are described in a generic form.
        "tools": "template" if engine.has_tools else "generic",
        "capabilities": {
            "chat": True,
            "completions": True,
            "streaming": True,
            "tools": True,
            "json_schema": True,
            "logprobs": True,
            "reasoning": engine.reasoning.is_known,
            "vision": False,
            "audio": False,
        },
    }


def encoder_model(encoder: EncoderHealth, created: int) -> dict[str, Any]:
    """The encoder as an entry of `GET /v1/models`."""
    return {
        "id": encoder.model,
        "object": "model",
        "created": created,
        "owned_by": "leanvibe",
        "type": "model",
        "display_name": encoder.model,
        "created_at": datetime.datetime.fromtimestamp(created, datetime.UTC).isoformat(),
        "lifecycle": "active",
        "max_input_tokens": encoder.context_tokens,
        "context_length": encoder.context_tokens,
        "max_model_len": encoder.context_tokens,
        "dimensions": encoder.dimensions,
        "state": encoder.state,
        "capabilities": {
            "chat": False,
            "completions": False,
            "embedding": True,
            "streaming": False,
            "tools": False,
            "json_schema": False,
            "logprobs": False,
            "vision": False,
            "audio": False,
        },
    }


def usage(done: Done, reasoning_tokens: int = 0) -> dict[str, Any]:
    """The complete `usage`; ``reasoning_tokens`` are part of the answer's."""
    counted = done.usage
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


def chat_completion(
    head: ReplyHead, reader: AnswerReader, tokens: Sequence[GenerationTokens], done: Done, *, make_id: Callable[[], str]
) -> dict[str, Any]:
    """The complete answer of a chat; ``make_id`` draws an id for each call."""
    made = reader.take(tokens)
    made += reader.finish(is_cut=done.finish_reason is FinishReason.LENGTH, is_forced=head.is_forced)
    thought, parts = whole_answer(made)
    content = "".join(one for one in parts if isinstance(one, str))
    calls = [{"id": make_id(), **_called(one)} for one in parts if isinstance(one, ToolCall)]
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls or head.is_forced else "")}
    message["refusal"] = None
    if thought:
        message["reasoning_content"] = thought
    if calls:
        # The older form has room for one call, and its grammar allowed only one.
        message |= {"function_call": calls[0]["function"]} if head.is_legacy else {"tool_calls": calls}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _chat_logprobs(reader.take_said()) if head.has_logprobs else None,
        "finish_reason": finish_reason_of(head, done, has_calls=bool(calls) and not reader.has_cut_call),
    }
    return {**head.part("chat.completion", [choice]), "usage": usage(done, reader.reasoning_tokens)}


def finish_reason_of(head: ReplyHead, done: Done, *, has_calls: bool) -> str:
    """Finish reason of an answer: `tool_calls` if it ended by itself after complete calls, whose results are awaited.

    If the client named the function, OpenAI reports `stop` (an edge case in its guide to function calling), and so do
    other servers.
    """
    waits = has_calls and done.finish_reason is FinishReason.STOP and not head.names_function
    return ("function_call" if head.is_legacy else "tool_calls") if waits else done.finish_reason.value


def chat_part_chunk(
    head: ReplyHead,
    part: AnswerPart,
    *,
    index: int,
    make_id: Callable[[], str],
    tokens: Sequence[GenerationTokens] = (),
) -> dict[str, Any]:
    """A piece of a streamed chat: text, reasoning, or a piece of call number ``index``, id and name first, then
    arguments.

    ``tokens`` are those of the text, for their log-probabilities.
    """
    delta: dict[str, Any]
    if isinstance(part, str):
        delta = {"content": part}
    elif isinstance(part, Reasoning):
        delta = {"reasoning_content": part.text}
    elif isinstance(part, CallStart):
        called = _called(ToolCall(part.name, ""))
        whole = {"tool_calls": [{"index": index, "id": make_id(), **called}]}
        delta = {"function_call": called["function"]} if head.is_legacy else whole
    else:
        more = {"arguments": part.text}
        delta = {"function_call": more} if head.is_legacy else {"tool_calls": [{"index": index, "function": more}]}
    logprobs = _chat_logprobs(tokens) if tokens and head.has_logprobs else None
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    return _chunk(head, "chat.completion.chunk", choice)


def _called(call: ToolCall) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def completion(head: ReplyHead, tokens: Sequence[GenerationTokens], done: Done) -> dict[str, Any]:
    """The complete continuation of a prompt."""
    choice = {
        "index": 0,
        "text": _text(tokens),
        "logprobs": _completion_logprobs(tokens) if head.has_logprobs else None,
        "finish_reason": done.finish_reason.value,
    }
    return {**head.part("text_completion", [choice]), "usage": usage(done)}


def chat_chunk(
    head: ReplyHead, tokens: Sequence[GenerationTokens], *, is_first: bool = False, finish_reason: str | None = None
) -> dict[str, Any]:
    """A chunk of a streamed chat. The first has the role, the last the finish reason."""
    delta: dict[str, Any] = {"role": "assistant", "content": ""} if is_first else {}
    if tokens:
        delta["content"] = _text(tokens)
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": _chat_logprobs(tokens) if tokens and head.has_logprobs else None,
        "finish_reason": finish_reason,
    }
    return _chunk(head, "chat.completion.chunk", choice)


def completion_chunk(
    head: ReplyHead, tokens: Sequence[GenerationTokens], *, finish_reason: str | None = None
) -> dict[str, Any]:
    """A chunk of a streamed continuation."""
    choice = {
        "index": 0,
        "text": _text(tokens),
        "logprobs": _completion_logprobs(tokens) if tokens and head.has_logprobs else None,
        "finish_reason": finish_reason,
    }
    return _chunk(head, "text_completion", choice)


def usage_chunk(head: ReplyHead, done: Done) -> dict[str, Any]:
    """The last chunk of a stream with `include_usage`: no choices, the complete usage."""
    kind = "chat.completion.chunk" if head.is_chat else "text_completion"
    return {**head.part(kind, []), "usage": usage(done)}


def _chunk(head: ReplyHead, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    part = head.part(kind, [choice])
    return {**part, "usage": None} if head.includes_usage else part


def _text(tokens: Sequence[GenerationTokens]) -> str:
    return "".join(one.text for one in tokens)


def _entries(tokens: Sequence[GenerationTokens]) -> list[dict[str, Any]]:
    return [entry for event in tokens for entry in event.logprobs or ()]


def _chat_logprobs(tokens: Sequence[GenerationTokens]) -> dict[str, Any]:
    return {
        "content": [chat_entry(entry) for entry in _entries(tokens)],
        "refusal": None,
    }


def chat_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A token's log-probability with its alternatives, in the form of chats and responses."""
    return {**_described(entry), "top_logprobs": [_described(one) for one in _with_chosen(entry) if entry["top"]]}


def _with_chosen(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The likeliest tokens, plus the chosen one if it is not among them; so there may be one more than requested."""
    top: list[dict[str, Any]] = entry["top"]
    return top if any(one["token_id"] == entry["token_id"] for one in top) else [*top, entry]


def _described(entry: dict[str, Any]) -> dict[str, Any]:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry["bytes"]}


def _completion_logprobs(tokens: Sequence[GenerationTokens]) -> dict[str, Any]:
    return completion_logprobs(_entries(tokens))


def completion_logprobs(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The older form of log-probabilities; null for a token without predecessors."""
    return {
        "tokens": [_key(entry) for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [None if entry["logprob"] is None else _by_key(_with_chosen(entry)) for entry in entries],
        "text_offset": [entry["offset"] for entry in entries],
    }


def _by_key(alternatives: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Alternatives by text. If two have the same text (a byte and a letter), the second is keyed by its id."""
    told: dict[str, float] = {}
    for one in alternatives:
        key = _key(one)
        told[f"token_id:{one['token_id']}" if key in told else key] = one["logprob"]
    return told


def _key(entry: dict[str, Any]) -> str:
    """Key of a token in the older form. Part of a character is `bytes:` and its bytes, as OpenAI writes it."""
    name: str = entry["token"]
    return name if list(name.encode()) == entry["bytes"] else f"bytes:{name}" if "\\x" in name else name
