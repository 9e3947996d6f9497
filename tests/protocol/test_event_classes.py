"""Messages of the server survive conversion to JSON and back."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from protocol import events
from protocol.codec import encode, structure, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.events import (
    Accepted,
    CancelledData,
    Done,
    ErrorData,
    EventsData,
    FinishReason,
    GoingAway,
    Limits,
    ProgressData,
    ProgressState,
    Result,
    ResumeResult,
    Timings,
    Token,
    Usage,
    Welcome,
)

LIMITS = Limits(
    frame_bytes=1,
    commands_in_flight=2,
    streams=3,
    commands_per_second=4,
    command_burst=5,
    connections_per_client=6,
    detach_seconds=7,
    command_memory_seconds=8,
)
USAGE = Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=1)
TIMINGS = Timings(queued_ms=0.5, first_token_ms=None, total_ms=2.25, tokens_per_second=None)
SAMPLES: list[Any] = [
    LIMITS,
    ProgressData(state=ProgressState.READING, waiting=2, prompt_tokens=4000, read_tokens=1200),
    ResumeResult(stream="s", resumed=False, head=0),
    ResumeResult(stream="s", resumed=True, head=9, snapshot={"seq": 9, "text": "é\u2028"}),
    Welcome(
        connection_id="c-1",
        client_id="me",
        device_id="default",
        epoch="e",
        server="leanvibe/0",
        limits=LIMITS,
        model="mock",
        state={"agent_status": {"x": [1, 2.5]}},
        resumed=[ResumeResult(stream="s", resumed=False, head=0)],
    ),
    Accepted("s", "e"),
    Token("h\u00e9llo \U0001f600\n", 7),
    Token("a", 0, [{"token": "a", "logprob": -0.5}]),
    USAGE,
    TIMINGS,
    Done(finish_reason=FinishReason.LENGTH, usage=USAGE, timings=TIMINGS, confidence=None, seed=2**53 - 1),
    Done(finish_reason=FinishReason.STOP, usage=USAGE, timings=TIMINGS, confidence=0.5, seed=0, engine_restarts=2),
    CancelledData("cancelled"),
    Result({"cancelled": True}),
    ErrorData(code=ErrorCode.RATE_LIMITED, message="m", retry_after_ms=5),
    ErrorData(code=ErrorCode.INVALID_FIELD, message="m", field="data.x", temporary=True),
    GoingAway(1000),
    EventsData([{"type": "task_created", "stream": "client", "seq": 1, "data": {}}]),
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda one: type(one).__name__)
def test_an_event_comes_back_from_json_as_it_was(event: Any) -> None:
    text = encode({"type": "x", "data": unstructure(event)})
    assert b"null" not in text
    # What is None is left out; a reader puts it back.
    left_out = {
        one.name: None
        for one in attrs.fields(type(event))
        if getattr(event, one.name) is None and one.default is attrs.NOTHING
    }
    data = json.loads(text)["data"] | left_out
    for name in ("timings",):
        if name in data:
            data[name] = {"first_token_ms": None, "tokens_per_second": None} | data[name]
    assert structure(data, type(event)) == event


def test_there_is_a_sample_of_every_class() -> None:
    classes = {getattr(events, name) for name in events.__all__}
    assert {one for one in classes if attrs.has(one)} == {type(one) for one in SAMPLES}


def test_enumerations_are_sent_as_their_words() -> None:
    data = unstructure(next(one for one in SAMPLES if isinstance(one, Done)))
    assert data["finish_reason"] == "length"
    assert "confidence" not in data


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
        (1767225599.5, "2025-12-31T23:59:59.500Z"),
        (951782400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(seconds: float, expected: str) -> None:
    assert wire_time(seconds) == expected


def test_the_present_time_has_the_same_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime
    import re

    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=1)
    text = wire_time()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert before <= datetime.datetime.fromisoformat(text) <= datetime.datetime.now(datetime.UTC)
