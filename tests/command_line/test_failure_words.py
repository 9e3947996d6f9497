"""Refusals in the words of the command that was typed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import click
import pytest

from actors.command_line.failure_words import failure_words, words_of_fault
from actors.command_line.main import leanvibe

TOP = Path(__file__).resolve().parents[2]


def refused(field: str, problem: str) -> dict[str, Any]:
    return {"code": "invalid_field", "field": field, "message": f"{field} {problem}"}


@pytest.mark.parametrize(
    ("command", "field", "name"),
    [
        (("task", "add"), "data.due", "--due"),
        (("task", "add"), "data.title", "TITLE"),
        (("task", "add"), "data.tags[3]", "--tag"),
        (("task", "add"), "data.dependencies[0]", "--depends-on"),
        (("task", "list"), "body.search", "--search"),
        (("task", "move"), "data.task_id", "TASK_ID"),
        (("ask",), "data.messages[0].content", "QUESTION"),
        (("ask",), "data.max_tokens", "--max-tokens"),
        (("chat",), "data.repetition_penalty", "--repetition-penalty"),
        # What no parameter stands for is said in words.
        (("status",), "data.quiet_hours.begin", "the begin"),
    ],
)
def test_te2_a_field_is_called_what_the_person_typed(command: tuple[str, ...], field: str, name: str) -> None:
    found: Any = leanvibe
    for word in command:
        found = found.get_command(click.Context(leanvibe), word)
    with click.Context(found):
        assert failure_words(refused(field, "must be shorter")) == f"{name} must be shorter"
        assert words_of_fault(field, "is too long") == f"{name} is too long"


def test_te2_a_field_that_a_refusal_recommends_is_the_option_of_this_command() -> None:
    task: Any = leanvibe.get_command(click.Context(leanvibe), "task")
    message = {"code": "conflict", "message": "1 task depends on it; delete it anyway with `force`"}
    with click.Context(task.get_command(click.Context(task), "rm")):
        assert failure_words(message) == "1 task depends on it; delete it anyway with --force"
    with click.Context(task.get_command(click.Context(task), "list")):
        assert failure_words(message) == message["message"]


def test_te2_neither_codes_nor_paths_are_left() -> None:
    assert failure_words({"code": "not_found", "message": "there is no such task"}) == "there is no such task"
    said = failure_words({"code": "conflict", "message": "data.version must be that of body.task.version"})
    assert said == "the version must be that of the version"
    assert failure_words({"code": "internal"}) == "internal"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("a token is needed", "LEANVIBE_TOKEN"),
        ("this token is for another client id", "--client"),
        ("there is no model called x on this machine; see GET /models", "`leanvibe models`"),
    ],
)
def test_a_refusal_says_what_to_do_from_a_terminal(message: str, advice: str) -> None:
    said = failure_words({"code": "unauthorized", "message": message})
    assert advice in said
    assert "GET /" not in said


def test_te53_nothing_is_raised_out_of_a_handler_of_groups() -> None:
    """Python 3.11.2, which Debian 12 has, makes a group of what an `except*` raises, and shows its stacks to people."""
    found = []
    for folder in ("actors", "protocol", "runtime"):
        for path in (TOP / folder).rglob("*.py"):
            handlers = [
                handler
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.TryStar)
                for handler in node.handlers
            ]
            for one in (node for handler in handlers for node in ast.walk(handler)):
                called = one.func if isinstance(one, ast.Call) else None
                if isinstance(one, ast.Raise) or (isinstance(called, ast.Name) and called.id == "fail"):
                    found.append(f"{path.relative_to(TOP)}:{one.lineno}")
    assert found == []


def test_te2_what_may_be_of_another_client_is_told_with_both_ways_out() -> None:
    said = failure_words({"code": "not_found", "message": "not found"})
    assert (
        said
        == "not found: it is not there, or the token in LEANVIBE_TOKEN is for another client; name its client with --client"
    )
    assert failure_words({"code": "not_found", "message": "task x is not found"}) == "task x is not found"
