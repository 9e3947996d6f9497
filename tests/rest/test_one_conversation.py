"""Conversations of `chat` and of OpenAI's API are the same: read, continued and deleted through either API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.rest.responses import requests
from tests.assistant.kit import ask as command
from tests.assistant.kit import told
from tests.rest.test_response_conversations import HI, begin, call, items_of, texts
from tests.rest.test_responses import CALL, ENDLESS, LOOK, ask, until_ended
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

ME = {"X-Client-Id": "tester"}


async def say(peer: Peer, name: str, text: str, command_id: str, **fields: Any) -> list[dict[str, Any]]:
    data = {"messages": [{"role": "user", "content": text}], "conversation": name, **fields}
    accepted = await command(peer, "generate", command_id, data)
    assert accepted["type"] == "accepted", accepted
    return await peer.stream(command_id)


async def turns(peer: Peer, name: str, command_id: str = "get", **fields: Any) -> dict[str, Any]:
    answer = await command(peer, "conversation_get", command_id, {"conversation": name, **fields})
    assert answer["type"] == "result", answer
    found: dict[str, Any] = answer["data"]
    return found


def said(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["role"], one["content"]) for one in page["turns"]]


async def items(server: RunningServer, name: str) -> list[dict[str, Any]]:
    answer = await call(server, "GET", f"/{name}/items", params={"order": "asc", "limit": 100}, headers=ME)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_cv8_an_answer_to_a_program_shows_up_on_every_device(server: RunningServer) -> None:
    async with server.peer() as peer, server.http() as http:
        name = await begin(server, **ME)
        answer = (await ask(server, input="count to 3", conversation=name, headers=ME)).json()
        events = [await peer.receive() for _ in range(2)]
        assert [(one["type"], one["data"].get("change")) for one in events] == [
            ("conversation_changed", "begun"),
            ("ai_response", None),
        ]
        response = events[1]["data"]
        assert (response["command"], response["id"]) == ("response", answer["id"])
        assert (response["conversation"], response["analysis"]) == (name, count_to(3))
        assert said(await turns(peer, name)) == [("user", "count to 3"), ("assistant", count_to(3))]
        (listed,) = (await http.get("/conversations/tester", headers=ME)).json()["conversations"]
        assert (listed["conversation"], listed["turns"]) == (name, 2)
        exported = await http.get(f"/conversations/tester/{name}/export", params={"format": "markdown"}, headers=ME)
        assert "> count to 3" in exported.text
        gone = await http.delete(f"/conversations/tester/{name}", headers=ME)
        assert gone.json() == {"conversation": name, "turns": 2}
        assert (await call(server, "GET", f"/{name}", headers=ME)).status_code == 404
        changed = await peer.receive()
        assert (changed["type"], changed["data"]["change"]) == ("conversation_changed", "deleted")


async def test_cv9_a_conversation_of_chat_is_read_as_items_and_continued(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mock engine reads the last message alone, so what the engine is asked is looked at.
    chats: list[list[str]] = []
    make = requests.chat_of

    def noted(*given: Any, **named: Any) -> Any:
        chat = make(*given, **named)
        chats.append([one["content"] for one in chat.messages])
        return chat

    monkeypatch.setattr(requests, "chat_of", noted)
    async with server.peer() as peer:
        await say(peer, "talk", "count to 2", "a")
        first, second = await items(server, "talk")
        assert first == {
            "id": first["id"],
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "count to 2"}],
        }
        assert (second["role"], second["content"][0]["text"]) == ("assistant", count_to(2))
        assert (await call(server, "GET", f"/talk/items/{second['id']}", headers=ME)).json() == second
        answer = (await ask(server, input="count to 4", conversation="talk", headers=ME)).json()
        assert answer["conversation"] == {"id": "talk"}
        assert chats[-1] == ["count to 2", count_to(2), "count to 4"]
        await say(peer, "talk", "count to 1", "b")
        expected = ["count to 2", count_to(2), "count to 4", count_to(4), "count to 1", "1"]
        assert [one[1] for one in said(await turns(peer, "talk"))] == expected
        assert texts(await items(server, "talk")) == expected
        removed = await call(server, "DELETE", f"/talk/items/{first['id']}", headers=ME)
        assert removed.status_code == 200, removed.text
        assert [one[1] for one in said(await turns(peer, "talk", "again"))] == expected[1:]


async def test_cv10_calls_and_results_come_back_whole_and_chat_shows_them_as_steps(server: RunningServer) -> None:
    name = await begin(server, {**HI, "role": "developer", "content": "Be brief"}, **ME)
    made = (await ask(server, input=CALL, tools=[LOOK], conversation=name, headers=ME)).json()
    message, called = made["output"]
    result = {"type": "function_call_output", "call_id": called["call_id"], "output": "rain"}
    last = (await ask(server, input=[result], tools=[LOOK], conversation=name, headers=ME)).json()
    kept = await items(server, name)
    assert kept[0]["content"][0]["text"] == "Be brief"
    assert kept[2:4] == [message, called]
    assert {**kept[4], "id": ""} == {**result, "id": ""}
    assert kept[5:] == last["output"]
    async with server.peer() as peer:
        page = await turns(peer, name)
        assert [one["role"] for one in page["turns"]] == ["user", "assistant", "assistant"]
        assert page["turns"][1]["steps"] == ['called look({"city": "Bonn"})', "result: rain"]
        assert page["conversation"]["turns"] == 3


async def test_cv11_one_answer_at_a_time_through_both_apis(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.peer() as peer:
        name = await begin(server, HI, **ME)
        running = (await ask(server, input=ENDLESS, conversation=name, background=True, headers=ME)).json()["id"]
        question = {"messages": [{"role": "user", "content": "x"}], "conversation": name}
        refused = await command(peer, "generate", "a", question)
        assert (refused["data"]["code"], refused["data"]["current"]) == ("conflict", {"command": running})
        assert (await turns(peer, name))["conversation"]["running"] == running
        async with server.http() as http:
            await http.post(f"/v1/responses/{running}/cancel", headers=ME)
        assert "running" not in (await turns(peer, name, "again"))["conversation"]
        await command(peer, "generate", "b", {**question, "messages": [{"role": "user", "content": ENDLESS}]})
        for locked in (
            await ask(server, input="x", conversation=name, headers=ME),
            await call(server, "POST", f"/{name}/items", json={"items": [HI]}, headers=ME),
            await call(server, "DELETE", f"/{name}", headers=ME),
        ):
            assert (locked.status_code, locked.json()["error"]["code"]) == (409, "conversation_locked"), locked.text


async def test_a_response_that_is_deleted_while_it_is_made_opens_its_conversation(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        name = await begin(server, HI)
        running = (await ask(server, input=ENDLESS, conversation=name, background=True)).json()["id"]
        assert (await http.delete(f"/v1/responses/{running}")).status_code == 200
        answer = (await ask(server, input="count to 2", conversation=name)).json()
        assert (await until_ended(server, answer["id"]))["status"] == "completed"
        assert texts(await items_of(server, name)) == ["hi", "count to 2", count_to(2)]


async def test_what_is_added_and_removed_is_told(server: RunningServer) -> None:
    name = await begin(server, **ME)
    (item,) = (await call(server, "POST", f"/{name}/items", json={"items": [HI]}, headers=ME)).json()["data"]
    await call(server, "DELETE", f"/{name}/items/{item['id']}", headers=ME)
    await call(server, "DELETE", f"/{name}", headers=ME)

    async def all_told() -> bool:
        return len(await told(server)) == 4

    await eventually(all_told)
    assert [data["change"] for _, data in await told(server)] == ["begun", "turns", "turns", "deleted"]
