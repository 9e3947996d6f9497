"""A connection's record of a stream is sufficient for a new owner."""

from __future__ import annotations

import pytest

from actors.connections.stream_consumer import StreamConsumer
from actors.inference.messages import (
    GenerationCancelled,
    GenerationRefused,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
)
from protocol.commands import Generate
from protocol.errors import ErrorCode
from runtime.testing import RecordingRef


def tokens(seq: int, *ids: int) -> GenerationTokens:
    return GenerationTokens(stream="s", seq=seq, text="t", index=seq, token_ids=ids, log_probability=-0.5 * len(ids))


def resume_point(consumer: StreamConsumer) -> ResumeFrom:
    request = consumer.restart(RecordingRef("c-1"))
    assert request is not None
    assert request.resume is not None
    assert (request.epoch, request.resume.model) == ("e", "mock")
    return request.resume


@pytest.fixture
def consumer() -> StreamConsumer:
    return StreamConsumer(
        stream="s",
        epoch="e",
        recovery=StartGeneration(client_id="me", stream="s", generate=Generate(prompt="x", seed=5)),
        model="mock",
    )


def test_events_are_taken_in_order_only(consumer: StreamConsumer) -> None:
    assert consumer.take(tokens(1, 10)) is True
    assert consumer.take(tokens(1, 10)) is False
    assert consumer.take(tokens(3, 12)) is False
    assert consumer.take(tokens(2, 11, 12)) is True
    assert consumer.take(GenerationCancelled(stream="s", seq=3, reason="cancelled")) is True


def test_a_new_owner_goes_on_after_what_was_taken(consumer: StreamConsumer) -> None:
    consumer.take(tokens(1, 10))
    consumer.take(tokens(3, 99))
    consumer.take(tokens(2, 11, 12))
    point = resume_point(consumer)
    assert (point.seq, point.token_ids, point.log_probability, point.seed) == (2, (10, 11, 12), -1.5, 5)


def test_a_stream_of_which_nothing_came_starts_over(consumer: StreamConsumer) -> None:
    point = resume_point(consumer)
    assert (point.seq, point.token_ids) == (0, ())


def test_early_events_are_given_once(consumer: StreamConsumer) -> None:
    consumer.keep_early(tokens(1, 1))
    consumer.keep_early(tokens(2, 2))
    assert [one.seq for one in consumer.take_early()] == [1, 2]
    assert consumer.take_early() == []


def test_a_stream_that_cannot_go_on_fails_as_its_next_event(consumer: StreamConsumer) -> None:
    consumer.take(tokens(1, 10))
    failed = consumer.failure(GenerationRefused(ErrorCode.MODEL_UNAVAILABLE, "no model"))
    assert (failed.seq, failed.code, failed.message) == (2, ErrorCode.MODEL_UNAVAILABLE, "no model")
    assert consumer.failure(RuntimeError("x")).code is ErrorCode.UNAVAILABLE
