"""Commands and their answers, as an independent client sees them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from wsproto.events import CloseConnection

from actors.inference.text.text_model import MockText
from protocol.commands import MAXIMUM_FRAME_BYTES
from tests.connections.deaf_client import deaf_client
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


def assert_covers(events: list[dict[str, Any]], command_id: str, text: str) -> None:
    """Assert that the stream's events have no gap and spell the text."""
    expected = 0
    for event in events:
        assert event["re"] == command_id
        assert event["stream"] == events[0]["stream"]
        assert event.get("first_seq", event["seq"]) == expected + 1
        expected = event["seq"]
    assert "".join(one["data"]["text"] for one in events if one["type"] == "token") == text


# --- ping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [None, 0, "é\u2028", [1, {"a": None}], {"deep": {"er": [True]}}])
async def test_a_ping_is_answered_with_its_own_data(engineless_server: RunningServer, payload: Any) -> None:
    async with engineless_server.peer() as peer:
        await peer.websocket.send(json.dumps({"type": "ping", "id": "p", "data": payload}))
        pong = await peer.receive()
        assert (pong["type"], pong["re"], pong["data"]) == ("pong", "p", payload)


async def test_a_protocol_level_ping_is_answered_too(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        with trio.fail_after(60):
            waiter = await peer.websocket.ping(b"x")
            await (waiter.wait() if hasattr(waiter, "wait") else waiter.wait_value())


# --- generate -----------------------------------------------------------------------------------------


async def test_a_generation_streams_tokens_and_then_is_done(server: RunningServer) -> None:
    async with server.peer() as peer:
        accepted = await peer.ask("generate", "g", {"prompt": "count to 40"})
        assert (accepted["type"], accepted["re"]) == ("accepted", "g")
        assert set(accepted["data"]) == {"stream", "epoch"}
        events = await peer.stream("g")
        assert_covers(events, "g", count_to(40))
        assert events[0]["stream"] == accepted["data"]["stream"]
        assert {one["type"] for one in events[:-1]} == {"token"}
        assert events[-1]["type"] == "done"
        done = events[-1]["data"]
        length = len(count_to(40))
        assert done["finish_reason"] == "stop"
        assert done["usage"] == {"prompt_tokens": len("count to 40"), "completion_tokens": length, "cached_tokens": 0}
        assert done["timings"]["total_ms"] > 0
        assert done["timings"]["first_token_ms"] <= done["timings"]["total_ms"]
        assert done["confidence"] == 1.0
        assert done["engine_restarts"] == 0
        indices = [one["data"]["index"] for one in events[:-1]]
        assert indices == sorted(set(indices))
        assert indices[-1] == length - 1


async def test_a_chat_is_answered_as_well(server: RunningServer) -> None:
    async with server.peer() as peer:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "héllo"}]
        await peer.send("generate", "g", {"messages": messages})
        assert (await peer.receive())["type"] == "accepted"
        assert_covers(await peer.stream("g"), "g", "You said: héllo")


async def test_an_answer_ends_at_max_tokens(server: RunningServer) -> None:
    async with server.peer() as peer:
        events = await peer.generate("g", "count to 40", max_tokens=5)
        assert_covers(events, "g", "1 2 3")
        assert events[-1]["data"]["finish_reason"] == "length"
        assert events[-1]["data"]["usage"]["completion_tokens"] == 5


async def test_an_answer_ends_before_a_stop_text(server: RunningServer) -> None:
    async with server.peer() as peer:
        events = await peer.generate("g", "count to 40", stop=["7 8", " 9"])
        assert_covers(events, "g", "1 2 3 4 5 6 ")
        assert events[-1]["data"]["finish_reason"] == "stop"
    await server.until_no_row_is_taken()


async def test_a_seed_that_was_given_is_told_back_and_else_one_is_drawn(server: RunningServer) -> None:
    async with server.peer() as peer:
        assert (await peer.generate("1", "x", seed=7))[-1]["data"]["seed"] == 7
        drawn = {(await peer.generate(name, "x"))[-1]["data"]["seed"] for name in "234"}
        assert len(drawn) == 3


async def test_two_clients_do_not_disturb_one_another(tmp_path: Path) -> None:
    answers: dict[str, list[dict[str, Any]]] = {}

    async with running_server(tmp_path, mock_step_seconds=0.0005) as server:

        async def ask(name: str, number: int) -> None:
            async with server.peer(client_id=name) as peer:
                answers[name] = await peer.generate("same-id", f"count to {number}")

        async with trio.open_nursery() as nursery:
            for index, name in enumerate(["a", "b", "c", "c2"]):
                nursery.start_soon(ask, name, 50 + index)
    for index, name in enumerate(["a", "b", "c", "c2"]):
        assert_covers(answers[name], "same-id", count_to(50 + index))


async def test_several_streams_of_one_connection_run_side_by_side(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.0005) as server, server.peer() as peer:
        for name in "abc":
            await peer.send("generate", name, {"prompt": "count to 60"})
        events: list[dict[str, Any]] = []
        while sum(one["type"] == "done" for one in events) < 3:
            events.append(await peer.receive())
        for name in "abc":
            assert_covers([one for one in events if one["re"] == name and "stream" in one], name, count_to(60))
        first_done = next(index for index, one in enumerate(events) if one["type"] == "done")
        assert {one["re"] for one in events[:first_done] if one["type"] == "token"} == {"a", "b", "c"}


# --- cancel -------------------------------------------------------------------------------------------


async def test_p9_cancel_is_answered_and_ends_a_running_stream_with_cancelled(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 900"})
        while (await peer.receive())["type"] != "token":
            pass
        await peer.send("cancel", "c", {"target": "g"})
        messages: list[dict[str, Any]] = []
        while not {"result", "cancelled"} <= {one["type"] for one in messages}:
            messages.append(await peer.receive())
        result = next(one for one in messages if one["type"] == "result")
        assert (result["re"], result["data"]) == ("c", {"cancelled": True})
        last = [one for one in messages if one.get("re") == "g"][-1]
        assert (last["type"], last["data"]) == ("cancelled", {"reason": "cancelled"})
        await server.until_no_row_is_taken()
        again = await peer.ask("cancel", "c2", {"target": "g"})
        assert again["data"] == {"cancelled": False}


async def test_p9_cancel_of_a_finished_or_unknown_command_is_false(server: RunningServer) -> None:
    async with server.peer() as peer:
        await peer.generate("g", "hello")
        for target in ("g", "never"):
            answer = await peer.ask("cancel", f"c-{target}", {"target": target})
            assert (answer["type"], answer["data"]) == ("result", {"cancelled": False})


async def test_a_client_cannot_cancel_anothers_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer() as one, server.peer() as two:
        await one.send("generate", "g", {"prompt": "count to 100"})
        accepted = await one.receive()
        for target in ("g", accepted["data"]["stream"]):
            assert (await two.ask("cancel", f"c-{target}", {"target": target}))["data"] == {"cancelled": False}
        assert (await one.stream("g"))[-1]["type"] == "done"


async def test_p2_the_same_command_again_joins_its_stream_from_the_first_event(server: RunningServer) -> None:
    async with server.peer() as peer, server.peer() as other:
        first = await peer.ask("generate", "g", {"prompt": "one"})
        assert_covers(await peer.stream("g"), "g", "You said: one")
        for again in (peer, other):
            accepted = await again.ask("generate", "g", {"prompt": "one"})
            assert (accepted["type"], accepted["data"]) == ("accepted", first["data"])
            assert_covers(await again.stream("g"), "g", "You said: one")
        assert (await server.snapshot("inference/inference"))["finished"] == {"stop": 1}


async def test_p2_a_stream_that_runs_is_joined_by_the_same_command(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.002) as server,
        server.peer() as peer,
        server.peer() as other,
    ):
        await peer.send("generate", "g", {"prompt": "count to 80"})
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.receive())["type"] == "token"
        assert (await other.ask("generate", "g", {"prompt": "count to 80"}))["type"] == "accepted"
        assert_covers(await other.stream("g"), "g", count_to(80))
        assert (await server.snapshot("inference/inference"))["finished"] == {"stop": 1}


async def test_p2_an_id_with_other_data_is_a_conflict(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 60"})
        messages = [await peer.receive()]
        await peer.send("generate", "g", {"prompt": "count to 61"})
        while messages[-1]["type"] != "done":
            messages.append(await peer.receive())
        errors = [one for one in messages if one["type"] == "error"]
        assert [(one["re"], one["data"]["code"], one["data"]["field"]) for one in errors] == [("g", "conflict", "id")]
        assert_covers([one for one in messages if "stream" in one], "g", count_to(60))


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "field", "words"),
    [
        ({"prompt": "x", "top_k": 258}, "invalid_field", "data.top_k", ["257", "258"]),
        ({"prompt": "x", "max_tokens": -1}, "invalid_field", "data.max_tokens", ["-1"]),
        ({"prompt": "x", "max_tokens": "5"}, "invalid_field", "data.max_tokens", ["a string"]),
        ({"prompt": "x", "logit_bias": {"257": 1}}, "invalid_field", "data.logit_bias.257", ["257"]),
        ({"prompt": "x", "response_schema": {"type": "nonsense"}}, "invalid_field", "data.response_schema", []),
        ({"prompt": "x", "conversation": "c"}, "invalid_field", "data.prompt", ["messages"]),
        ({"prompt": "x", "colour": 1}, "invalid_field", "data.colour", []),
        ({}, "invalid_field", "data.messages", []),
    ],
)
async def test_what_a_generation_may_not_ask_is_refused_and_named(
    server: RunningServer, data: dict[str, Any], code: str, field: str, words: list[str]
) -> None:
    async with server.peer() as peer:
        answer = await peer.ask("generate", "g", data)
        assert (answer["type"], answer["re"]) == ("error", "g")
        assert (answer["data"]["code"], answer["data"]["field"]) == (code, field)
        assert answer["data"]["temporary"] is False
        for word in words:
            assert word in answer["data"]["message"]
        assert_covers(await peer.generate("g", "still here"), "g", "You said: still here")


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(engineless_server: RunningServer) -> None:
    context = MockText().context_tokens
    async with engineless_server.peer() as peer:
        answer = await peer.ask("generate", "g", {"prompt": "a" * (context + 3)})
        assert answer["data"]["code"] == "context_length_exceeded"
        assert answer["data"]["field"] == "data.prompt"
        assert str(context) in answer["data"]["message"]
        assert str(context + 3) in answer["data"]["message"]
        answer = await peer.ask("generate", "h", {"prompt": "abc", "max_tokens": context - 2})
        assert (answer["data"]["code"], answer["data"]["field"]) == ("context_length_exceeded", "data.max_tokens")


async def test_a_prompt_of_nearly_a_mebibyte_is_read_and_refused_by_its_length(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.peer() as peer:
        answer = await peer.ask("generate", "g", {"prompt": "a" * (MAXIMUM_FRAME_BYTES - 100)})
        assert answer["data"]["code"] == "context_length_exceeded"
        assert (await peer.ask("ping", "p", 1))["type"] == "pong"


async def test_a_deadline_that_passes_ends_the_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.peer() as peer:
        events = await peer.generate("g", "count to 900", deadline_ms=1000)
        assert events[-1]["type"] == "failed"
        assert events[-1]["data"]["code"] == "deadline_exceeded"
        assert events[-1]["data"]["temporary"] is True
        await server.until_no_row_is_taken()


# --- what is not of this protocol ---------------------------------------------------------------------


async def test_a_binary_frame_is_not_this_protocol(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        await peer.websocket.send(b'{"type":"ping","id":"1"}')
        assert await peer.close_code() == 4400


async def test_text_that_is_not_utf_8_closes_with_1007(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        await peer.websocket.send(b'"\xff\xfe"', text=True)
        assert await peer.close_code() == 1007


async def test_a_frame_over_a_mebibyte_closes_with_1009(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer, engineless_server.peer() as other:
        await peer.websocket.send('"' + "a" * MAXIMUM_FRAME_BYTES + '"')
        assert await peer.close_code() == 1009
        assert (await other.ask("ping", "p", 1))["type"] == "pong"


async def test_what_a_closed_client_still_sends_does_not_reset_its_connection(
    engineless_server: RunningServer,
) -> None:
    """A reset discards what the client has not read yet, even the close frame (RFC 6455, 7.1.1)."""
    async with deaf_client(engineless_server) as client:
        await client.say("ping", "a" * 3 * MAXIMUM_FRAME_BYTES)
        closed: list[int] = []
        while not closed:
            client.frames.receive_data(await client.stream.receive_some())
            closed = [event.code for event in client.frames.events() if isinstance(event, CloseConnection)]
        assert closed == [1009]
        assert await client.stream.receive_some() == b""
    await eventually(lambda: not engineless_server.connections())


async def test_a_command_over_its_own_limit_is_too_large(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        answer = await peer.ask("ping", "p", "a" * 65_536)
        assert (answer["type"], answer["re"], answer["data"]["code"]) == ("error", "p", "too_large")
        assert (await peer.ask("ping", "p", "a" * 60_000))["type"] == "pong"


@pytest.mark.parametrize(
    ("text", "code", "re", "field"),
    [
        ("nonsense", "bad_message", None, None),
        ("[]", "bad_message", None, None),
        ('{"type":"ping","id":"1","id":"2"}', "bad_message", None, None),
        ('{"type":"ping","id":"1","data":NaN}', "bad_message", "1", "data"),
        ('{"type":"ping","id":"1","data":9007199254740993}', "bad_message", "1", "data"),
        ('{"type":"teleport","id":"1"}', "unknown_type", "1", "type"),
        ('{"type":5,"id":"1"}', "invalid_field", "1", "type"),
        ('{"id":"1"}', "invalid_field", "1", "type"),
        ('{"type":"ping","id":""}', "invalid_field", None, "id"),
        ('{"type":"cancel","id":"1","data":{}}', "invalid_field", "1", "data.target"),
    ],
)
async def test_a_wrong_message_is_an_error_and_the_connection_lives(
    engineless_server: RunningServer, text: str, code: str, re: str | None, field: str | None
) -> None:
    """P1."""
    async with engineless_server.peer() as peer:
        await peer.websocket.send(text)
        answer = await peer.receive()
        assert (answer["type"], answer.get("re")) == ("error", re)
        assert (answer["data"]["code"], answer["data"].get("field")) == (code, field)
        assert answer["data"]["message"]
        assert answer["data"]["temporary"] is False
        assert "seq" not in answer
        assert (await peer.ask("ping", "p", 1))["type"] == "pong"


async def test_ten_wrong_messages_close_the_connection(engineless_server: RunningServer) -> None:
    """P1."""
    async with engineless_server.peer() as peer:
        for number in range(9):
            assert (await peer.ask("teleport", str(number)))["data"]["code"] == "unknown_type"
        assert (await peer.ask("ping", "p", 1))["type"] == "pong"
        assert (await peer.ask("teleport", "9"))["data"]["code"] == "unknown_type"
        assert await peer.close_code() == 4400


async def test_a_burst_of_wrong_messages_still_gets_its_ten_errors_and_the_close_code(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.peer() as peer:
        for _ in range(300):
            with suppress(ConnectionClosed):
                await peer.websocket.send('{"type":"teleport","id":"1"}')
        for _ in range(10):
            assert (await peer.receive())["data"]["code"] == "unknown_type"
        assert await peer.close_code() == 4400


# --- limits -------------------------------------------------------------------------------------------


async def rate_limited(peer: Peer, count: int) -> list[dict[str, Any]]:
    for number in range(count):
        await peer.send("ping", str(number))
    return [await peer.receive() for _ in range(count)]


async def test_commands_over_the_rate_are_refused_with_a_hint(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        answers = await rate_limited(peer, 90)
        refused = [one for one in answers if one["type"] == "error"]
        # 60 at once, including hello, and 20 a second while they are sent.
        assert 10 <= len(refused) <= 31
        for one in refused:
            assert one["data"]["code"] == "rate_limited"
            assert one["data"]["temporary"] is True
            assert 1 <= one["data"]["retry_after_ms"] <= 50
        assert [one["re"] for one in answers] == [str(number) for number in range(90)]


async def test_sixty_refusals_close_the_connection(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer, engineless_server.peer() as other:
        for number in range(300):
            with suppress(ConnectionClosed):
                await peer.send("ping", str(number))
        assert await peer.close_code() == 4429
        assert (await other.ask("ping", "p", 1))["type"] == "pong"


async def test_pongs_do_not_count(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        for _ in range(200):
            await peer.send("pong")
        assert (await peer.ask("ping", "p", 1))["type"] == "pong"


async def test_more_than_32_commands_in_flight_are_refused(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.inference.prompts import PromptEncoder
    from actors.inference.sandbox_messages import EncodedPrompt

    gate = trio.Event()

    async def wait(*_: Any, **__: Any) -> EncodedPrompt:
        await gate.wait()
        return EncodedPrompt([1])

    monkeypatch.setattr(PromptEncoder, "encode", wait)
    async with server.peer() as peer:
        for number in range(33):
            await peer.send("generate", str(number), {"prompt": "x"})
        answer = await peer.receive()
        assert (answer["re"], answer["data"]["code"]) == ("32", "rate_limited")
        assert answer["data"]["retry_after_ms"] >= 1
        gate.set()
        done = 0
        while done < 32:
            done += (await peer.receive())["type"] == "done"


# --- leaving ------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_frees_its_rows(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002, max_rows=1) as server, server.peer() as other:
        async with server.peer() as peer:
            for name in "abc":
                await peer.send("generate", name, {"prompt": "count to 900"})

            async def all_there() -> bool:
                snapshot = await server.snapshot("inference/inference")
                return (snapshot["running"], snapshot["waiting"]) == (1, 2)

            await eventually(all_there, what="one running and two waiting")
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"abandoned": 3}
        assert_covers(await other.generate("g", "hello"), "g", "You said: hello")
        assert len(server.connections()) == 1


async def test_a_client_whose_socket_is_cut_frees_its_row(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server, server.peer() as peer:
        await peer.send("generate", "a", {"prompt": "count to 900"})
        while (await peer.receive())["type"] != "token":
            pass
        await trio.aclose_forcefully(peer.websocket.stream)
        await server.until_no_row_is_taken()
