"""What a connection remembers of a stream is what a new owner needs."""

from __future__ import annotations

import json
from typing import Any, cast

import attrs
import pytest

from actors.connections.connection import Connection, ConnectionSettings
from actors.connections.following import Following
from actors.inference.messages import GenerationCancelled, GenerationRefused, GenerationTokens
from protocol.commands import Generate
from protocol.errors import ErrorCode
from protocol.events import Limits
from runtime.testing import RecordingRef, run_handler

SETTINGS = ConnectionSettings(
    server="leanvibe/0",
    epoch="e",
    model="mock",
    limits=Limits(
        frame_bytes=1,
        commands_in_flight=1,
        streams=1,
        commands_per_second=1,
        command_burst=1,
        connections_per_client=1,
        detach_seconds=1,
    ),
)


def tokens(seq: int, *ids: int) -> GenerationTokens:
    return GenerationTokens(stream="s", seq=seq, text="t", index=seq, token_ids=ids, log_probability=-0.5 * len(ids))


@pytest.fixture
def following() -> Following:
    return Following(command_id="1", stream="s", generate=Generate(prompt="x", seed=5))


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
    point = following.resume_point()
    assert (point.seq, point.token_ids, point.log_probability, point.seed) == (2, (10, 11, 12), -1.5, 5)


def test_a_stream_of_which_nothing_came_starts_over(following: Following) -> None:
    point = following.resume_point()
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


async def test_a_connection_tells_each_event_once_and_in_order(following: Following) -> None:
    """What a lost owner had sent, and what its successor sends again, may both come."""
    connection = Connection("c-1", cast("Any", None), SETTINGS, RecordingRef("access"), RecordingRef("inference"))
    following.stream = "c-1.1"
    following.is_accepted = True
    connection._following["1"] = following
    for event in (tokens(1, 10), tokens(1, 10), tokens(3, 12), tokens(2, 11), tokens(2, 11), tokens(3, 12)):
        effects = await run_handler(connection, attrs.evolve(event, stream="c-1.1"))
        assert effects.error is None
    frame = connection._outbox.take()
    assert frame is not None
    told = json.loads(frame)
    assert (told["first_seq"], told["seq"], told["data"]["text"]) == (1, 3, "ttt")
    assert connection._outbox.take() is None
