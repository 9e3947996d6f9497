"""Tasks over the WebSocket: every command, what the model says of a task told to every device, one board on all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.storage.log import LOG_PAGE, LogPageQuery
from actors.storage.messages import Storage
from tests.server_fixture import Peer, RunningServer

pytestmark = [pytest.mark.integration, pytest.mark.websocket]


async def result(peer: Peer, kind: str, command_id: str, data: Any) -> dict[str, Any]:
    """The data of the command's result; events that come before it are left out."""
    await peer.send(kind, command_id, data)
    while True:
        message = await peer.receive()
        if message.get("re") == command_id:
            assert message["type"] == "result", message
            value: dict[str, Any] = message["data"]
            return value


async def test_every_command_of_tasks_is_served(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        task = await result(peer, "task_create", "1", {"title": "a", "confidence": 0.5})
        here = {"task_id": task["id"]}
        assert (await result(peer, "task_update", "2", {**here, "version": 1, "title": "b"}))["title"] == "b"
        assert (await result(peer, "task_move", "3", {**here, "version": 2, "status": "done"}))["status"] == "done"
        decided = await result(peer, "task_decide", "4", {**here, "version": 3, "decision": "approved"})
        assert decided["agent_decision"]["approval"] == "approved"
        assert await result(peer, "task_get", "5", here) == decided
        assert (await result(peer, "task_list", "6", {"search": "B"}))["tasks"] == [decided]
        assert (await result(peer, "task_board", "7", {}))["count"] == 1
        assert len((await result(peer, "task_history", "8", here))["entries"]) == 4
        assert (await result(peer, "task_stats", "9", {}))["done_today"] == 1
        assert await result(peer, "task_limits", "10", {"limits": {"todo": 3}}) == {"todo": 3}
        bulk = await result(peer, "task_bulk", "11", {"items": [{"delete": {**here, "version": 4}}]})
        assert bulk == {"items": [{"deleted": {**here, "version": 4}}], "failed": 0}
        other = await result(peer, "task_create", "12", {"title": "c"})
        assert await result(peer, "task_delete", "13", {"task_id": other["id"], "version": 1}) == {
            "task_id": other["id"],
            "version": 1,
        }


async def test_the_same_command_again_makes_no_second_task(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        first = await result(peer, "task_create", "1", {"title": "a"})
    async with engineless_server.peer() as peer:
        assert await result(peer, "task_create", "1", {"title": "a"}) == first
        assert (await result(peer, "task_board", "2", {}))["count"] == 1
        await peer.send("task_create", "1", {"title": "another"})
        refused = await peer.receive()
        assert (refused["type"], refused["data"]["code"], refused["data"]["field"]) == ("error", "conflict", "id")


async def test_a_stale_write_gets_the_task_as_it_is(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        task = await result(peer, "task_create", "1", {"title": "a"})
        await result(peer, "task_update", "2", {"task_id": task["id"], "version": 1, "title": "b"})
        await peer.send("task_update", "3", {"task_id": task["id"], "version": 1, "title": "c"})
        while (message := await peer.receive()).get("re") != "3":
            pass
        assert message["type"] == "error"
        assert message["data"]["code"] == "conflict"
        assert message["data"]["current"]["title"] == "b"


async def test_an_analysis_answers_the_command_that_asked_for_it(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        task = await result(peer, "task_create", "1", {"title": "Paint the door", "analyze_with_ai": True})
        assert task["ai_analysis_status"] == "done"
        assert "Paint the door" in task["ai_analysis"]
        assert 0 < task["ai_analysis_confidence"] <= 1


async def logged(server: RunningServer, client_id: str) -> list[Any]:
    """The events of a client's log, oldest first."""
    storage = Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))
    wanted = LogPageQuery(client_id=client_id, after_seq=0, maximum_events=1000, maximum_bytes=10**7)
    page = await storage.read(LOG_PAGE, wanted)
    return list(page.events)


async def test_a_finished_analysis_is_in_the_log_of_the_client_as_an_ai_response(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        task = await result(peer, "task_create", "1", {"title": "Paint", "analyze_with_ai": True})
    events = [one for one in await logged(server, "tester") if one.type != "notification"]
    assert [one.type for one in events] == ["task_created", "ai_response", "task_updated"]
    assert [one.channel for one in events] == ["tasks", "ai", "tasks"]
    told = json.loads(events[1].data)
    assert told["analysis"] == task["ai_analysis"]
    assert told["command"] == "task_create"
    assert told["task_id"] == task["id"]
    assert json.loads(events[2].data)["task"] == task


async def test_every_device_hears_of_every_change_and_of_the_analysis(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with (
        server.peer(client_id="me") as desk,
        server.peer(client_id="me") as phone,
        server.peer(client_id="stranger") as stranger,
    ):
        task = await result(desk, "task_create", "1", {"title": "Paint", "analyze_with_ai": True})
        moved = await result(desk, "task_move", "2", {"task_id": task["id"], "version": 1, "status": "in_progress"})
        everything = [await phone.receive()]
        while everything[-1]["type"] != "task_moved":
            everything.append(await phone.receive())
        assert [one["seq"] for one in everything] == list(range(1, len(everything) + 1))
        assert {one["stream"] for one in everything} == {"client"}
        heard = [one for one in everything if one["type"] != "notification"]
        assert [one["type"] for one in heard] == ["task_created", "ai_response", "task_updated", "task_moved"]
        assert heard[1]["data"]["analysis"] == task["ai_analysis"]
        assert heard[1]["data"]["channel"] == "ai"
        assert heard[2]["data"]["task"] == task
        assert heard[3]["data"]["task"] == moved
        # Nobody else hears of it: the next thing that a stranger is told answers its own command.
        assert (await stranger.ask("task_board", "1", {}))["data"]["count"] == 0
