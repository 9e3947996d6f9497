"""How people are answered who set nothing, and what they are told of how an answer ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from actors.command_line.answer_options import AnswerOptions, answer_note
from actors.rest.assistant import ProcessRequest, command_of
from actors.settings import load_settings
from protocol.commands import Generate
from protocol.events import AnswerDefaults

DEFAULTS = AnswerDefaults(temperature=0.3, top_p=0.8, repetition_penalty=1.2, max_tokens=77)


def client(**welcome: Any) -> Any:
    return SimpleNamespace(welcome=welcome)


def test_te40_what_a_person_did_not_set_is_the_servers() -> None:
    defaults = {"temperature": 0.3, "top_p": 0.8, "repetition_penalty": 1.2, "max_tokens": 77}
    fields = AnswerOptions(temperature=0.0, seed=5).fields(client(answer_defaults=defaults))
    sampling = {"temperature": 0.0, "top_p": 0.8, "repetition_penalty": 1.2}
    assert fields == {**sampling, "max_tokens": None, "max_tokens_if_room": 77, "seed": 5}
    Generate(prompt="x", **fields)


def test_an_older_server_gets_what_was_set_and_nothing_else() -> None:
    fields = AnswerOptions(top_p=0.5).fields(client())
    assert {name: value for name, value in fields.items() if value is not None} == {"top_p": 0.5}


def test_te40_a_message_over_rest_is_answered_by_the_servers_defaults_too() -> None:
    message = command_of(ProcessRequest(type="message", content="hi"), DEFAULTS)
    assert isinstance(message, Generate)
    assert (message.temperature, message.top_p, message.repetition_penalty) == (0.3, 0.8, 1.2)
    assert (message.max_tokens, message.max_tokens_if_room) == (None, 77)
    asked = ProcessRequest(
        type="message", content="hi", temperature=0.0, top_p=1.0, repetition_penalty=1.0, max_tokens=5
    )
    exact = command_of(asked, DEFAULTS)
    assert isinstance(exact, Generate)
    assert (exact.temperature, exact.top_p, exact.repetition_penalty, exact.max_tokens) == (0.0, 1.0, 1.0, 5)


def test_the_defaults_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).answer_defaults() == AnswerDefaults(
        temperature=0.2, top_p=0.9, repetition_penalty=1.1, max_tokens=400
    )
    monkeypatch.setenv("LEANVIBE_ANSWER_MAX_TOKENS", "50")
    assert load_settings({}).answer_defaults().max_tokens == 50


@pytest.mark.parametrize(
    ("done", "note"),
    [
        ({"finish_reason": "stop"}, None),
        ({}, None),
        ({"finish_reason": "length", "usage": {"completion_tokens": 400}}, "cut at 400 tokens"),
        ({"finish_reason": "length", "repetition": True, "usage": {"completion_tokens": 300}}, "repeated itself"),
    ],
)
def test_te41_an_answer_that_did_not_end_by_itself_says_so(done: dict[str, Any], note: str | None) -> None:
    said = answer_note(done)
    assert said is None if note is None else note in (said or "")
