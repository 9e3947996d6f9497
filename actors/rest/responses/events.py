"""The events of a response, and the object that they build, made from a generation's text. No I/O.

Content and numbers of events depend only on the response's head, text and end, not on how the text was split or on
the server that generated it. So a reader can resume after any number, during the response and later, and a response
that is generated again after a restart has the same events.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from actors.inference.messages import ReasoningForm, ReasoningMarks, ToolCallFormat
from actors.responses.messages import NewResponse, ResponseEnd, ResponseSnapshot
from actors.rest.answer_reading.reader import AnswerPart, AnswerReader, Reasoning
from actors.rest.openai.replies import chat_entry
from actors.rest.openai.tool_call_reader import CallArguments, CallStart
from actors.rest.responses.requests import item_id
from protocol.codec import encode

__all__ = ["ResponseEvents", "ResponseHead", "as_sent", "response_object"]

Event = dict[str, Any]

_PIECE = re.compile(r"\s{0,16}\S{0,16}")
LONGEST_WORD = 16


@frozen(kw_only=True)
class ResponseHead:
    """Data common to all events of one response."""

    id: str
    created: float
    """POSIX seconds."""
    echo: Mapping[str, Any]
    """Fields of the object that repeat the request."""
    tool_call_format: str = ToolCallFormat.TAGGED.name
    callable_schemas: Mapping[str, dict[str, Any] | None] = field(factory=dict)
    """Parameter schemas of the functions that the answer may call, by name."""
    reasoning_marks: str = ReasoningForm().marks.name
    begins_open: bool = False
    """True if the prompt opened reasoning."""
    is_forced: bool = False
    """True if the answer must consist of calls."""
    has_logprobs: bool = False

    @property
    def is_background(self) -> bool:
        """True if the response runs in the background."""
        return bool(self.echo["background"])

    def as_json(self) -> dict[str, Any]:
        """Return the fields to store, all but id and time."""
        return {
            "echo": dict(self.echo),
            "tool_call_format": self.tool_call_format,
            "callable_schemas": dict(self.callable_schemas),
            "reasoning_marks": self.reasoning_marks,
            "begins_open": self.begins_open,
            "is_forced": self.is_forced,
            "has_logprobs": self.has_logprobs,
        }

    @classmethod
    def of(cls, snapshot: ResponseSnapshot) -> ResponseHead:
        """Return the head of a stored response."""
        return cls.of_response(snapshot.response)

    @classmethod
    def of_response(cls, stored: NewResponse) -> ResponseHead:
        """Return the head of a response before its first token."""
        return cls(id=stored.id, created=stored.created_ms // 1000, **stored.head)


class TextCutter:
    """Splits a text into deltas, at the same places however it arrives.

    A delta is a word with the white space before it; longer ones are cut. So the last word waits for the next.
    """

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> Iterator[str]:
        """Yield the pieces that can no longer change."""
        self._rest += text
        at = 0
        while found := _PIECE.match(self._rest, at):
            piece = found[0]
            is_whole = found.end() < len(self._rest) or len(piece) - len(piece.lstrip()) + LONGEST_WORD == len(piece)
            if not piece or not is_whole:
                break
            yield piece
            at = found.end()
        self._rest = self._rest[at:]

    def finish(self) -> Iterator[str]:
        """Yield the last piece."""
        rest, self._rest = self._rest, ""
        if rest:
            yield rest


class ResponseEvents:
    """Produces the events of one response as its text arrives."""

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        self.output: list[dict[str, Any]] = []
        """Completed items."""
        self._reader = AnswerReader(
            ReasoningForm(marks=ReasoningMarks[head.reasoning_marks]),
            ToolCallFormat[head.tool_call_format],
            dict(head.callable_schemas),
            begins_open=head.begins_open,
        )
        self._number = -1
        self._is_running = False
        self._item: dict[str, Any] | None = None
        self._text: list[str] = []
        self._cutter = TextCutter()
        self._logprobs: list[dict[str, Any]] = []
        self._ends: list[int] = []
        """Characters of the text that are complete with each token."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._told_logprobs = 0
        self._characters = 0
        self._has_logprobs = head.has_logprobs
        self._blank = ""
        """White space that may be the beginning of a message."""

    @property
    def last_number(self) -> int:
        """Number of the last event; -1 before the first."""
        return self._number

    def begin(self) -> Iterator[Event]:
        """Yield the events before the first token."""
        status = "queued" if self.head.is_background else "in_progress"
        yield self._event("response.created", response=response_object(self.head, [], status))
        yield self._event(f"response.{status}", response=response_object(self.head, [], status))
        self._is_running = not self.head.is_background

    def take(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[Event]:
        """Yield events for everything that can no longer change; possibly none."""
        for one in logprobs:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self._utf8.decode(bytes(one["bytes"]))))
        self._logprobs.extend(chat_entry(one) for one in logprobs)
        if text:
            yield from self._made_of(self._reader.feed(text))

    def end(self, end: ResponseEnd) -> Iterator[Event]:
        """Yield what was held back, then the final events."""
        yield from self._made_of(self._reader.finish(is_cut=end.status != "completed", is_forced=self.head.is_forced))
        if self._item is None and not self.output and end.status in ("completed", "incomplete"):
            # An answer without a token is a message without a text.
            yield from self._open_message()
        yield from self._close("completed" if end.status == "completed" else "incomplete")
        yield from self._run()
        final = response_object(self.head, self.output, end.status, end)
        kind = {"completed": "completed", "failed": "failed"}.get(end.status, "incomplete")
        yield self._event(f"response.{kind}", response=final)

    # --- items ------------------------------------------------------------------------------------

    def _made_of(self, parts: Sequence[AnswerPart]) -> Iterator[Event]:
        for part in parts:
            if isinstance(part, Reasoning):
                # The tokens that belong to reasoning cannot be told apart here, so log-probabilities are omitted.
                self._has_logprobs = False
                if self._item is None or self._item["type"] != "reasoning":
                    yield from self._close("completed")
                    yield from self._open_reasoning()
                yield from self._deltas(self._cutter.feed(part.text))
            elif isinstance(part, CallStart):
                yield from self._close("completed")
                yield from self._open_call(part.name)
            elif isinstance(part, CallArguments):
                yield from self._deltas(self._cutter.feed(part.text))
            elif self._item is not None and self._item["type"] == "message":
                yield from self._deltas(self._cutter.feed(part))
            else:
                yield from self._close("completed")
                self._blank += part
                # White space between calls is not a message.
                if self._blank.strip():
                    yield from self._open_message()

    def _open(self, item: dict[str, Any]) -> Iterator[Event]:
        yield from self._run()
        self._item, self._text, self._cutter = item, [], TextCutter()
        if item["type"] == "function_call":
            self._blank = ""
        yield self._event("response.output_item.added", output_index=len(self.output), item=dict(item))

    def _run(self) -> Iterator[Event]:
        """Announce once that a queued response is in progress."""
        if not self._is_running:
            self._is_running = True
            yield self._event("response.in_progress", response=response_object(self.head, [], "in_progress"))

    def _open_message(self) -> Iterator[Event]:
        item = {
            "id": item_id(self.head.id, "message", str(len(self.output))),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        yield from self._open(item)
        yield self._event("response.content_part.added", **self._place(), part=_text_part("", ()))
        blank, self._blank = self._blank, ""
        yield from self._deltas(self._cutter.feed(blank))

    def _open_reasoning(self) -> Iterator[Event]:
        name = item_id(self.head.id, "reasoning", str(len(self.output)))
        yield from self._open({"id": name, "type": "reasoning", "status": "in_progress", "summary": [], "content": []})

    def _open_call(self, name: str) -> Iterator[Event]:
        index = len(self.output)
        call_id = hashlib.sha256(f"{self.head.id} {index}".encode()).hexdigest()[:24]
        yield from self._open(
            {
                "id": item_id(self.head.id, "function_call", str(index)),
                "type": "function_call",
                "status": "in_progress",
                "call_id": f"call_{call_id}",
                "name": name,
                "arguments": "",
            }
        )

    def _deltas(self, pieces: Iterator[str]) -> Iterator[Event]:
        assert self._item is not None
        is_message = self._item["type"] == "message"
        for piece in pieces:
            self._text.append(piece)
            self._characters += len(piece) if is_message else 0
            if is_message:
                logprobs = self._logprobs_up_to(self._characters)
                yield self._event("response.output_text.delta", **self._place(), delta=piece, logprobs=logprobs)
            elif self._item["type"] == "reasoning":
                yield self._event("response.reasoning_text.delta", **self._place(), delta=piece)
            else:
                yield self._event("response.function_call_arguments.delta", **self._place(), delta=piece)

    def _close(self, status: str) -> Iterator[Event]:
        if self._item is None:
            return
        yield from self._deltas(self._cutter.finish())
        text = "".join(self._text)
        place = self._place()
        if self._item["type"] == "message":
            told = self._logprobs if self._has_logprobs else []
            part = _text_part(text, told)
            yield self._event("response.output_text.done", **place, text=text, logprobs=told)
            yield self._event("response.content_part.done", **place, part=part)
            item = {**self._item, "status": status, "content": [part]}
        elif self._item["type"] == "reasoning":
            yield self._event("response.reasoning_text.done", **place, text=text)
            item = {**self._item, "status": status, "content": [{"type": "reasoning_text", "text": text}]}
        else:
            item = {**self._item, "status": status, "arguments": text}
            yield self._event("response.function_call_arguments.done", **place, name=self._item["name"], arguments=text)
        yield self._event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        self._item = None

    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        place = {"item_id": self._item["id"], "output_index": len(self.output)}
        return place if self._item["type"] == "function_call" else {**place, "content_index": 0}

    def _logprobs_up_to(self, characters: int) -> list[dict[str, Any]]:
        """Log-probabilities of tokens that are complete with this much text and were not sent yet."""
        if not self._has_logprobs:
            return []
        first = self._told_logprobs
        while self._told_logprobs < len(self._ends) and self._ends[self._told_logprobs] <= characters:
            self._told_logprobs += 1
        return self._logprobs[first : self._told_logprobs]

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}


def response_object(
    head: ResponseHead, output: Sequence[dict[str, Any]], status: str, end: ResponseEnd | None = None
) -> dict[str, Any]:
    """The response object in its current state."""
    error = incomplete = usage = None
    if end is not None and end.status == "failed":
        error = {"code": "server_error", "message": end.message or "the response could not be finished"}
    if end is not None and end.reason is not None:
        incomplete = {"reason": end.reason}
    if end is not None and end.status in ("completed", "incomplete"):
        usage = {
            "input_tokens": end.prompt_tokens,
            "input_tokens_details": {"cached_tokens": end.cached_tokens},
            "output_tokens": end.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
            "total_tokens": end.prompt_tokens + end.completion_tokens,
        }
    return {
        "id": head.id,
        "object": "response",
        "created_at": int(head.created),
        "completed_at": end.ended_ms // 1000 if end is not None and end.status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": incomplete,
        "output": list(output),
        "usage": usage,
        **head.echo,
    }


def as_sent(event: Event) -> bytes:
    """Encode an event for the wire."""
    return f"event: {event['type']}\ndata: ".encode() + encode(event) + b"\n\n"


def _text_part(text: str, logprobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}
