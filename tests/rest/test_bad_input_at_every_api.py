"""The same mistakes in each API: each is reported in that API's own format and leaves no sequence behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import field, frozen
from sqlalchemy import text

from actors.storage.columns import COLUMNS
from actors.storage.database import database_url, open_engine
from tests.server_fixture import RunningServer, running_server

pytestmark = pytest.mark.integration

LONG = "x" * 50_000
NEVER = "0" * 48
OTHERS = {"X-Client-Id": "other"}


def openai_shape(answer: httpx.Response, param: str | None) -> None:
    """`message`, `type`, `param` and `code` under `error`."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert error["message"]
    assert error["code"]
    assert error["param"] == param, error


def anthropic_shape(answer: httpx.Response, param: str | None) -> None:
    """`type` and `message` under `error`; the message begins with the field."""
    body = answer.json()
    assert (body["type"], set(body["error"])) == ("error", {"type", "message"}), body
    assert param is None or param in body["error"]["message"], body


def ollama_shape(answer: httpx.Response, param: str | None) -> None:
    """A text under `error`."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert param is None or param in body["error"], body


@frozen(kw_only=True)
class Api:
    """One route that is asked for answers."""

    path: str
    good: Mapping[str, Any]
    shape: Callable[[httpx.Response, str | None], None]
    tool: Mapping[str, Any] | None = None
    """Without a schema, or a name."""
    tool_param: str = ""
    image: Mapping[str, Any] | None = None
    """Fields with an image in the question."""
    image_param: str = ""
    long: Mapping[str, Any] = field(factory=dict)
    """Fields that no context holds."""
    long_param: str | None = None
    streams: bool = True
    """Whether answers can come as a stream."""


CHAT = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SOURCE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
APIS = {
    "chat completions": Api(
        path="/v1/chat/completions",
        good=CHAT,
        shape=openai_shape,
        tool={"type": "function", "function": {"parameters": {}}},
        tool_param="tools[0].function.name",
        image={"messages": [{"role": "user", "content": [PICTURE]}]},
        image_param="messages[0].content[0].type",
        long={"messages": [{"role": "user", "content": LONG}]},
        long_param="messages",
    ),
    "completions": Api(
        path="/v1/completions",
        good={"model": "mock", "prompt": "hi"},
        shape=openai_shape,
        long={"prompt": LONG},
        long_param="prompt",
    ),
    "responses": Api(
        path="/v1/responses",
        good={"model": "mock", "input": "hi"},
        shape=openai_shape,
        tool={"type": "function", "name": "f"},
        tool_param="tools[0].parameters",
        image={"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        image_param="input[0].content[0].type",
        long={"input": LONG},
        long_param="input",
    ),
    "embeddings": Api(
        path="/v1/embeddings",
        good={"model": "all-minilm-l6-v2", "input": "hi"},
        shape=openai_shape,
        image={"input": [{"type": "image"}]},
        image_param="input[0]",
        streams=False,
    ),
    "messages": Api(
        path="/v1/messages",
        good={**CHAT, "max_tokens": 5},
        shape=anthropic_shape,
        tool={"name": "f"},
        tool_param="tools[0].input_schema",
        image={"messages": [{"role": "user", "content": [SOURCE]}]},
        image_param="messages[0].content[0]",
        long={"messages": [{"role": "user", "content": LONG}]},
        long_param="prompt is too long",
    ),
    "ollama's chat": Api(
        path="/api/chat",
        good=CHAT,
        shape=ollama_shape,
        tool={"type": "function", "function": {"parameters": {}}},
        tool_param="tools[0].function.name",
        image={"messages": [{"role": "user", "content": "hi", "images": ["AA=="]}]},
        image_param="messages[0].images",
        long={"messages": [{"role": "user", "content": LONG}]},
    ),
    "ollama's generate": Api(
        path="/api/generate",
        good={"model": "mock", "prompt": "hi"},
        shape=ollama_shape,
        image={"images": ["AA=="]},
        image_param="images",
        long={"prompt": LONG},
    ),
    "ollama's embed": Api(
        path="/api/embed",
        good={"model": "all-minilm", "input": "hi"},
        shape=ollama_shape,
        image={"input": [{"type": "image"}]},
        image_param="input",
    ),
}


def rows(server: RunningServer) -> dict[str, int]:
    """How many each table has."""
    engine = open_engine(database_url(None, server.settings.data_dir), writes=False)
    with engine.connect() as connection:
        found = {name: int(connection.execute(text(f"select count(*) from {name}")).scalar_one()) for name in COLUMNS}
    engine.dispose()
    return found


@pytest.mark.parametrize("name", APIS)
async def test_bi1_each_mistake_is_told_in_the_shape_of_its_api_and_leaves_no_row(tmp_path: Path, name: str) -> None:
    api = APIS[name]
    async with running_server(tmp_path) as server, server.http() as http:
        before = rows(server)
        mistakes: list[tuple[str, dict[str, Any], int, str | None]] = [
            ("an unknown model", {"model": "nobody"}, 404, "model"),
            ("a field of another kind", {"model": 3}, 400, "model"),
            ("a body over the bound", {"user": "x" * 2_000_000}, 413, None),
        ]
        if api.tool is not None:
            mistakes.append(("a tool without its schema", {"tools": [api.tool]}, 400, api.tool_param))
        if api.image is not None:
            mistakes.append(("an image", dict(api.image), 400, api.image_param))
        if api.long:
            mistakes.append(("more than the context holds", dict(api.long), 400, api.long_param))
        for what, fields, status, param in mistakes:
            for form in ({}, {"stream": True}) if api.streams else ({},):
                answer = await http.post(api.path, json={**api.good, **fields, **form})
                assert answer.status_code == status, (what, answer.text)
                api.shape(answer, param)
                assert rows(server) == before, what
        for what, content, status in (("no JSON", b"{", 400), ("no object", b"[]", 400), ("nothing", b"", 400)):
            answer = await http.post(api.path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == status, (what, answer.text)
            api.shape(answer, None)
            assert rows(server) == before, what
        wrong = await http.put(api.path, json=api.good)
        assert wrong.status_code in (404, 405)
        assert (await server.snapshot("inference/inference"))["running"] == 0


async def test_bi2_what_is_stored_is_refused_by_its_id_and_leaves_no_row(server: RunningServer) -> None:
    async with server.http() as http:
        made = (await http.post("/v1/responses", json=APIS["responses"].good)).json()["id"]
        kept = (await http.post("/v1/conversations", json={})).json()["id"]
        before = rows(server)
        ask = dict(APIS["responses"].good)
        last = 10_000
        for method, path, body, headers, status, param in (
            (
                "POST",
                "/v1/responses",
                {**ask, "previous_response_id": f"resp_{NEVER}"},
                {},
                404,
                "previous_response_id",
            ),
            ("POST", "/v1/responses", {**ask, "previous_response_id": made}, OTHERS, 404, "previous_response_id"),
            ("POST", "/v1/responses", {**ask, "conversation": f"conv_{NEVER}"}, {}, 404, "conversation"),
            ("POST", "/v1/responses", {**ask, "conversation": kept}, OTHERS, 404, "conversation"),
            ("GET", f"/v1/responses/{made}?stream=true&starting_after={last}", None, {}, 400, "starting_after"),
            ("GET", f"/v1/responses/{made}", None, OTHERS, 404, "id"),
            ("DELETE", f"/v1/responses/{made}", None, OTHERS, 404, "id"),
            ("GET", f"/v1/responses/{made}/input_items?after=nobody", None, {}, 400, "after"),
            ("GET", f"/v1/conversations/{kept}/items?after=nobody", None, {}, 400, "after"),
            ("GET", f"/v1/conversations/{kept}/items?limit=101", None, {}, 400, "limit"),
            ("DELETE", f"/v1/conversations/{kept}", None, OTHERS, 404, "id"),
        ):
            answer = await http.request(method, path, json=body, headers=headers)
            assert answer.status_code == status, answer.text
            openai_shape(answer, param)
            assert rows(server) == before, path


async def test_bi3_a_version_that_is_not_spoken_is_refused(server: RunningServer) -> None:
    before = rows(server)
    async with server.http() as http:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            headers = {"anthropic-version": "1999-01-01"}
            answer = await http.post(path, json=APIS["messages"].good, headers=headers)
            assert answer.status_code == 400
            anthropic_shape(answer, "anthropic-version")
    assert rows(server) == before
