"""A client reads what the server says into the classes that it was made from."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.codec import unstructure
from protocol.commands import Cancel
from protocol.errors import BadMessage
from protocol.events import Done, FinishReason, Timings, Token, Usage
from protocol.reading import kind_of_command, read_message_data, read_result
from protocol.tasks import TaskGet

DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=1, completion_tokens=2),
    timings=Timings(queued_ms=1.5, first_token_ms=None, total_ms=2.0, tokens_per_second=None),
    confidence=None,
    seed=7,
)


def test_p14_what_was_left_out_because_it_is_nothing_comes_back_as_none() -> None:
    plain = unstructure(DONE)
    assert "confidence" not in plain
    assert "first_token_ms" not in plain["timings"]
    assert read_message_data("done", plain) == DONE


def test_p1_fields_and_types_that_a_client_does_not_know_are_left_out() -> None:
    assert read_message_data("token", {"text": "a", "index": 1, "mood": "fine"}) == Token("a", 1)
    assert read_message_data("thought", {"mood": "fine"}) == {"mood": "fine"}
    assert read_message_data("pong", 5) == 5
    assert read_result("teleport", 5) == 5
    assert read_result("ping", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("data", [{"text": 5, "index": 1}, {"index": 1}, [], None, {"text": "a", "index": "1"}])
def test_p1_a_field_that_is_not_what_it_should_be_is_a_bad_message(data: Any) -> None:
    with pytest.raises(BadMessage, match="token is not in a form that this client understands"):
        read_message_data("token", data)


def test_a_command_knows_its_name() -> None:
    assert kind_of_command(Cancel("1")) == "cancel"
    assert kind_of_command(TaskGet(task_id="00000000-0000-0000-0000-000000000000")) == "task_get"
    with pytest.raises(KeyError):
        kind_of_command("cancel")
