"""`/ai/process`, `/ai/complete` and conversations over a real hypercorn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.commands import MAXIMUM_FRAME_BYTES
from tests.assistant.kit import answered, ask, told
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


async def test_a_message_in_a_conversation_is_told_to_every_device(server: RunningServer) -> None:
    headers = {"X-Client-Id": "tester"}
    async with server.http(headers=headers) as http:
        first = await http.post("/ai/process", json={"type": "message", "content": "count to 3", "conversation": "c"})
        second = await http.post("/ai/process", json={"type": "message", "content": "and?", "conversation": "c"})
        assert (first.json()["type"], first.json()["content"]) == ("message", "1 2 3")
        assert "intent" not in first.json()
        assert second.json()["content"] == "You said: and?"
        # Both were on disk before they were answered.
        assert [one["analysis"] for one in await answered(server, 2)] == ["1 2 3", "You said: and?"]
        page = (await http.get("/conversations/tester/c")).json()
    assert [(one["role"], one["content"]) for one in page["turns"]] == [
        ("user", "count to 3"),
        ("assistant", "1 2 3"),
        ("user", "and?"),
        ("assistant", "You said: and?"),
    ]
    assert (page["conversation"]["conversation"], page["conversation"]["turns"]) == ("c", 4)


async def test_a_command_is_an_intent_on_code(server: RunningServer) -> None:
    body = {"type": "command", "intent": "refactor", "content": "y=1", "file_path": "y.py"}
    async with server.http() as http:
        answer = (await http.post("/ai/process", json=body)).json()
    assert (answer["type"], answer["intent"]) == ("command", "refactor")
    assert "```python\ny=1\n```" in answer["content"]
    assert answer["suggestions"][0] == {"language": "python", "code": "y=1\n", "is_complete": True}
    assert answer["requires_review"] is False
    assert answer["usage"]["completion_tokens"] > 0
    (event,) = await answered(server, 1, "local")
    assert (event["intent"], event["analysis"]) == ("refactor", answer["content"])


async def test_code_is_completed_at_the_cursor(server: RunningServer) -> None:
    code = "def add(a, b):\n    \n"
    body = {"content": code, "cursor": len(code) - 1, "file_path": "a.py", "max_tokens": 400}
    async with server.http() as http:
        answer = (await http.post("/ai/complete", json=body)).json()
        at_the_end = (await http.post("/ai/complete", json={"content": "x = ", "language": "python"})).json()
        explained = (await http.post("/ai/complete", json={"content": "x = 1", "intent": "explain"})).json()
    assert answer["intent"] == "suggest"
    # The mock repeats the prompt, whose first code block has the cursor in it; what stands before it is not said again.
    assert answer["completion"] == "<cursor>\n"
    assert at_the_end["completion"] == "x = <cursor>\n"
    assert (explained["intent"], explained["completion"]) == ("explain", "x = 1\n")
    assert len(await answered(server, 3, "local")) == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("process", {"type": "command", "content": "x"}, 422, "invalid_field", "body.intent"),
        ("process", {"type": "message", "content": "x", "intent": "ask"}, 422, "invalid_field", "body.intent"),
        ("process", {"type": "message", "content": "x", "cursor": 0}, 422, "invalid_field", "body.cursor"),
        ("process", {"type": "command", "intent": "ask", "content": "x", "seed": 1}, 422, "invalid_field", "body.seed"),
        ("process", {"type": "command", "intent": "sing", "content": "x"}, 422, "invalid_field", "body.intent"),
        ("process", {"type": "message", "content": "a\0"}, 422, "invalid_field", "body.content"),
        ("process", {"type": "message", "content": " "}, 422, "invalid_field", "body.content"),
        (
            "process",
            {"type": "message", "content": "x", "conversation": "/"},
            422,
            "invalid_field",
            "body.conversation",
        ),
        (
            "process",
            {"type": "message", "content": "x", "max_tokens": 9000},
            400,
            "context_length_exceeded",
            "body.max_tokens",
        ),
        ("complete", {}, 422, "invalid_field", "body.content"),
        ("complete", {"content": ""}, 422, "invalid_field", "body.content"),
        ("complete", {"content": "\x01\x02"}, 422, "invalid_field", "body.content"),
        ("complete", {"content": "x", "cursor": 2}, 422, "invalid_field", "body.cursor"),
        ("complete", {"content": "x", "cursor": -1}, 422, "invalid_field", "body.cursor"),
        ("complete", {"content": "x", "language": "klingon"}, 422, "invalid_field", "body.language"),
        ("complete", {"content": "x", "intent": "sing"}, 422, "invalid_field", "body.intent"),
        ("complete", {"content": "x", "colour": 1}, 422, "invalid_field", "body.colour"),
        ("complete", {"content": "x" * 9000}, 400, "context_length_exceeded", "body.content"),
        ("complete", {"content": "x" * 10 * MAXIMUM_FRAME_BYTES}, 413, "too_large", "body"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
async def test_bad_input_is_a_problem_that_names_the_field_and_nothing_is_stored(
    engineless_server: RunningServer, path: str, body: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    async with engineless_server.http() as http:
        answer = await http.post(
            f"/ai/{path}", json={**body, **({"conversation": "c"} if "conversation" not in body else {})}
        )
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert (problem["code"], problem.get("field")) == (code, field)
        assert (await http.get("/conversations/local")).json() == {"conversations": []}
    assert await told(engineless_server, "local") == []


async def test_an_idempotency_key_is_refused_by_name(engineless_server: RunningServer) -> None:
    async with engineless_server.http(headers={"Idempotency-Key": "k"}) as http:
        answer = await http.post("/ai/complete", json={"content": "x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


async def test_one_turn_at_a_time_also_over_rest(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        server.peer(client_id="local") as peer,
        server.http() as http,
    ):
        accepted = await ask(peer, "assist", "a", {"intent": "ask", "content": "count to 900", "conversation": "c"})
        assert accepted["type"] == "accepted"
        refused = await http.post("/ai/process", json={"type": "message", "content": "x", "conversation": "c"})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert (refused.json()["current"], refused.json()["field"]) == ({"command": "a"}, "body.conversation")
        deletion = await http.delete("/conversations/local/c")
        assert (deletion.status_code, deletion.json()["current"]) == (409, {"command": "a"})


async def test_a_client_that_leaves_ends_its_answer_and_frees_the_conversation(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:

        async def is_running() -> bool:
            return bool((await server.snapshot("inference/inference"))["running"])

        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await eventually(is_running)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave)
            async with server.http() as leaving:
                await leaving.post(
                    "/ai/process", json={"type": "message", "content": "count to 900", "conversation": "c"}
                )

        async def is_free() -> bool:
            page = (await http.get("/conversations/local/c")).json()
            return "conversation" in page and "running" not in page["conversation"]

        await eventually(is_free)
        assert [(kind, data["change"]) for kind, data in await told(server, "local")] == [
            ("conversation_changed", "turns")
        ]
        again = await http.post("/ai/process", json={"type": "message", "content": "count to 2", "conversation": "c"})
        assert again.json()["content"] == "1 2"


async def test_conversations_are_listed_in_pages_exported_and_deleted(server: RunningServer) -> None:
    async with server.http() as http:
        for name in "abc":
            await http.post(
                "/ai/process", json={"type": "message", "content": f"count to 2 {name}", "conversation": name}
            )
        first = (await http.get("/conversations/local?limit=2")).json()
        assert [one["conversation"] for one in first["conversations"]] == ["a", "b"]
        rest = (await http.get(f"/conversations/local?limit=2&after={first['next']}")).json()
        assert [one["conversation"] for one in rest["conversations"]] == ["c"]
        assert "next" not in rest
        page = (await http.get("/conversations/local/b?limit=1")).json()
        assert ([one["role"] for one in page["turns"]], page["next"]) == (["user"], 1)
        page = (await http.get("/conversations/local/b?limit=1&after=1")).json()
        assert [one["role"] for one in page["turns"]] == ["assistant"]
        assert "next" not in page
        exported = await http.get("/conversations/local/b/export")
        assert exported.headers["content-disposition"] == 'attachment; filename="b.json"'
        assert [one["content"] for one in exported.json()["turns"]] == ["count to 2 b", "1 2"]
        text = await http.get("/conversations/local/b/export?format=markdown")
        assert text.headers["content-type"] == "text/markdown; charset=utf-8"
        assert text.text.startswith("# b\n")
        assert "## 1. You (" in text.text
        assert "## 2. LeanVibe (" in text.text
        assert (await http.delete("/conversations/local/b")).json() == {"conversation": "b", "turns": 2}
        for answer in (await http.get("/conversations/local/b"), await http.delete("/conversations/local/b")):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/conversations/local/never", 404, "path.conversation"),
        ("/conversations/local/a%20b", 422, "path.conversation"),
        ("/conversations/local?colour=1", 422, "query.colour"),
        ("/conversations/local?limit=0", 422, "query.limit"),
        ("/conversations/local?limit=many", 422, "query.limit"),
        ("/conversations/local/c?after=-1", 422, "query.after"),
        ("/conversations/local/c/export?format=pdf", 422, "query.format"),
    ],
)
async def test_wrong_paths_and_queries_are_named(
    engineless_server: RunningServer, path: str, status: int, field: str
) -> None:
    async with engineless_server.http() as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json().get("field")) == (status, field)
