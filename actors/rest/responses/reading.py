"""Reads a stored response: its events, its output items, and its number of reasoning tokens. Pure functions."""

from __future__ import annotations

from typing import Any

from actors.inference.messages import ReasoningForm, ReasoningMarks, ToolCallFormat
from actors.responses.messages import NewResponse, ResponseSnapshot
from actors.rest.answer_reading.reader import AnswerReader
from actors.rest.responses.events import ResponseEvents, ResponseHead, response_object

__all__ = ["all_events", "as_it_stands", "output_of", "reader_of", "reading_of"]


def reading_of(response: NewResponse) -> AnswerReader:
    """Make a reader that counts reasoning tokens in the answer to this request."""
    return reader_of(ResponseHead.of_response(response))


def reader_of(head: ResponseHead) -> AnswerReader:
    """Make a reader from a head. It does not parse calls, which contain no reasoning."""
    return AnswerReader(
        ReasoningForm(marks=ReasoningMarks[head.reasoning_marks]),
        ToolCallFormat[head.tool_call_format],
        {},
        begins_open=head.begins_open,
    )


def all_events(head: ResponseHead, snapshot: ResponseSnapshot) -> tuple[ResponseEvents, dict[str, Any] | None]:
    """Replay a stored response. Returns its events so far, and the last one if it has ended."""
    events = ResponseEvents(head)
    last = None
    for _ in events.begin():
        pass
    for _ in events.take(snapshot.text, snapshot.logprobs):
        pass
    if snapshot.end is not None:
        *_, last = events.end(snapshot.end)
    return events, last


def output_of(snapshot: ResponseSnapshot) -> list[dict[str, Any]]:
    """Return its output items."""
    return all_events(ResponseHead.of(snapshot), snapshot)[0].output


def as_it_stands(head: ResponseHead, snapshot: ResponseSnapshot) -> dict[str, Any]:
    """Return the response object."""
    events, last = all_events(head, snapshot)
    if last is not None:
        response: dict[str, Any] = last["response"]
        return response
    is_queued = head.is_background and not snapshot.text
    return response_object(head, events.output, "queued" if is_queued else "in_progress")
