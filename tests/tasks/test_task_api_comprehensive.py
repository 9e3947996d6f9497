"""The REST interface of tasks over a real hypercorn: what it promises, and that bad input of every kind changes nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol.commands import MAXIMUM_FRAME_BYTES
from runtime.testing import crash
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

NOBODY = "00000000-0000-4000-8000-000000000000"


def assert_problem(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """A problem of RFC 9457; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body.get("field")) == (status, code, field)
    assert body["detail"]
    return body


async def made(http: httpx.AsyncClient, **data: Any) -> dict[str, Any]:
    """A new task."""
    response = await http.post("/tasks/me", json={"title": "a task", **data})
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


async def test_create_with_analysis_answers_with_the_models_words(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        response = await http.post(
            "/tasks/me", json={"title": "Paint the door", "description": "green", "analyze_with_ai": True}
        )
        task = response.json()
        assert response.status_code == 201
        assert response.headers["location"] == f"/tasks/me/{task['id']}"
        assert response.headers["etag"] == '"1"'
        assert task["ai_analysis_status"] == "done"
        # The mock engine says what it was asked, so this is its answer and no text of ours.
        assert "Paint the door" in task["ai_analysis"]
        assert 0 < task["ai_analysis_confidence"] <= 1
        assert task["version"] == 1
        assert (await http.get(f"/tasks/me/{task['id']}")).json() == task


async def test_a_create_whose_analysis_is_late_answers_in_time_and_the_analysis_follows(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.05) as server, server.http() as http:
        task = (
            await http.post(
                "/tasks/me",
                json={"title": "count to 40", "analyze_with_ai": True, "ai_timeout_seconds": 0.01},
            )
        ).json()
        assert task["ai_analysis_status"] == "pending"
        assert "ai_analysis" not in task

        async def done() -> Any:
            now = (await http.get(f"/tasks/me/{task['id']}")).json()
            return now if now["ai_analysis_status"] == "done" else None

        now = await eventually(done)
        assert now["version"] == 1
        assert now["updated"] == task["updated"]


async def test_an_analysis_that_waits_survives_a_crash_of_the_service_and_a_restart_of_the_server(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.2) as server, server.http() as http:
        task = await made(http, title="count to 50", analyze_with_ai=True, ai_timeout_seconds=0)
        crash(server.system, "tasks", RuntimeError("on purpose"))
        await eventually(lambda: server.incarnations()["tasks"] == 2)
        assert (await http.get(f"/tasks/me/{task['id']}")).json()["ai_analysis_status"] == "pending"
    async with running_server(tmp_path) as server, server.http() as http:

        async def done() -> bool:
            now = (await http.get(f"/tasks/me/{task['id']}")).json()
            return bool(now["ai_analysis_status"] == "done" and now["ai_analysis"])

        await eventually(done)


async def test_a_task_through_its_whole_life(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        task = await made(http, due="2026-12-01T10:00:00+02:00", tags=["a"], confidence=0.5)
        here = f"/tasks/me/{task['id']}"
        assert task["due"] == "2026-12-01T08:00:00.000Z"
        patched = await http.patch(here, json={"title": "new", "due": None}, headers={"If-Match": '"1"'})
        assert patched.status_code == 200
        assert patched.headers["etag"] == '"2"'
        assert "due" not in patched.json()
        moved = await http.post(f"{here}/move", json={"status": "in_progress", "version": 2})
        assert moved.json()["status"] == "in_progress"
        decided = await http.post(
            f"{here}/decision", json={"decision": "approved", "feedback": "go"}, headers={"If-Match": '"3"'}
        )
        assert decided.json()["agent_decision"]["approval"] == "approved"
        board = (await http.get("/tasks/me/board")).json()
        assert [one["count"] for one in board["columns"]] == [0, 0, 1, 0, 0]
        history = (await http.get(f"{here}/history", params={"limit": 2})).json()
        assert [one["kind"] for one in history["entries"]] == ["decided", "moved"]
        rest = (await http.get(f"{here}/history", params={"before": history["next_before"]})).json()
        assert [one["kind"] for one in rest["entries"]] == ["updated", "created"]
        stale = await http.delete(here, headers={"If-Match": '"1"'})
        assert assert_problem(stale, 412, "conflict", "If-Match")["current"]["version"] == 4
        gone = await http.delete(here, headers={"If-Match": '"4"'}, params={"force": "true"})
        assert gone.json() == {"task_id": task["id"], "version": 4}
        assert_problem(await http.get(here), 404, "not_found", "task_id")
        assert (await http.get("/tasks/me/stats")).json()["count"] == 0


async def test_the_same_key_makes_one_task(engineless_server: RunningServer) -> None:
    key = {"Idempotency-Key": "once"}
    async with engineless_server.http() as http:
        first, second = [await http.post("/tasks/me", json={"title": "x"}, headers=key) for _ in range(2)]
        assert first.json() == second.json()
        other = await http.post("/tasks/me", json={"title": "y"}, headers=key)
        assert_problem(other, 409, "conflict", "Idempotency-Key")
        assert len((await http.get("/tasks/me")).json()["tasks"]) == 1


async def test_limits_are_set_and_kept(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        limits = {"project": "default", "limits": {"testing": 1}}
        assert (await http.put("/tasks/me/board", json=limits)).json() == {"testing": 1}
        await made(http, status="testing")
        full = await http.post("/tasks/me", json={"title": "x", "status": "testing"})
        assert "may have at most 1 tasks and has 1" in assert_problem(full, 409, "conflict", "body.status")["detail"]
        await made(http, status="testing", force=True)


async def test_filters_pages_and_search_of_the_query(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for number in range(5):
            await made(http, title=f"Task {number}", tags=["even" if number % 2 == 0 else "odd"])
        page = (await http.get("/tasks/me?tags=even&sort=created&order=ascending&limit=2")).json()
        assert [one["title"] for one in page["tasks"]] == ["Task 0", "Task 2"]
        rest = (
            await http.get(
                "/tasks/me",
                params={
                    "tags": "even", "sort": "created", "order": "ascending", "limit": 2, "cursor": page["next_cursor"],
                },
            )
        ).json()  # fmt: skip
        assert [one["title"] for one in rest["tasks"]] == ["Task 4"]
        assert "next_cursor" not in rest
        found = (await http.get("/tasks/me?search=tASK%203&status=todo&status=done&is_blocked=false")).json()
        assert [one["title"] for one in found["tasks"]] == ["Task 3"]


async def test_an_export_can_be_imported_and_says_the_same(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        a = await made(http, title="=1+1", tags=["t"], status="done", attachments=[{"name": "n", "reference": "r"}])
        await made(
            http, title="b", dependencies=[a["id"]], agent_decision={"recommendation": "do, it", "confidence": 0.5}
        )
        for number in range(120):
            await made(http, title=f"n{number}")
        exported = (await http.get("/tasks/me/export")).json()
        assert len(exported["tasks"]) == 122
        imported = await http.post("/tasks/you/import", json=exported)
        assert imported.json()["count"] == 122
        again = (await http.get("/tasks/you/export")).json()
        names = {one["id"]: one["title"] for one in [*exported["tasks"], *again["tasks"]]}

        def told(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
            left_out = ("id", "position")
            plain = [{key: value for key, value in one.items() if key not in left_out} for one in tasks]
            return sorted(
                ({**one, "dependencies": [names[each] for each in one["dependencies"]]} for one in plain),
                key=lambda one: str(one["title"]),
            )

        assert told(again["tasks"]) == told(exported["tasks"])
        boards = [(await http.get(f"/tasks/{who}/board?limit=100")).json() for who in ("me", "you")]
        titles = [[[one["title"] for one in column["tasks"]] for column in board["columns"]] for board in boards]
        assert titles[0] == titles[1]
        text = (await http.get("/tasks/me/export?format=csv&status=done")).text
        (row,) = csv.DictReader(io.StringIO(text))
        # A spreadsheet must not run it.
        assert (row["title"], json.loads(row["tags"])) == ("'=1+1", ["t"])
        assert (await http.get("/tasks/nobody/export")).json() == {"tasks": []}


async def test_bulk_and_cleanup(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        items = [{"create": {"title": "a", "status": "done"}}, {"create": {"title": ""}}]
        bad = await http.post("/tasks/me/bulk", json={"items": items})
        assert_problem(bad, 422, "invalid_field", "body.items[1].create.title")
        items[1] = {"delete": {"task_id": NOBODY, "version": 1}}
        assert_problem(
            await http.post("/tasks/me/bulk", json={"items": items}), 404, "not_found", "body.items[1].delete.task_id"
        )
        assert (await http.get("/tasks/me")).json()["tasks"] == []
        alone = (await http.post("/tasks/me/bulk", json={"items": items, "all_or_nothing": False})).json()
        assert (alone["failed"], alone["items"][1]["error"]["code"]) == (1, "not_found")
        cleaned = (await http.post("/tasks/me/cleanup", json={"older_than_days": 0})).json()
        assert cleaned == {"count": 1, "has_more": False, "dry_run": False}


BAD = [
    ("POST", "/tasks/me", {"json": {}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": ""}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": " "}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": "x" * 256}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": "a\0b"}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": 7}}, 422, "invalid_field", "body.title"),
    ("POST", "/tasks/me", {"json": {"title": "x", "status": "later"}}, 422, "invalid_field", "body.status"),
    ("POST", "/tasks/me", {"json": {"title": "x", "priority": None}}, 422, "invalid_field", "body.priority"),
    ("POST", "/tasks/me", {"json": {"title": "x", "due": "tomorrow"}}, 422, "invalid_field", "body.due"),
    ("POST", "/tasks/me", {"json": {"title": "x", "due": "2026-02-30T00:00:00Z"}}, 422, "invalid_field", "body.due"),
    ("POST", "/tasks/me", {"json": {"title": "x", "tags": ["a", "a"]}}, 422, "invalid_field", "body.tags"),
    ("POST", "/tasks/me", {"json": {"title": "x", "tags": ["a", ""]}}, 422, "invalid_field", "body.tags[1]"),
    ("POST", "/tasks/me", {"json": {"title": "x", "confidence": 1.1}}, 422, "invalid_field", "body.confidence"),
    ("POST", "/tasks/me", {"json": {"title": "x", "estimate_hours": -1}}, 422, "invalid_field", "body.estimate_hours"),
    ("POST", "/tasks/me", {"json": {"title": "x", "dependencies": ["1"]}}, 422, "invalid_field", "body.dependencies[0]"),
    ("POST", "/tasks/me", {"json": {"title": "x", "dependencies": [NOBODY]}}, 409, "conflict", "body.dependencies[0]"),
    ("POST", "/tasks/me", {"json": {"title": "x", "ai_timeout_seconds": 61}}, 422, "invalid_field", "body.ai_timeout_seconds"),
    ("POST", "/tasks/me", {"json": {"title": "x", "colour": "red"}}, 422, "invalid_field", "body.colour"),
    ("POST", "/tasks/me", {"json": {"title": "x", "id": NOBODY}}, 422, "invalid_field", "body.id"),
    ("POST", "/tasks/me", {"content": b"{"}, 400, "bad_message", None),
    ("POST", "/tasks/me", {"content": b"[]"}, 400, "bad_message", None),
    ("POST", "/tasks/me", {"content": b'{"title":"a","title":"b"}'}, 400, "bad_message", None),
    ("POST", "/tasks/me", {"content": b'{"title": NaN}'}, 400, "bad_message", "body.title"),
    ("POST", "/tasks/me", {"content": b" " * (MAXIMUM_FRAME_BYTES + 1)}, 413, "too_large", "body"),
    ("POST", "/tasks/me", {"json": {"title": "x"}, "headers": {"Idempotency-Key": "x" * 65}}, 422, "invalid_field", "Idempotency-Key"),
    ("POST", "/tasks/-me", {"json": {"title": "x"}}, 422, "invalid_field", "client_id"),
    ("GET", "/tasks/me?limit=0", {}, 422, "invalid_field", "query.limit"),
    ("GET", "/tasks/me?limit=x", {}, 422, "invalid_field", "query.limit"),
    ("GET", "/tasks/me?limit=1&limit=2", {}, 422, "invalid_field", "query.limit"),
    ("GET", "/tasks/me?status=later", {}, 422, "invalid_field", "query.status[0]"),
    ("GET", "/tasks/me?sort=title", {}, 422, "invalid_field", "query.sort"),
    ("GET", "/tasks/me?cursor=x", {}, 404, "not_found", "query.cursor"),
    ("GET", "/tasks/me?is_blocked=maybe", {}, 422, "invalid_field", "query.is_blocked"),
    ("GET", "/tasks/me?colour=red", {}, 422, "invalid_field", "query.colour"),
    ("GET", "/tasks/me/board?project=%00", {}, 422, "invalid_field", "query.project"),
    ("GET", "/tasks/me/export?format=xml", {}, 422, "invalid_field", "query.format"),
    ("GET", "/tasks/me/7", {}, 404, "not_found", None),
    ("GET", f"/tasks/me/{NOBODY}", {}, 404, "not_found", "task_id"),
    ("GET", f"/tasks/me/{NOBODY}/history", {}, 404, "not_found", "task_id"),
    ("GET", f"/tasks/me/{NOBODY}/history?task_id=7", {}, 422, "invalid_field", "query.task_id"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x"}}, 422, "invalid_field", "If-Match"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x"}, "headers": {"If-Match": "1"}}, 400, "bad_message", "If-Match"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x"}, "headers": {"If-Match": 'W/"2"'}}, 412, "conflict", "If-Match"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x", "version": 2}, "headers": {"If-Match": '"1"'}}, 422, "invalid_field", "body.version"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x", "version": 2}}, 409, "conflict", "body.version"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": "x"}, "headers": {"If-Match": '"2"'}}, 412, "conflict", "If-Match"),
    ("PATCH", "/tasks/me/TASK", {"json": {"title": None, "version": 1}}, 422, "invalid_field", "body.title"),
    ("PATCH", "/tasks/me/TASK", {"json": {"clear": 7, "due": None, "version": 1}}, 422, "invalid_field", "body.clear"),
    ("PATCH", "/tasks/me/TASK", {"json": {"clear": ["id"], "version": 1}}, 422, "invalid_field", "body.clear[0]"),
    ("PATCH", "/tasks/me/TASK", {"json": {"task_id": NOBODY, "version": 1}}, 422, "invalid_field", "body.task_id"),
    ("PATCH", "/tasks/me/TASK", {"json": {"ai_analysis": "mine", "version": 1}}, 422, "invalid_field", "body.ai_analysis"),
    ("PATCH", "/tasks/me/TASK", {"json": {"dependencies": ["TASK"], "version": 1}}, 409, "conflict", "body.dependencies"),
    ("POST", "/tasks/me/TASK/move", {"json": {"status": "backlog", "version": 1}}, 422, "invalid_field", "body.status"),
    ("POST", "/tasks/me/TASK/move", {"json": {"version": 1}}, 422, "invalid_field", "body.status"),
    ("POST", "/tasks/me/TASK/move", {"json": {"status": "done", "version": 1, "after": NOBODY}}, 409, "conflict", "body.after"),
    ("POST", "/tasks/me/TASK/move", {"json": {"status": "done", "version": 1, "after": NOBODY, "before": NOBODY}}, 422, "invalid_field", "body.before"),
    ("POST", "/tasks/me/TASK/decision", {"json": {"decision": "pending", "version": 1}}, 422, "invalid_field", "body.decision"),
    ("POST", "/tasks/me/TASK/decision", {"json": {"decision": "approved", "version": 1}}, 409, "conflict", "body.decision"),
    ("DELETE", "/tasks/me/TASK", {}, 422, "invalid_field", "If-Match"),
    ("DELETE", "/tasks/me/TASK?version=1", {"headers": {"If-Match": '"1"'}}, 422, "invalid_field", "query.version"),
    ("DELETE", "/tasks/you/TASK", {"headers": {"If-Match": '"1"'}}, 404, "not_found", "task_id"),
    ("PUT", "/tasks/me/board", {"json": {"limits": {"todo": 0}}}, 422, "invalid_field", "body.limits.todo"),
    ("PUT", "/tasks/me/board", {"json": {"limits": {"doing": 1}}}, 422, "invalid_field", "body.limits.doing"),
    ("POST", "/tasks/me/bulk", {"json": {"items": []}}, 422, "invalid_field", "body.items"),
    ("POST", "/tasks/me/bulk", {"json": {"items": [{}]}}, 422, "invalid_field", "body.items[0].create"),
    ("POST", "/tasks/me/import", {"json": {"tasks": [{"title": "x", "dependencies": ["y"]}]}}, 409, "conflict", "body.tasks[0].dependencies[0]"),
    ("POST", "/tasks/me/cleanup", {"json": {"older_than_days": -1}}, 422, "invalid_field", "body.older_than_days"),
    ("PUT", "/tasks/me", {"json": {}}, 405, "bad_message", None),
]  # fmt: skip


async def test_bad_input_of_every_kind_gets_a_named_problem_and_changes_nothing(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.http() as http:
        task = await made(http, status="done")

        async def everything() -> list[Any]:
            here = f"/tasks/me/{task['id']}/history"
            return [(await http.get(path)).json() for path in ("/tasks/me/board", "/tasks/you/board", here)]

        before = await everything()
        for method, path, arguments, status, code, field in BAD:
            put_in = json.loads(json.dumps(arguments, default=lambda raw: None).replace("TASK", task["id"]))
            if "content" in arguments:
                put_in["content"] = arguments["content"]
            response = await http.request(method, path.replace("TASK", task["id"]), **put_in)
            print(method, path, arguments if "content" not in arguments else "")
            assert_problem(response, status, code, field)
        assert await everything() == before


async def test_a_service_that_is_restarting_is_unavailable_and_no_internal_error(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.http() as http:
        await made(http)
        crash(engineless_server.system, "storage/readers", RuntimeError("on purpose"))
        response = await http.get("/tasks/me")
        if response.status_code != 200:
            assert_problem(response, 503, "unavailable")
        await eventually(lambda: engineless_server.incarnations()["storage/readers"] == 2)

        async def answers() -> bool:
            return (await http.get("/tasks/me")).status_code == 200

        await eventually(answers)
