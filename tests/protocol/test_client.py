"""The Python client, against the real server and against servers that misbehave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from trio_websocket import ConnectionRejected

from protocol.client import Backoff, ClientEvent, CommandFailed, Disconnected, Snapshot, connect
from protocol.client import client as client_module
from protocol.client import connection as connection_module
from protocol.commands import ChatMessage, Generate, Role
from protocol.tasks import TaskCreate
from tests.cutting_proxy import cutting_proxy
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

Answering = Callable[[Any, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def false_server(answering: Answering) -> AsyncIterator[str]:
    """A server that greets and then does with each command what the test says."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        websocket = await request.accept(subprotocol="leanvibe.v1+json")
        try:
            while True:
                message = json.loads(await websocket.get_message())
                if message["type"] == "hello":
                    await say(websocket, type="welcome", re=message["id"], data={"client_id": "me"})
                else:
                    await answering(websocket, message)
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, ssl_context=None))
        yield f"ws://127.0.0.1:{server.port}/ws"
        nursery.cancel_scope.cancel()


async def say(websocket: Any, **message: Any) -> None:
    await websocket.send_message(json.dumps(message))


def streaming(*events: dict[str, Any]) -> Answering:
    """Answers `generate` with these events, and every `cancel` with true."""

    async def answer(websocket: Any, message: dict[str, Any]) -> None:
        if message["type"] == "cancel":
            await say(websocket, type="result", re=message["id"], data={"cancelled": True})
            return
        await say(websocket, type="accepted", re=message["id"], data={"stream": "s", "epoch": "e"})
        for event in events:
            await say(websocket, re=message["id"], stream="s", time="", **event)

    return answer


def token(text: str, seq: int, **more: Any) -> dict[str, Any]:
    return {"type": "token", "seq": seq, "data": {"text": text, "index": seq}, **more}


async def read_all(answer: Any, into: list[str]) -> None:
    async for piece in answer:
        into.append(piece)  # noqa: PERF401  what came before a failure counts


# --- the real server ----------------------------------------------------------------------------------


async def test_a_question_is_answered_piece_by_piece(server: RunningServer) -> None:
    async with connect(server.about.websocket_url, client_id="me", device_id="desk", agent="test/1") as client:
        assert client.welcome["client_id"] == "me"
        assert client.welcome["device_id"] == "desk"
        assert client.welcome["limits"]["streams"] == 128
        question = Generate(messages=[ChatMessage(Role.USER, "count to 60")])
        async with client.generate(question) as answer:
            assert await answer.text() == count_to(60)
        assert answer.done is not None
        assert answer.done["finish_reason"] == "stop"
        assert answer.was_cancelled is False


async def test_a_ping_brings_its_payload_back(engineless_server: RunningServer) -> None:
    async with connect(engineless_server.about.websocket_url, client_id="me") as client:
        for payload in (None, 5, "é", [1, {"a": None}]):
            assert await client.ping(payload) == payload


async def test_a_refused_command_raises_what_the_server_said(server: RunningServer) -> None:
    async with connect(server.about.websocket_url, client_id="me") as client:
        with pytest.raises(CommandFailed) as caught:
            async with client.generate(Generate(prompt="x", top_k=300)):
                raise AssertionError("unreachable")
        assert caught.value.code == "invalid_field"
        assert caught.value.data["field"] == "data.top_k"
        assert await client.ping("still") == "still"


async def test_p7_a_command_that_is_too_large_is_refused_before_it_would_close_the_connection(
    server: RunningServer,
) -> None:
    async with connect(server.about.websocket_url, client_id="me") as client:
        with pytest.raises(CommandFailed) as caught:
            async with client.generate(Generate(prompt="é" * 524_270)):
                pass
        assert caught.value.code == "too_large"
        async with client.generate(Generate(prompt="count to 3")) as answer:
            assert await answer.text() == "1 2 3"


async def test_a_refused_hello_raises_what_the_server_said(engineless_server: RunningServer) -> None:
    with pytest.raises(CommandFailed) as caught:
        async with connect(engineless_server.about.websocket_url, client_id="me", token="sesame"):
            raise AssertionError("unreachable")
    assert caught.value.code == "unauthorized"


async def test_leaving_the_block_cancels_the_generation(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.002) as server,
        connect(server.about.websocket_url, client_id="me") as client,
    ):
        async with client.generate(Generate(prompt="count to 1000")) as answer:
            async for _ in answer:
                break
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}
        assert await client.ping() is None


async def test_a_cancelled_stream_says_so(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.002) as server,
        connect(server.about.websocket_url, client_id="me") as client,
        client.generate(Generate(prompt="count to 1000")) as answer,
    ):
        pieces: list[str] = []
        async for piece in answer:
            pieces.append(piece)
            if len(pieces) == 3:
                assert await client.cancel(answer.command_id) is True
        assert answer.was_cancelled is True
        assert answer.done is None
        assert count_to(1000).startswith("".join(pieces))
        assert await client.cancel(answer.command_id) is False


async def test_a_server_that_goes_away_says_so_and_raises(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        connect(server.about.websocket_url, client_id="me") as client,
        client.generate(Generate(prompt="count to 1000")) as answer,
    ):

        async def ping_until_it_closes() -> None:
            while True:
                await client.ping()

        assert await anext(answer)
        server.system.request_stop("test")
        with pytest.raises(CommandFailed) as failed:
            await answer.text()
        assert (failed.value.code, failed.value.data["temporary"]) == ("shutting_down", True)
        assert 500 <= client.going_away["retry_after_ms"] <= 1500
        with pytest.raises(Disconnected) as caught:
            await ping_until_it_closes()
        assert caught.value.code == 1012


async def test_p4_commands_are_answered_across_cuts(engineless_server: RunningServer) -> None:
    """A new connection each time, and each command answered once, whichever byte the cut fell on."""
    changes: list[str] = []
    backoff = Backoff(base_seconds=0.01)
    async with (
        cutting_proxy(engineless_server.about.websocket_url, 1500, 2500, 4001) as url,
        connect(
            url, client_id="me", reconnect=True, backoff=backoff, on_change=lambda one: changes.append(one.state)
        ) as client,
    ):
        number = 0
        while changes.count("connected") < 4:
            number += 1
            payload = f"{number}-{'x' * 200}"
            assert await client.ping(payload) == payload
    assert changes == ["connected", *["disconnected", "connected"] * 3, "ended"]


@pytest.mark.parametrize("cuts", [(900, 1500, 2500), (1201, 1202, 1203, 1204), (3000,)])
async def test_p4_a_generation_loses_and_repeats_nothing_across_cuts(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    changes: list[str] = []
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        cutting_proxy(server.about.websocket_url, *cuts) as url,
        connect(
            url,
            client_id="me",
            reconnect=True,
            detach=True,
            backoff=Backoff(base_seconds=0.01),
            on_change=lambda one: changes.append(one.state),
        ) as client,
        client.generate(Generate(prompt="count to 150")) as answer,
    ):
        assert await answer.text() == count_to(150)
        assert answer.result is not None
        assert answer.result.finish_reason.value == "stop"
    assert changes.count("disconnected") == len(cuts)


async def test_p2_p4_tasks_are_made_once_and_told_once_across_cuts(engineless_server: RunningServer) -> None:
    """Each command is answered, carried out once, and its event comes once and in order, whatever was cut."""
    titles = [f"task {number}" for number in range(24)]
    told: list[str] = []
    seqs: list[int] = []
    cuts = (2500, 4000, 4001, 6007)
    changes: list[str] = []
    async with (
        cutting_proxy(engineless_server.about.websocket_url, *cuts) as url,
        connect(
            url,
            client_id="me",
            reconnect=True,
            events=True,
            backoff=Backoff(base_seconds=0.01),
            on_change=lambda one: changes.append(one.state),
        ) as client,
        client.events() as events,
        trio.open_nursery() as nursery,
    ):
        first = await anext(events)
        assert isinstance(first, Snapshot)

        async def read() -> None:
            while len(told) < len(titles):
                event = await anext(events)
                assert isinstance(event, ClientEvent)
                seqs.append(event.seq)
                if event.type == "task_created":
                    told.append(event.typed.task.title)
                else:
                    assert event.type == "notification"

        nursery.start_soon(read)
        for title in titles:
            assert (await client.ask(TaskCreate(title=title))).title == title
    assert told == titles
    assert seqs == list(range(first.seq + 1, first.seq + 1 + len(seqs)))
    assert changes.count("disconnected") == len(cuts)


# --- servers that misbehave ---------------------------------------------------------------------------


async def test_a_missing_event_is_noticed() -> None:
    async with false_server(streaming(token("a", 1), token("c", 3))) as url, connect(url, client_id="me") as client:
        pieces: list[str] = []
        async with client.generate(Generate(prompt="x")) as answer:
            with pytest.raises(Disconnected, match="events 2 to 2 are missing"):
                await read_all(answer, pieces)
        assert pieces == ["a"]


async def test_a_repeated_event_is_left_out() -> None:
    done = {"type": "done", "seq": 3, "data": {}}
    async with (
        false_server(streaming(token("a", 1), token("a", 1), token("b", 2), token("b", 2), done)) as url,
        connect(url, client_id="me") as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "ab"


async def test_a_merged_frame_counts_for_all_that_it_covers() -> None:
    events = (token("a", 1), token("bcd", 4, first_seq=2), {"type": "done", "seq": 5, "data": {}})
    async with (
        false_server(streaming(*events)) as url,
        connect(url, client_id="me") as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcd"


async def test_a_gap_before_a_merged_frame_is_noticed() -> None:
    events = (token("a", 1), token("cd", 4, first_seq=3))
    async with (
        false_server(streaming(*events)) as url,
        connect(url, client_id="me") as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        with pytest.raises(Disconnected, match="events 2 to 2"):
            await answer.text()


async def test_a_failed_stream_raises_what_the_server_said() -> None:
    failed = {"type": "failed", "seq": 2, "data": {"code": "engine_failed", "message": "it died", "temporary": True}}
    async with false_server(streaming(token("a", 1), failed)) as url, connect(url, client_id="me") as client:
        pieces: list[str] = []
        with pytest.raises(CommandFailed) as caught:
            async with client.generate(Generate(prompt="x")) as answer:
                await read_all(answer, pieces)
        assert pieces == ["a"]
        assert caught.value.code == "engine_failed"


async def test_types_and_fields_that_a_client_does_not_know_are_ignored() -> None:
    events = (
        {"type": "thought", "seq": 1, "data": {}, "mood": "fine"},
        token("a", 2, colour="red"),
        {"type": "done", "seq": 3, "data": {"new": 1}},
    )
    async with (
        false_server(streaming(*events)) as url,
        connect(url, client_id="me") as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "a"


async def test_the_servers_ping_is_answered() -> None:
    pongs: list[Any] = []
    asked = trio.Event()

    async def answer(websocket: Any, message: dict[str, Any]) -> None:
        if message["type"] == "pong":
            pongs.append(message["data"])
            asked.set()
            return
        await say(websocket, type="ping", time="", data={"n": 1})
        await say(websocket, type="pong", re=message["id"], data=None)

    async with false_server(answer) as url, connect(url, client_id="me") as client:
        await client.ping()
        with trio.fail_after(60):
            await asked.wait()
    assert pongs == [{"n": 1}]


async def test_a_connection_that_breaks_ends_every_wait() -> None:
    async def answer(websocket: Any, message: dict[str, Any]) -> None:
        if message["type"] == "cancel":
            await trio.aclose_forcefully(websocket._stream)
        elif message["type"] == "generate":
            await say(websocket, type="accepted", re=message["id"], data={"stream": "s", "epoch": "e"})

    ended: list[str] = []

    async def expect_end(name: str, work: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises(Disconnected):
            await work()
        ended.append(name)

    async with false_server(answer) as url, connect(url, client_id="me") as client:
        with trio.fail_after(60):
            async with client.generate(Generate(prompt="x")) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(expect_end, "stream", stream.text)
                nursery.start_soon(expect_end, "ping", client.ping)
                nursery.start_soon(expect_end, "cancel", partial(client.cancel, "9"))
        with pytest.raises(Disconnected):
            await client.ping()
    assert sorted(ended) == ["cancel", "ping", "stream"]


async def test_a_close_code_is_passed_on() -> None:
    async def answer(websocket: Any, message: dict[str, Any]) -> None:
        await websocket.aclose(4400, "not this protocol")

    async with false_server(answer) as url, connect(url, client_id="me") as client:
        with pytest.raises(Disconnected) as caught:
            await client.ping()
    assert (caught.value.code, caught.value.reason) == (4400, "not this protocol")


async def test_nobody_listening_is_an_os_error() -> None:
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    await listener[0].aclose()
    with pytest.raises(OSError, match="connect"):
        async with connect(f"ws://127.0.0.1:{port}/ws", client_id="me"):
            raise AssertionError("unreachable")


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/ws", "ws://", "ws://127.0.0.1:99999/ws", "ws://[::1/ws"])
async def test_what_is_no_websocket_address_is_an_os_error(url: str) -> None:
    with pytest.raises(OSError, match="is not a WebSocket address"):
        async with connect(url, client_id="me"):
            raise AssertionError("unreachable")


async def test_a_server_of_another_kind_is_an_os_error(engineless_server: RunningServer) -> None:
    url = engineless_server.about.rest_url.replace("http", "ws") + "/health"
    with pytest.raises(OSError, match="is not a LeanVibe server: it refused the WebSocket with status 4") as caught:
        async with connect(url, client_id="me"):
            raise AssertionError("unreachable")
    assert "ConnectionRejected" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "the server prepares its model"}', "status 503: the server prepares its model"),
        (b"not here\x1b[2J\n", "status 503: not here [2J"),
        (b"<html>error</html>", "status 503"),
        (None, "status 503"),
        (b"x" * 9000, "status 503: " + "x" * 300),
    ],
)
def test_te33_a_refused_handshake_is_told_in_the_servers_words(body: bytes | None, words: str) -> None:
    assert connection_module._why_refused(ConnectionRejected(503, (), body)) == f"it refused the WebSocket with {words}"


async def test_a_server_that_never_answers_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.1)
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        with pytest.raises(OSError, match="did not answer"):
            async with connect(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws", client_id="me"):
                raise AssertionError("unreachable")


async def test_a_command_that_is_never_answered_ends_as_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(websocket: Any, message: dict[str, Any]) -> None:
        pass

    async with false_server(answer) as url, connect(url, client_id="me") as client:
        monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.1)
        with pytest.raises(Disconnected, match="no answer"):
            await client.ping()


async def test_the_callers_own_exception_comes_out_as_it_is(engineless_server: RunningServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(engineless_server.about.websocket_url, client_id="me"):
            raise ZeroDivisionError


async def test_an_unread_answer_does_not_hold_up_other_commands(server: RunningServer) -> None:
    async with (
        connect(server.about.websocket_url, client_id="me") as client,
        client.generate(Generate(prompt="count to 300", max_tokens=2000)) as unread,
    ):
        for number in range(20):
            assert await client.ping(number) == number
        assert await unread.text() == count_to(300)


async def test_who_leaves_waits_for_the_good_bye_of_the_server_and_no_longer(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regression: whatever was asked from the command line ended two seconds late."""
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 60.0)
    async with connect(engineless_server.about.websocket_url, client_id="me") as client:
        await client.command("task_list", {})
        began = trio.current_time()
    # Far more than a good-bye takes, and less than the whole time that one who says none is given.
    assert trio.current_time() - began < 30
