"""Parts of a schema that answers leave out, since they cannot be followed, are named to the client."""

from __future__ import annotations

from typing import Any

import pytest

from actors.inference.json_schema import prepared_schema
from actors.inference.sandbox.verdicts import Refusal, Verdicts
from actors.rest.openai.errors import as_client_calls
from tests.server_fixture import RunningServer

LOOKS_AHEAD = {"type": "string", "pattern": "^(?=a)"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"const": 7}, "b": LOOKS_AHEAD},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "left_out"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, ()),
        (SCHEMA, ("/properties/b",)),
        ({"anyOf": [{"type": "null"}, LOOKS_AHEAD]}, ("/anyOf/1",)),
        ({"oneOf": [{"type": "null"}, LOOKS_AHEAD]}, ("/oneOf/1",)),
        ({"type": "array", "items": LOOKS_AHEAD}, ("/items",)),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ("/uniqueItems",)),
        ({"type": "object", "dependentSchemas": {"a": LOOKS_AHEAD}}, ("/dependentSchemas/a",)),
        (
            {"type": "string", "if": {"const": "a"}, "then": {"const": "a"}, "else": {"maxLength": 3}},
            ("/if",),
        ),
        ({"type": "object", "additionalProperties": LOOKS_AHEAD}, ("/additionalProperties",)),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": LOOKS_AHEAD}},
            ("/properties/a",),
        ),
    ],
    ids=str,
)
def test_what_answers_leave_out_is_known_by_its_place(schema: dict[str, Any], left_out: tuple[str, ...]) -> None:
    assert prepared_schema(schema).left_out == left_out


def test_no_more_places_are_kept_than_are_told() -> None:
    schema = {"type": "object", "properties": {f"p{number}": LOOKS_AHEAD for number in range(100)}}
    assert len(prepared_schema(schema).left_out) == 32


def test_a_verdict_remembers_what_was_left_out() -> None:
    verdicts = Verdicts()
    verdicts.note(b"good", None, ["a"])
    verdicts.note(b"bad", Refusal(field="x", problem="y"))
    assert (verdicts.left_out(b"good"), verdicts.refusal(b"good")) == (("a",), None)
    assert verdicts.left_out(b"bad") == ()


def test_places_are_named_as_the_client_wrote_them() -> None:
    assert as_client_calls("response_schema/properties/a") == "response_format/properties/a"
    assert as_client_calls("tools[0].function.parameters/items") == "tools[0].function.parameters/items"


@pytest.mark.integration
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_left_out_is_named_in_the_header_each_time(server: RunningServer, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    body = {"model": "mock", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA, "strict": True}}
    await server.until_engine_is("ready")
    async with server.http() as http:
        for _ in range(2):
            answer = await http.post("/v1/chat/completions", json={**body, "response_format": form, "colour": 1})
            assert answer.status_code == 200
            assert answer.headers["LeanVibe-Ignored"] == "colour, response_format/properties/b"
        answer = await http.post("/v1/chat/completions", json={**body, "tools": [tool]})
        assert answer.headers["LeanVibe-Ignored"] == "tools[0].function.parameters/properties/b"
        answer = await http.post("/v1/chat/completions", json=body)
        assert "LeanVibe-Ignored" not in answer.headers


@pytest.mark.integration
@pytest.mark.parametrize("stream", [False, True])
async def test_oa29_the_other_apis_name_it_too_as_their_clients_wrote_it(server: RunningServer, stream: bool) -> None:
    said: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    strict = {"name": "look", "input_schema": SCHEMA, "strict": True}
    await server.until_engine_is("ready")
    for path, fields, named in (
        ("/v1/messages", {"max_tokens": 50, "output_config": form}, "output_config.format/properties/b"),
        ("/v1/messages", {"max_tokens": 50, "tools": [strict]}, "tools[0].input_schema/properties/b"),
        ("/api/chat", {"format": SCHEMA}, "format/properties/b"),
        ("/api/chat", {}, None),
    ):
        async with server.http() as http:
            answer = await http.post(path, json={**said, **fields})
        assert answer.status_code == 200, answer.text
        assert answer.headers.get("LeanVibe-Ignored") == named


@pytest.mark.integration
async def test_oa29_it_is_told_with_the_acceptance_over_websocket(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        accepted = await peer.ask("generate", "one", {"prompt": "x", "response_schema": SCHEMA})
        assert accepted["data"]["left_out"] == ["response_schema/properties/b"]
    async with server.peer(client_id="another") as peer:
        accepted = await peer.ask("generate", "two", {"prompt": "x", "response_schema": {"type": "object"}})
        assert "left_out" not in accepted["data"]
