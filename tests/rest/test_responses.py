"""OpenAI's Responses API over the wire: shapes, events, storage, chains, cancel, deletion and refusals."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
import trio

from actors.rest.responses import routes, sources
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

LOOK = {
    "type": "function",
    "name": "look",
    "description": "Look out of the window",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'
ENDLESS = "count to 3000"


async def ask(server: RunningServer, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    async with server.http() as http:
        return await http.post("/v1/responses", json={"model": "mock", **fields}, headers=headers)


async def get(
    server: RunningServer, path: str, *, headers: dict[str, str] | None = None, **query: Any
) -> httpx.Response:
    async with server.http() as http:
        return await http.get(f"/v1/responses/{path}", params=query, headers=headers)


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of each event, whose name is its type's; comments are left out."""
    events = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for one in response["output"] if one["type"] == "message" for part in one["content"])


async def until_ended(server: RunningServer, response_id: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        response: dict[str, Any] = (await get(server, response_id)).json()
        return response if response["status"] not in ("queued", "in_progress") else None

    found: dict[str, Any] = await eventually(ended, what="the response's end")
    return found


async def test_a_whole_answer_has_openais_shape(server: RunningServer) -> None:
    response = await ask(server, input="count to 5", metadata={"a": "b"}, user="u", reasoning={"effort": "low"})
    assert response.status_code == 200
    assert "leanvibe-ignored" not in response.headers
    answer = response.json()
    assert answer["id"].startswith("resp_")
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", "mock")
    (message,) = answer["output"]
    assert message["content"] == [{"type": "output_text", "text": count_to(5), "annotations": [], "logprobs": []}]
    assert (message["role"], message["status"]) == ("assistant", "completed")
    assert answer["usage"] == {
        "input_tokens": len("count to 5"),
        "input_tokens_details": {"cached_tokens": answer["usage"]["input_tokens_details"]["cached_tokens"]},
        "output_tokens": len(count_to(5)),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": len("count to 5") + len(count_to(5)),
    }
    assert (answer["store"], answer["background"], answer["metadata"]) == (True, False, {"a": "b"})
    assert (answer["error"], answer["incomplete_details"], answer["truncation"]) == (None, None, "disabled")
    assert (await get(server, answer["id"])).json() == answer


async def test_rs1_a_stream_has_the_events_of_openais_reference_in_their_order(server: RunningServer) -> None:
    response = await ask(server, input="count to 5", stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(response.text)
    kinds = [one["type"] for one in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert "".join(one.get("delta", "") for one in events) == count_to(5)
    assert events[-4]["text"] == count_to(5)
    final = events[-1]["response"]
    assert final == (await get(server, final["id"])).json()


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_forced_call_is_an_item_of_its_own(server: RunningServer, is_stored: bool) -> None:
    fields = {"input": "look", "tools": [LOOK], "tool_choice": {"type": "function", "name": "look"}, "store": is_stored}
    events = events_of((await ask(server, stream=True, **fields)).text)
    kinds = [one["type"] for one in events]
    assert kinds[2] == "response.output_item.added"
    assert set(kinds[3:-3]) == {"response.function_call_arguments.delta"}
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    arguments = "".join(one.get("delta", "") for one in events)
    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "look", arguments)
    assert isinstance(json.loads(arguments)["city"], str)
    assert [one["sequence_number"] for one in events] == list(range(len(events)))


async def test_a_call_and_its_result_are_gone_on_from(server: RunningServer) -> None:
    first = (await ask(server, input=CALL, tools=[LOOK])).json()
    said, call = first["output"]
    assert said["content"][0]["text"] == "You said:"
    assert json.loads(call["arguments"]) == {"city": "Bonn"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    second = await ask(server, input=[result], tools=[LOOK], previous_response_id=first["id"])
    assert second.status_code == 200, second.text
    assert second.json()["previous_response_id"] == first["id"]
    # The same conversation, sent whole and by reference, is the same prompt.
    whole = [{"role": "user", "content": CALL}, said, call, result]
    named = [{"role": "user", "content": CALL}, said, {"type": "item_reference", "id": call["id"]}, result]
    sizes = {(await ask(server, input=one, tools=[LOOK])).json()["usage"]["input_tokens"] for one in (whole, named)} | {
        second.json()["usage"]["input_tokens"]
    }
    assert len(sizes) == 1
    gone = await ask(server, input=[{"type": "item_reference", "id": call["id"].replace("fc_", "fc_0")}])
    assert (gone.status_code, gone.json()["error"]["param"]) == (404, "input[0].id")


async def test_rs2_a_stream_is_read_on_from_any_number_while_it_runs_and_after(tmp_path: Any) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server, server.http() as http:
        started = (await ask(server, input="count to 200", background=True)).json()
        assert started["status"] == "queued"
        name = started["id"]
        whole = events_of((await get(server, name, stream=True)).text)
        assert [one["sequence_number"] for one in whole] == list(range(len(whole)))
        assert [one["type"] for one in whole[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        assert text_of(whole[-1]["response"]) == count_to(200)
        for after in (0, 1, 2, 3, 4, 5, 77, len(whole) - 2, len(whole) - 1):
            response = await http.get(f"/v1/responses/{name}", params={"stream": "true", "starting_after": after})
            assert events_of(response.text) == whole[after + 1 :]


async def test_rs3_a_response_that_is_not_stored_ends_with_its_connection(tmp_path: Any) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server:
        body = json.dumps({"model": "mock", "input": ENDLESS, "store": False, "stream": True}).encode()
        url = httpx.URL(server.about.rest_url)
        async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
            head = f"POST /v1/responses HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all(head.encode() + body)
            received = b""
            while b"output_text.delta" not in received:
                received += await stream.receive_some(65536)
        name = "resp_" + received.partition(b'"id":"resp_')[2][:48].decode()
        await server.until_no_row_is_taken()
        assert (await get(server, name)).status_code == 404
        assert (await server.snapshot("responses"))["running"] == 0


async def test_rs4_a_cancelled_response_keeps_what_it_has(tmp_path: Any) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        name = (await ask(server, input=ENDLESS, background=True)).json()["id"]

        async def has_text() -> bool:
            return (await server.snapshot("inference/inference"))["running"] == 1

        await eventually(has_text)
        cancelled = (await http.post(f"/v1/responses/{name}/cancel")).json()
        assert cancelled["status"] == "cancelled"
        await server.until_no_row_is_taken()
        assert (await http.post(f"/v1/responses/{name}/cancel")).json() == cancelled
        events = events_of((await get(server, name, stream=True)).text)
        assert events[-1]["type"] == "response.incomplete"
        assert events[-1]["response"] == cancelled


async def test_rs5_a_deleted_response_is_gone_and_ends(tmp_path: Any) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        name = (await ask(server, input=ENDLESS, background=True)).json()["id"]
        gone = await http.delete(f"/v1/responses/{name}")
        assert gone.json() == {"id": name, "object": "response", "deleted": True}
        await server.until_no_row_is_taken()
        assert (await get(server, name)).status_code == 404
        assert (await http.delete(f"/v1/responses/{name}")).status_code == 404
        after = await ask(server, input="hi", previous_response_id=name)
        assert (after.status_code, after.json()["error"]["code"]) == (404, "previous_response_not_found")


async def test_input_items_come_in_pages(server: RunningServer) -> None:
    items = [{"role": "user", "content": str(one)} for one in range(5)]
    name = (await ask(server, input=items)).json()["id"]
    page = (await get(server, f"{name}/input_items", limit=2)).json()
    assert [one["content"][0]["text"] for one in page["data"]] == ["4", "3"]
    assert (page["has_more"], page["last_id"]) == (True, page["data"][-1]["id"])
    rest = (await get(server, f"{name}/input_items", limit=100, after=page["last_id"])).json()
    assert [one["content"][0]["text"] for one in rest["data"]] == ["2", "1", "0"]
    assert not rest["has_more"]
    first = (await get(server, f"{name}/input_items", order="asc", limit=1)).json()
    assert first["data"][0]["content"] == [{"type": "input_text", "text": "0"}]
    wrong = await get(server, f"{name}/input_items", after="nobody")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_rs6_another_clients_response_is_not_there(server: RunningServer) -> None:
    mine, other = {"X-Client-Id": "me"}, {"X-Client-Id": "other"}
    name = (await ask(server, input="count to 3", headers=mine)).json()["id"]
    never = f"resp_{'0' * 48}"
    async with server.http(headers=other) as http:
        for method, path in (
            ("GET", "{}"),
            ("GET", "{}?stream=true&starting_after=2"),
            ("GET", "{}/input_items"),
            ("POST", "{}/cancel"),
            ("DELETE", "{}"),
        ):
            told = [await http.request(method, f"/v1/responses/{path.format(one)}") for one in (name, never)]
            assert [one.status_code for one in told] == [404, 404]
            assert told[0].text.replace(name, never) == told[1].text
            assert told[0].json()["error"]["param"] == "id"
        told = [
            await http.post("/v1/responses", json={"model": "mock", "input": "x", "previous_response_id": one})
            for one in (name, never)
        ]
        assert told[0].text.replace(name, never) == told[1].text
        assert told[0].status_code == 404
        assert told[0].json()["error"]["param"] == "previous_response_id"
    assert (await get(server, name, headers=mine)).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"input": "x", "model": "nobody"}, "model", 404),
        ({}, "input", 400),
        ({"input": 3}, "input", 400),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id", 404),
        ({"input": "x", "tools": [{"type": "function", "name": "f"}]}, "tools[0].parameters", 400),
        ({"input": "x", "tools": [{"type": "function", "parameters": {}}]}, "tools[0].name", 400),
        (
            {"input": "x", "tools": [{"type": "web_search"}, {"type": "function", "name": "a b", "parameters": {}}]},
            "tools[1].name",
            400,
        ),
        ({"input": "x", "tools": [LOOK], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name", 400),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", 400),
        ({"input": [{"type": "input_image"}]}, "input[0].type", 400),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role", 400),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id", 400),
        ({"input": "x" * 50_000}, "input", 400),
        ({"input": "x", "temperature": 3}, "temperature", 400),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens", 400),
        ({"input": "x", "background": True, "store": False}, "background", 400),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", 400),
        ({"input": "x", "text": {"format": {"type": "yaml"}}}, "text.format.type", 400),
        ({"input": "x", "metadata": {"a": 1}}, "metadata.a", 400),
        ({"input": "x", "n": 2}, "n", 400),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt", 400),
    ],
)
async def test_rs7_what_is_wrong_is_named_and_nothing_is_stored(
    server: RunningServer, fields: dict[str, Any], param: str, status: int
) -> None:
    response = await ask(server, **fields)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["param"] == param, error
    assert error["code"]
    assert error["message"]
    assert (await server.snapshot("responses"))["running"] == 0


async def test_a_body_over_the_bound_is_refused_in_openais_shape(server: RunningServer) -> None:
    response = await ask(server, input="x" * 2_000_000)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


async def test_a_number_beyond_the_end_is_refused(server: RunningServer) -> None:
    name = (await ask(server, input="hi")).json()["id"]
    last = events_of((await get(server, name, stream=True)).text)[-1]["sequence_number"]
    beyond = await get(server, name, stream=True, starting_after=last + 1)
    assert (beyond.status_code, beyond.json()["error"]["param"]) == (400, "starting_after")
    for wrong in (
        {"starting_after": 1},
        {"stream": True, "starting_after": -1},
        {"stream": True, "starting_after": "x"},
    ):
        response = await get(server, name, **wrong)
        assert response.status_code == 400
        assert response.json()["error"]["param"].removeprefix("query.") == "starting_after"


async def test_rs8_tools_that_are_not_served_are_left_out_and_named(server: RunningServer) -> None:
    tools = [
        {"type": "web_search"},
        {"type": "namespace", "name": "n", "tools": []},
        {"type": "custom", "name": "c"},
        LOOK,
    ]
    response = await ask(
        server,
        input=[{"type": "reasoning", "summary": []}, {"type": "web_search_call"}, {"role": "user", "content": "hi"}],
        tools=tools,
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "auto"},
        nobody=1,
        store=False,
    )
    assert response.status_code == 200, response.text
    named = set(response.headers["leanvibe-ignored"].split(", "))
    assert named == {
        "nobody", "input[].web_search_call", "tools[].web_search", "tools[].namespace", "tools[].custom",
        "include[]/reasoning.encrypted_content", "reasoning.summary",
    }  # fmt: skip
    assert response.json()["tools"] == [LOOK]


@pytest.mark.parametrize("given", ["", [], [{"role": "user", "content": ""}]])
async def test_a_probe_with_an_empty_input_is_answered(server: RunningServer, given: Any) -> None:
    response = await ask(server, input=given, max_output_tokens=1)
    assert response.status_code == 200, response.text
    assert response.json()["status"] in ("completed", "incomplete")


async def test_an_answer_that_is_cut_is_incomplete(server: RunningServer) -> None:
    answer = (await ask(server, input="count to 50", max_output_tokens=5)).json()
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert text_of(answer) == count_to(50)[:5]
    assert answer["output"][0]["status"] == "incomplete"


async def test_what_fits_is_not_truncated(server: RunningServer) -> None:
    answer = (await ask(server, input="count to 4", truncation="auto")).json()
    assert (text_of(answer), answer["dropped_input_items"]) == (count_to(4), 0)
    refused = await ask(server, input="x" * 50_000, truncation="auto")
    assert refused.json()["error"]["code"] == "context_length_exceeded"


async def test_log_probabilities_come_with_the_text_that_they_made(server: RunningServer) -> None:
    include = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = (await ask(server, input="count to 9", **include)).json()
    (part,) = answer["output"][0]["content"]
    assert "".join(one["token"] for one in part["logprobs"]) == part["text"] == count_to(9)
    events = events_of((await get(server, answer["id"], stream=True)).text)
    deltas = [one for one in events if one["type"] == "response.output_text.delta"]
    assert all("".join(token["token"] for token in one["logprobs"]) == one["delta"] for one in deltas)


async def test_a_schema_is_followed(server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    answer = (await ask(server, input="hi", text={"format": form})).json()
    assert isinstance(json.loads(text_of(answer))["a"], int)
    assert answer["text"]["format"] == form


async def test_rs10_the_end_is_told_as_a_notification_where_that_was_asked(server: RunningServer) -> None:
    async with server.http() as http:
        for notify in ("true", "false"):
            asked = await ask(
                server,
                input=f"notify {notify}",
                background=True,
                metadata={"notify": notify},
                headers={"X-Client-Id": "me"},
            )
            headers = {"X-Client-Id": "me"}

            async def ended(name: str = asked.json()["id"], headers: dict[str, str] = headers) -> bool:
                return bool((await get(server, name, headers=headers)).json()["status"] == "completed")

            await eventually(ended)
        told = (await http.get("/notifications/me")).json()["notifications"]
    assert [(one["kind"], one["title"]) for one in told] == [("response_done", "Answer done: notify true")]


async def test_silence_is_broken_by_comments(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "SIGN_OF_LIFE_SECONDS", 0.05)
    monkeypatch.setattr(sources, "FOLLOW_SECONDS", 0.02)
    async with running_server(tmp_path, mock_step_seconds=0.6) as server:
        text = (await ask(server, input="hi", max_output_tokens=2, stream=True)).text
    assert any(block.startswith(": ") for block in text.split("\n\n"))


async def test_the_stock_client_reads_all_of_it(server: RunningServer) -> None:
    def use() -> None:
        with openai.OpenAI(base_url=f"{server.about.rest_url}/v1", api_key="unused") as client:
            made = client.responses.create(model="mock", input="count to 5", background=True)
            with client.responses.retrieve(made.id, stream=True) as stream:
                events = list(stream)
            with client.responses.retrieve(made.id, stream=True, starting_after=events[4].sequence_number) as stream:
                assert list(stream) == events[5:]
            found = client.responses.retrieve(made.id)
            assert found.output_text == count_to(5)
            assert [one.type for one in client.responses.input_items.list(made.id)] == ["message"]
            assert client.responses.cancel(made.id).status == "completed"
            client.responses.delete(made.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(made.id)

    await trio.to_thread.run_sync(use)
