"""Storage of responses on SQLite and PostgreSQL: bounds, ends that come once, chains, retention, and the view of other services."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from actors.database_operations import TABLES_OF_CLIENTS
from actors.errors import CommandError
from actors.inference.messages import CallableFunction, GenerateWithTools, ToolCallConstraint, ToolCallFormat
from actors.responses import store
from actors.responses.messages import NewResponse, ResponseEnd
from actors.responses.running import PAGE_TOKENS, page_of
from actors.responses.store import (
    BEGIN_RESPONSE,
    DELETE_RESPONSE,
    END_RESPONSE,
    KEPT_MILLISECONDS,
    READ_CHAIN,
    READ_RESPONSE,
    RUNNING_RESPONSES,
    BeginResponse,
    EndResponse,
    Owned,
    prune_responses,
)
from actors.responses.stored_request import request_from_text, request_to_text
from actors.responses.tables import responses
from protocol.commands import ChatMessage, Generate, OnDisconnect, Role
from protocol.errors import ErrorCode

GENERATE = Generate(messages=[ChatMessage(Role.USER, "hi\0")], seed=3, on_disconnect=OnDisconnect.DETACH)


def new(name: str, **fields: Any) -> NewResponse:
    common = {"created_ms": int(name[-2:] or 0), "model": "m", "head": {"a": "\0"}, "input": [{"text": "\0"}]}
    return NewResponse(id=name, **{**common, **fields})


def begin(connection: Connection, name: str, client_id: str = "me", **fields: Any) -> None:
    command = BeginResponse(response=new(name, **fields), client_id=client_id, domain="d", generate=GENERATE)
    BEGIN_RESPONSE.function(connection, command)


def end(connection: Connection, name: str, text: str = "x\0y", client_id: str = "me", **fields: Any) -> Any:
    ended = ResponseEnd(**{"status": "completed", "ended_ms": 1000, **fields})
    command = EndResponse(id=name, client_id=client_id, text=text, logprobs=({"offset": 0},), end=ended)
    return END_RESPONSE.function(connection, command)


def read(connection: Connection, name: str, client_id: str = "me") -> Any:
    return READ_RESPONSE.function(connection, Owned(client_id=client_id, id=name))


def test_what_is_stored_is_read_again(connection: Connection) -> None:
    begin(connection, "r01")
    (left,) = RUNNING_RESPONSES.function(connection, None)
    assert (left.response, left.generate, left.domain) == (new("r01"), GENERATE, "d")
    assert read(connection, "r01").end is None
    assert end(connection, "r01").value is True
    found = read(connection, "r01")
    assert (found.response, found.text, found.logprobs) == (new("r01"), "x\0y", ({"offset": 0},))
    assert found.end.status == "completed"
    assert RUNNING_RESPONSES.function(connection, None) == ()


def test_an_end_comes_once_and_never_after_a_deletion(connection: Connection) -> None:
    begin(connection, "r01", notifies=True, title="t")
    (trigger,) = end(connection, "r01").triggers
    assert (trigger.kind, trigger.data["title"], trigger.data["response_id"]) == ("response_done", "t", "r01")
    again = end(connection, "r01", "other")
    assert (again.value, again.triggers) == (False, ())
    assert read(connection, "r01").text == "x\0y"
    begin(connection, "r02")
    DELETE_RESPONSE.function(connection, Owned(client_id="me", id="r02"))
    assert end(connection, "r02").value is False


def test_another_clients_is_not_told_from_none(connection: Connection) -> None:
    begin(connection, "r01", "other")
    end(connection, "r01", client_id="other")
    said = []
    for function in (READ_RESPONSE.function, DELETE_RESPONSE.function, READ_CHAIN.function):
        for name in ("r01", "r99"):
            with pytest.raises(CommandError) as caught:
                function(connection, Owned(client_id="me", id=name))
            said.append((caught.value.code, caught.value.message.replace(name, "")))
    assert {one[0] for one in said} == {ErrorCode.NOT_FOUND}
    assert said[::2] == said[1::2]
    assert end(connection, "r01", "mine").value is False


def test_a_chain_is_read_from_its_beginning(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 4):
        previous = f"r0{number - 1}" if number > 1 else None
        begin(connection, f"r0{number}", previous_id=previous)
        end(connection, f"r0{number}")
    chain = READ_CHAIN.function(connection, Owned(client_id="me", id="r03"))
    assert [one.response.id for one in chain] == ["r01", "r02", "r03"]
    begin(connection, "r04", previous_id="r03")
    refused(connection, "r04", ErrorCode.CONFLICT)
    monkeypatch.setattr(store, "MAXIMUM_CHAIN", 2)
    refused(connection, "r03", ErrorCode.CONTEXT_LENGTH_EXCEEDED)
    DELETE_RESPONSE.function(connection, Owned(client_id="me", id="r02"))
    refused(connection, "r03", ErrorCode.NOT_FOUND)


def refused(connection: Connection, name: str, code: ErrorCode) -> None:
    with pytest.raises(CommandError) as caught:
        READ_CHAIN.function(connection, Owned(client_id="me", id=name))
    assert (caught.value.code, caught.value.field) == (code, "body.previous_response_id")


@pytest.mark.parametrize("bound", ["MAXIMUM_RESPONSES", "MAXIMUM_BYTES"])
def test_rs14_the_oldest_that_ended_go_for_a_new_one(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    begin(connection, "r01", "other")
    begin(connection, "r02")
    for number in (3, 4, 5):
        begin(connection, f"r0{number}")
        # One of these takes more than a new one does.
        end(connection, f"r0{number}", "x" * 5000)
    held = connection.execute(select(func.sum(responses.c.bytes)).where(responses.c.client_id == "me")).scalar_one()
    monkeypatch.setattr(store, bound, 4 if bound == "MAXIMUM_RESPONSES" else int(held))
    begin(connection, "r06")
    kept = connection.execute(select(responses.c.id).order_by(responses.c.id)).scalars().all()
    assert "r03" not in kept
    assert {"r01", "r02", "r05", "r06"} <= set(kept)
    monkeypatch.setattr(store, bound, 2 if bound == "MAXIMUM_RESPONSES" else 10)
    with pytest.raises(CommandError) as caught:
        begin(connection, "r07")
    assert caught.value.code is ErrorCode.OVERLOADED


def test_rs15_what_ended_thirty_days_ago_is_forgotten(connection: Connection) -> None:
    now = 10 * KEPT_MILLISECONDS
    for name, ended_ms in (("r01", now - KEPT_MILLISECONDS), ("r02", now - KEPT_MILLISECONDS + 1), ("r03", 2 * now)):
        begin(connection, name)
        end(connection, name, ended_ms=ended_ms)
    begin(connection, "r04")
    assert prune_responses(connection, now) == 1
    kept = connection.execute(select(responses.c.id, responses.c.ended_ms).order_by(responses.c.id)).all()
    assert [one.id for one in kept] == ["r02", "r03", "r04"]
    assert kept[1].ended_ms == now


def test_a_client_with_a_response_has_something_kept() -> None:
    assert responses in TABLES_OF_CLIENTS
    assert BEGIN_RESPONSE.begins_client


def test_a_request_with_tools_is_the_same_again() -> None:
    schema = {"type": "object", "properties": {"a": {"maximum": 10**40, "default": None}}}
    function = CallableFunction(name="f", parameters=schema, path="tools[0]")
    request = GenerateWithTools(
        messages=[ChatMessage(Role.USER, "x")],
        turns=[{"role": "user", "content": "x", "a": None}],
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
        tool_call_format=ToolCallFormat.BARRED,
        call_rule=ToolCallConstraint(
            tool_call_format=ToolCallFormat.BARRED,
            functions=(function,),
            is_required=True,
            most_calls=2,
            source_field="tool_choice",
        ),
        seed=9,
    )
    assert request_from_text(request_to_text(request)) == request
    assert request_from_text(request_to_text(GENERATE)) == GENERATE


def test_a_request_in_a_newer_form_is_known_as_such(connection: Connection) -> None:
    begin(connection, "r01")
    connection.execute(responses.update().values(restart='{"of": "another version"}'))
    (left,) = RUNNING_RESPONSES.function(connection, None)
    assert left.generate is None


def test_a_page_has_tokens_and_text_up_to_the_same_place(connection: Connection) -> None:
    begin(connection, "r01")
    count = 2 * PAGE_TOKENS + 1
    command = EndResponse(
        id="r01",
        client_id="me",
        text="ab" * count,
        logprobs=tuple({"offset": 2 * one} for one in range(count)),
        end=ResponseEnd(status="completed", ended_ms=1),
    )
    END_RESPONSE.function(connection, command)
    found = read(connection, "r01")
    first = page_of(found, 0, 0)
    assert (len(first.text), len(first.logprobs), first.end) == (2 * PAGE_TOKENS, PAGE_TOKENS, None)
    second = page_of(found, len(first.text), len(first.logprobs))
    last = page_of(found, 2 * len(first.text), 2 * PAGE_TOKENS)
    assert (second.end, last.text, last.end) == (None, "ab", found.end)
