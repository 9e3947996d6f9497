"""What a connection remembers of a stream is what a new owner needs."""

from __future__ import annotations

import pytest

from actors.connections.following import Following
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


def resume_point(following: Following) -> ResumeFrom:
    request = following.restart(RecordingRef("c-1"))
    assert request is not None
    assert request.resume is not None
    assert (request.epoch, request.resume.model) == ("e", "mock")
    return request.resume


@pytest.fixture
def following() -> Following:
    return Following(
        stream="s",
        epoch="e",
        recovery=StartGeneration(client_id="me", stream="s", generate=Generate(prompt="x", seed=5)),
        model="mock",
    )


def test_events_are_taken_in_order_only(following: Following) -> None:
    assert following.take(tokens(1, 10)) is True
    assert following.take(tokens(1, 10)) is False
    assert following.take(tokens(3, 12)) is False
    assert following.take(tokens(2, 11, 12)) is True
    assert following.take(GenerationCancelled(stream="s", seq=3, reason="cancelled")) is True


def test_a_new_owner_goes_on_after_what_was_taken(following: Following) -> None:
    following.take(tokens(1, 10))
    following.take(tokens(3, 99))
    following.take(tokens(2, 11, 12))
    point = resume_point(following)
    assert (point.seq, point.token_ids, point.log_probability, point.seed) == (2, (10, 11, 12), -1.5, 5)


def test_a_stream_of_which_nothing_came_starts_over(following: Following) -> None:
    point = resume_point(following)
    assert (point.seq, point.token_ids) == (0, ())


def test_early_events_are_given_once(following: Following) -> None:
    following.keep_early(tokens(1, 1))
    following.keep_early(tokens(2, 2))
    assert [one.seq for one in following.take_early()] == [1, 2]
    assert following.take_early() == []


def test_a_stream_that_cannot_go_on_fails_as_its_next_event(following: Following) -> None:
    following.take(tokens(1, 10))
    failed = following.failure(GenerationRefused(ErrorCode.MODEL_UNAVAILABLE, "no model"))
    assert (failed.seq, failed.code, failed.message) == (2, ErrorCode.MODEL_UNAVAILABLE, "no model")
    assert following.failure(RuntimeError("x")).code is ErrorCode.UNAVAILABLE
