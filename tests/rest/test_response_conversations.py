"""OpenAI's conversations over the wire: shapes, pages, what responses add to them, refusals, and the stock client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trio
from sqlalchemy import func, select

from actors.assistant import conversation_rules, turn_rows
from actors.assistant.tables import conversations, turns
from actors.responses.tables import responses
from actors.rest.responses import requests
from actors.storage.database import database_url, open_engine
from tests.rest.test_responses import CALL, ENDLESS, LOOK, ask, text_of, until_ended
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

NEVER = f"conv_{'0' * 48}"
HI = {"type": "message", "role": "user", "content": "hi"}


async def call(
    server: RunningServer, method: str, path: str = "", *, headers: dict[str, str] | None = None, **request: Any
) -> httpx.Response:
    async with server.http() as http:
        return await http.request(method, f"/v1/conversations{path}", headers=headers, **request)


async def begin(server: RunningServer, *items: dict[str, Any], **headers: str) -> str:
    made = await call(server, "POST", json={"items": list(items)}, headers=headers)
    assert made.status_code == 200, made.text
    name: str = made.json()["id"]
    return name


async def items_of(server: RunningServer, name: str) -> list[dict[str, Any]]:
    page = (await call(server, "GET", f"/{name}/items", params={"order": "asc", "limit": 100})).json()
    assert not page["has_more"]
    items: list[dict[str, Any]] = page["data"]
    return items


def texts(items: list[dict[str, Any]]) -> list[str]:
    return ["".join(part["text"] for part in one["content"]) for one in items if one["type"] == "message"]


def stored(server: RunningServer) -> tuple[int, ...]:
    """Rows of conversations but for marks of deleted ones, of items, and of responses."""
    engine = open_engine(database_url(None, server.settings.data_dir), writes=False)
    kept = select(conversations.c.name).where(conversations.c.deleted_ms.is_(None)).subquery()
    with engine.connect() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (kept, turns, responses)
        ]
    engine.dispose()
    return tuple(counts)


async def test_cv1_a_conversation_has_openais_shapes(server: RunningServer) -> None:
    made = (await call(server, "POST", json={"metadata": {"topic": "a"}, "items": [HI]})).json()
    assert made == {
        "id": made["id"],
        "object": "conversation",
        "created_at": made["created_at"],
        "metadata": {"topic": "a"},
    }
    name = made["id"]
    assert name.startswith("conv_")
    assert (await call(server, "GET", f"/{name}")).json() == made
    changed = (await call(server, "POST", f"/{name}", json={"metadata": {"topic": "b"}})).json()
    assert changed == {**made, "metadata": {"topic": "b"}}
    assert (await call(server, "GET", f"/{name}")).json() == changed
    added = (await call(server, "POST", f"/{name}/items", json={"items": [{**HI, "content": "there"}]})).json()
    (item,) = added["data"]
    assert (added["object"], added["first_id"], added["has_more"]) == ("list", item["id"], False)
    assert item == {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "there"}],
        "id": item["id"],
        "status": "completed",
    }
    assert (await call(server, "GET", f"/{name}/items/{item['id']}")).json() == item
    assert (await call(server, "DELETE", f"/{name}/items/{item['id']}")).json() == changed
    assert texts(await items_of(server, name)) == ["hi"]
    gone = (await call(server, "DELETE", f"/{name}")).json()
    assert gone == {"id": name, "object": "conversation.deleted", "deleted": True}
    assert (await call(server, "GET", f"/{name}")).status_code == 404
    assert stored(server) == (0, 0, 0)


async def test_items_come_in_pages_from_either_end(server: RunningServer) -> None:
    name = await begin(server, *({**HI, "content": str(one)} for one in range(5)))
    page = (await call(server, "GET", f"/{name}/items", params={"limit": 2})).json()
    assert (texts(page["data"]), page["has_more"]) == (["4", "3"], True)
    rest = (await call(server, "GET", f"/{name}/items", params={"limit": 3, "after": page["last_id"]})).json()
    assert (texts(rest["data"]), rest["has_more"]) == (["2", "1", "0"], False)
    first = (await call(server, "GET", f"/{name}/items", params={"order": "asc", "limit": 1})).json()
    second = await call(server, "GET", f"/{name}/items", params={"order": "asc", "after": first["last_id"]})
    assert texts(second.json()["data"]) == ["1", "2", "3", "4"]
    for query, param in (({"after": "nobody"}, "after"), ({"limit": 0}, "limit"), ({"order": "x"}, "order")):
        wrong = await call(server, "GET", f"/{name}/items", params=query)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, f"{param}"), wrong.text


async def test_cv2_input_and_output_are_added_once_with_the_responses_end(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mock engine reads the last message alone, so what the engine is asked is looked at.
    chats: list[list[dict[str, Any]]] = []
    make = requests.chat_of

    def noted(*given: Any, **named: Any) -> Any:
        chat = make(*given, **named)
        chats.append([dict(one) for one in chat.messages])
        return chat

    monkeypatch.setattr(requests, "chat_of", noted)
    name = await begin(server)
    first = (await ask(server, input=CALL, tools=[LOOK], conversation=name)).json()
    assert first["conversation"] == {"id": name}
    said, called = first["output"]
    result = {"type": "function_call_output", "call_id": called["call_id"], "output": "rain"}
    second = await ask(server, input=[result], tools=[LOOK], conversation={"id": name})
    assert second.status_code == 200, second.text
    items = await items_of(server, name)
    assert items[1:3] == [said, called]
    assert [one["type"] for one in items[:4]] == ["message", "message", "function_call", "function_call_output"]
    assert items[4:] == second.json()["output"]
    assert len({one["id"] for one in items}) == len(items)
    # The same history sent whole is the same chat.
    whole = [{"role": "user", "content": CALL}, said, called, result]
    await ask(server, input=whole, tools=[LOOK])
    assert len(chats[-1]) == 3
    assert chats[-1] == chats[-2]
    # What is deleted is not read any more.
    for one in items[1:]:
        assert (await call(server, "DELETE", f"/{name}/items/{one['id']}")).status_code == 200
    await ask(server, input="x", conversation=name)
    assert [(one["role"], one["content"]) for one in chats[-1]] == [("user", CALL), ("user", "x")]


async def test_an_item_sent_again_is_one_more_item(server: RunningServer) -> None:
    name = await begin(server, {**HI, "id": "mine"})
    (again,) = (await call(server, "POST", f"/{name}/items", json={"items": [{**HI, "id": "mine"}]})).json()["data"]
    assert again["id"] != "mine"
    assert [one["id"] for one in await items_of(server, name)] == ["mine", again["id"]]


async def test_cv3_what_fails_or_is_cancelled_leaves_its_conversation_as_it_was(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        name = await begin(server, HI)
        running = (await ask(server, input=ENDLESS, conversation=name, background=True)).json()["id"]
        for refused in (
            await ask(server, input="x", conversation=name),
            await call(server, "POST", f"/{name}/items", json={"items": [HI]}),
            await call(server, "DELETE", f"/{name}/items/x"),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conversation_locked"), refused.text
        assert (await http.post(f"/v1/responses/{running}/cancel")).json()["status"] == "cancelled"
        assert texts(await items_of(server, name)) == ["hi"]
        cut = (await ask(server, input="count to 50", max_output_tokens=5, conversation=name)).json()
        assert cut["status"] == "incomplete"
        assert texts(await items_of(server, name)) == ["hi", "count to 50", count_to(50)[:5]]


async def test_a_conversation_deleted_meanwhile_gets_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server:
        name = await begin(server, HI)
        running = (await ask(server, input="count to 60", conversation=name, background=True)).json()["id"]
        assert (await call(server, "DELETE", f"/{name}")).status_code == 200
        assert text_of(await until_ended(server, running)) == count_to(60)
        assert stored(server) == (0, 0, 1)


async def test_cv4_another_clients_conversation_is_not_there(server: RunningServer) -> None:
    mine, other = {"X-Client-Id": "me"}, {"X-Client-Id": "other"}
    name = await begin(server, {**HI, "id": "mine"}, **mine)
    for method, path, body in (
        ("GET", "/{}", None),
        ("POST", "/{}", {"metadata": {"a": "b"}}),
        ("DELETE", "/{}", None),
        ("GET", "/{}/items", None),
        ("GET", "/{}/items?after=mine", None),
        ("POST", "/{}/items", {"items": [HI]}),
        ("GET", "/{}/items/mine", None),
        ("DELETE", "/{}/items/mine", None),
    ):
        told = [await call(server, method, path.format(one), headers=other, json=body) for one in (name, NEVER)]
        assert [one.status_code for one in told] == [404, 404]
        assert told[0].text.replace(name, NEVER) == told[1].text
        assert told[0].json()["error"]["param"] == "id"
    told = [await ask(server, input="x", conversation=one, headers=other) for one in (name, NEVER)]
    assert [one.status_code for one in told] == [404, 404]
    assert told[0].text.replace(name, NEVER) == told[1].text
    assert told[0].json()["error"]["param"] == "conversation"
    assert stored(server) == (1, 1, 0)
    assert (await call(server, "GET", f"/{name}/items/mine", headers=mine)).json()["id"] == "mine"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {str(one): "" for one in range(17)}}, "metadata"),
    ({"metadata": {"a" * 65: "b"}}, f"metadata.{'a' * 64}"),
    ({"metadata": {"a": "b" * 513}}, "metadata.a"),
    ({"metadata": []}, "metadata"),
    ({"items": [HI] * 21}, "items"),
    ({"items": "hi"}, "items"),
    ({"items": [HI, {"type": "input_image"}]}, "items[1].type"),
    ({"items": [HI, {"role": "user", "content": [{"type": "input_image"}]}]}, "items[1].content[0].type"),
    ({"items": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "items[0].arguments"),
    ({"items": [{"type": "item_reference", "id": "x"}]}, "items"),
]


async def test_cv5_what_is_wrong_is_named_and_nothing_is_stored(server: RunningServer) -> None:
    name = await begin(server)
    for body, param in WRONG:
        path = f"/{name}" if "metadata" in body else f"/{name}/items"
        for answer in (await call(server, "POST", json=body), await call(server, "POST", path, json=body)):
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
        assert stored(server) == (1, 0, 0), body
    assert (await call(server, "GET", f"/{name}")).json()["metadata"] == {}


async def test_a_response_that_is_refused_adds_nothing(server: RunningServer) -> None:
    name = await begin(server, HI)
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"conversation": 3}, "conversation", 400),
        ({"conversation": {}}, "conversation.id", 400),
        ({"conversation": "x"}, "conversation", 404),
        ({"conversation": NEVER}, "conversation", 404),
        ({"conversation": name, "previous_response_id": f"resp_{'0' * 48}"}, "conversation", 400),
        ({"conversation": name, "store": False}, "conversation", 400),
        ({"conversation": name, "temperature": 3}, "temperature", 400),
    ]
    for fields, param, status in cases:
        refused = await ask(server, input="x", **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
        assert stored(server) == (1, 1, 0), fields


async def test_a_response_of_a_conversation_is_gone_on_from_there(server: RunningServer) -> None:
    name = await begin(server, HI)
    made = (await ask(server, input="x", conversation=name)).json()["id"]
    refused = await ask(server, input="y", previous_response_id=made)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")
    assert name in refused.json()["error"]["message"]


async def test_cv6_the_same_key_creates_once(server: RunningServer) -> None:
    headers = {"Idempotency-Key": "one"}
    made = [(await call(server, "POST", json={"items": [HI]}, headers=headers)).json() for _ in range(2)]
    assert made[0] == made[1]
    headers = {"Idempotency-Key": "two"}
    path = f"/{made[0]['id']}/items"
    added = [(await call(server, "POST", path, json={"items": [HI]}, headers=headers)).json() for _ in range(2)]
    assert added[0] == added[1]
    assert stored(server) == (1, 2, 0)


async def test_rs16_the_same_key_is_one_response(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server:
        name = await begin(server)
        headers = {"Idempotency-Key": "one"}
        asked: dict[str, Any] = {"input": "count to 40", "conversation": name, "headers": headers}
        told: list[dict[str, Any]] = []

        async def send() -> None:
            told.append((await ask(server, **asked)).json())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
        told.append((await ask(server, **asked)).json())
        assert all(one == told[0] for one in told)
        assert text_of(told[0]) == count_to(40)
        assert texts(await items_of(server, name)) == ["count to 40", count_to(40)]
        await server.until_no_row_is_taken()
        assert stored(server) == (1, 2, 1)
        streamed = await ask(server, **{**asked, "stream": True})
        assert (streamed.status_code, streamed.json()["error"]["param"]) == (409, "id")
        unstored = await ask(server, input="hi", store=False, headers=headers)
        assert unstored.headers["leanvibe-ignored"] == "Idempotency-Key"


async def test_the_stock_client_keeps_a_conversation(server: RunningServer) -> None:
    def use() -> None:
        with openai.OpenAI(base_url=f"{server.about.rest_url}/v1", api_key="unused") as client:
            made = client.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "hi"}])
            assert client.conversations.retrieve(made.id) == made
            assert client.conversations.update(made.id, metadata={"a": "c"}).metadata == {"a": "c"}
            answer = client.responses.create(model="mock", input="count to 5", conversation=made.id)
            assert answer.output_text == count_to(5)
            assert answer.conversation is not None
            assert answer.conversation.id == made.id
            listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
            assert [one.type for one in listed] == ["message"] * 3
            added = client.conversations.items.create(
                made.id, items=[{"type": "message", "role": "user", "content": "more"}]
            )
            (last,) = added.data
            assert last.id is not None
            assert client.conversations.items.retrieve(last.id, conversation_id=made.id) == last
            client.conversations.items.delete(last.id, conversation_id=made.id)
            assert client.conversations.delete(made.id).deleted
            with pytest.raises(openai.NotFoundError):
                client.conversations.retrieve(made.id)

    await trio.to_thread.run_sync(use)


async def test_the_bounds_are_told(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await begin(server, HI)
    monkeypatch.setattr(turn_rows, "MAXIMUM_CONVERSATIONS", 1)
    monkeypatch.setattr(conversation_rules, "MAXIMUM_ITEMS", 2)
    assert (await call(server, "POST", json={})).status_code == 409
    refused = await call(server, "POST", f"/{name}/items", json={"items": [HI, HI]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    answer = await ask(server, input=[HI, HI], conversation=name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert stored(server) == (1, 1, 0)
    # What has begun is added whatever it takes.
    assert (await ask(server, input="x", conversation=name)).status_code == 200
    await eventually(lambda: trio.to_thread.run_sync(lambda: stored(server) == (1, 3, 1)))
