"""Replies of Ollama's API, built from a generation's text and from descriptions of models. Pure functions."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import frozen

from actors.inference.messages import EngineHealth, GenerationTokens, ModelState
from actors.rest.answer_reading.reader import AnswerPart, AnswerReader, Reasoning, whole_answer
from actors.rest.openai.replies import chat_entry
from actors.rest.openai.tool_call_reader import Part, ToolCall, whole_calls
from protocol.events import Done, FinishReason

__all__ = ["AnswerLines", "ReplyHead", "answer", "empty_answer", "running_model", "shown_model", "tag", "wire_moment"]

LATEST = ":latest"


def wire_moment(posix_seconds: float) -> str:
    """Format a time as Ollama does."""
    return datetime.datetime.fromtimestamp(posix_seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


@frozen(kw_only=True)
class ReplyHead:
    """Fields common to all lines of one reply."""

    model: str
    """The name that the client used."""
    is_chat: bool
    now: Callable[[], float]
    """Returns POSIX seconds."""
    new_reader: Callable[[], AnswerReader] | None = None
    """Makes a parser for reasoning and calls; None for a raw continuation."""

    has_logprobs: bool = False
    """True if each line has the log-probabilities of its tokens."""

    def line(self, text: str, calls: Sequence[ToolCall] = (), thought: str = "") -> dict[str, Any]:
        """Build a line other than the last."""
        head = {"model": self.model, "created_at": wire_moment(self.now())}
        if not self.is_chat:
            return {**head, "response": text, **({"thinking": thought} if thought else {}), "done": False}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thought:
            message["thinking"] = thought
        if calls:
            message["tool_calls"] = [
                {"function": {"index": index, "name": one.name, "arguments": json.loads(one.arguments)}}
                for index, one in enumerate(calls)
            ]
        return {**head, "message": message, "done": False}


class AnswerLines:
    """Lines of a streamed answer: text as it arrives, each call in one piece."""

    def __init__(self, head: ReplyHead) -> None:
        self._head = head
        self._reader = None if head.new_reader is None else head.new_reader()
        self._parts: list[Part] = []
        """Pieces of the last call."""

    def take(self, tokens: Sequence[GenerationTokens]) -> Iterator[dict[str, Any]]:
        """Yield lines for everything that can no longer change; possibly none."""
        if self._reader is None:
            if text := "".join(one.text for one in tokens):
                yield {**self._head.line(text), **_scored(self._head, tokens)}
            return
        yield from self._take(self._reader.take(tokens))

    def end(self, done: Done) -> Iterator[dict[str, Any]]:
        """Yield what was held back, then the final line."""
        if self._reader is not None:
            yield from self._take(self._reader.finish(is_cut=done.finish_reason is FinishReason.LENGTH))
            yield from self._calls()
            if scores := self._scores():
                # Tokens without text of their own.
                yield {**self._head.line(""), **scores}
        yield {**self._head.line(""), **_end(done)}

    def _take(self, parts: Sequence[AnswerPart]) -> Iterator[dict[str, Any]]:
        for part in parts:
            if isinstance(part, Reasoning):
                yield self._head.line("", thought=part.text)
            elif isinstance(part, str):
                yield from self._calls()
                yield {**self._head.line(part), **self._scores()}
            else:
                self._parts.append(part)

    def _scores(self) -> dict[str, Any]:
        """Log-probabilities of the answer's tokens since the last line that had some. They do not cover reasoning."""
        return {} if self._reader is None else _scored(self._head, self._reader.take_said())

    def _calls(self) -> Iterator[dict[str, Any]]:
        calls = _carried_out(whole_calls(self._parts))
        self._parts.clear()
        if calls:
            yield self._head.line("", calls)


def answer(head: ReplyHead, tokens: Sequence[GenerationTokens], done: Done) -> dict[str, Any]:
    """The complete answer."""
    calls: list[ToolCall] = []
    text, thought, said = "".join(one.text for one in tokens), "", tokens
    if head.new_reader is not None:
        reader = head.new_reader()
        parts = reader.take(tokens) + reader.finish(is_cut=done.finish_reason is FinishReason.LENGTH)
        thought, whole = whole_answer(parts)
        text = "".join(one for one in whole if isinstance(one, str))
        calls = _carried_out(whole)
        said = reader.take_said()
    return {**head.line(text, calls, thought), **_scored(head, said), **_end(done)}


def _scored(head: ReplyHead, tokens: Sequence[GenerationTokens]) -> dict[str, Any]:
    entries = [chat_entry(entry) for one in tokens for entry in one.logprobs or ()] if head.has_logprobs else []
    return {"logprobs": entries} if entries else {}


def empty_answer(head: ReplyHead, reason: str) -> dict[str, Any]:
    """The answer to a request that only loads or unloads the model."""
    return {**head.line(""), "done": True, "done_reason": reason}


def _end(done: Done) -> dict[str, Any]:
    """Final fields: the reason for the end, and timings in nanoseconds."""
    timings, counted = done.timings, done.usage
    first = timings.total_ms if timings.first_token_ms is None else timings.first_token_ms
    return {
        "done": True,
        "done_reason": done.finish_reason.value,
        "total_duration": _nanoseconds(timings.total_ms),
        # From acceptance to admission, which includes loading the model if necessary.
        "load_duration": _nanoseconds(timings.queued_ms),
        "prompt_eval_count": counted.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(max(0.0, first - timings.queued_ms)),
        "eval_count": counted.completion_tokens,
        "eval_duration": _nanoseconds(timings.total_ms - first),
    }


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1e6)


def _carried_out(parts: Sequence[str | ToolCall]) -> list[ToolCall]:
    """The complete calls. Truncated ones are dropped, because this API returns arguments as an object."""
    return [one for one in parts if isinstance(one, ToolCall) and _is_object(one.arguments)]


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def tag(model: ModelState) -> dict[str, Any]:
    """An entry of `/api/tags`."""
    return {
        "name": model.name + LATEST,
        "model": model.name + LATEST,
        "size": model.size_bytes or 0,
        "digest": model.digest,
        **modified(model.modified_seconds),
        "details": _details(model),
        # An addition of this server: one model at a time is loaded.
        "state": model.state,
    }


def modified(posix_seconds: float | None) -> dict[str, str]:
    """Modification time of a model's files, if known."""
    return {} if posix_seconds is None else {"modified_at": wire_moment(posix_seconds)}


def running_model(model: ModelState, health: EngineHealth) -> dict[str, Any]:
    """An entry of `/api/ps`."""
    return {
        **tag(model),
        "size_vram": 0,
        "context_length": health.context_tokens,
    }


def shown_model(model: ModelState, health: EngineHealth | None) -> dict[str, Any]:
    """The answer of `/api/show`. The context length is known only for the active model, given its ``health``."""
    family = _details(model)["family"] or "unknown"
    facts: dict[str, Any] = {"general.architecture": family, "general.basename": model.full_name}
    if health is not None:
        facts[f"{family}.context_length"] = health.context_tokens
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": facts,
        "capabilities": [
            "completion",
            "tools",
            *(["thinking"] if health is not None and health.reasoning.is_known else []),
        ],
        **modified(model.modified_seconds),
        "provenance": model.provenance,
        "state": model.state,
    }


def _details(model: ModelState) -> dict[str, Any]:
    family, _, weights = model.type.partition(" ")
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": "",
        "quantization_level": model.quantization or weights,
    }
