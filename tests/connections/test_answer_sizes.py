"""No frame exceeds its limit, whatever a command produces, and every command that was carried out gets an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from actors.connections import replies as answers_file
from actors.connections.replies import Replies
from actors.connections.transport import WebSocketTransport
from actors.inference.messages import GenerationTokens, StartGeneration
from actors.inference.streams import Stream
from protocol.commands import MAXIMUM_FRAME_BYTES, Generate
from tests.server_fixture import Peer, RunningServer

WORST = "\x1b"
"""Takes six bytes as JSON."""


async def answer_to(peer: Peer, kind: str, command_id: str, data: Any) -> dict[str, Any]:
    """Return the only answer, skipping events of the durable stream. No frame is too large."""
    await peer.send(kind, command_id, data)
    while True:
        with trio.fail_after(60):
            text = await peer.websocket.recv()
        assert len(text.encode() if isinstance(text, str) else text) <= MAXIMUM_FRAME_BYTES
        message: dict[str, Any] = json.loads(text)
        if message.get("re") == command_id:
            return message


@pytest.mark.websocket
@pytest.mark.integration
async def test_fr1_a_bulk_of_large_tasks_is_answered_within_a_frame(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.tasks import bulk as several

    # Simulates larger tasks: a mebibyte of them would take a hundred commands.
    monkeypatch.setattr(several, "PAGE_BYTES", 40_000)
    async with engineless_server.peer() as peer:
        ids = []
        for number in range(8):
            made = await answer_to(peer, "task_create", f"t{number}", {"title": "t", "description": "ж" * 7000})
            ids.append(made["data"]["id"])
        items = [{"move": {"task_id": one, "version": 1, "status": "todo"}} for one in ids]
        answer = await answer_to(peer, "task_bulk", "b", {"items": items})
        outcomes = answer["data"]["items"]
        assert answer["type"] == "result"
        assert [one["task"]["id"] for one in outcomes[:2]] == ids[:2]
        assert outcomes[2:] == [{"changed": {"task_id": one, "version": 2}} for one in ids[2:]]
        assert (await answer_to(peer, "task_bulk", "b", {"items": items}))["data"] == answer["data"]
        # Refusals that carry the whole task are truncated in the same way.
        answer = await answer_to(peer, "task_bulk", "c", {"items": items, "all_or_nothing": False})
        outcomes = answer["data"]["items"]
        assert answer["data"]["failed"] == len(ids)
        assert {one["error"]["code"] for one in outcomes} == {"conflict"}
        assert ["current" in one["error"] for one in outcomes] == [True, True] + [False] * 6


@pytest.mark.websocket
@pytest.mark.integration
async def test_fr1_what_has_no_smaller_form_is_told_as_carried_out(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_file, "MAXIMUM_FRAME_BYTES", 2000)
    async with engineless_server.peer() as peer:
        answer = await answer_to(peer, "task_create", "t", {"title": "t", "description": "d" * 3000})
        assert (answer["type"], answer["data"]["code"]) == ("error", "answer_too_large")
        assert (answer["data"]["carried_out"], answer["data"]["temporary"]) == (True, False)
        assert (await answer_to(peer, "ping", "p", 1))["type"] == "pong", "the connection lives"
        monkeypatch.setattr(answers_file, "MAXIMUM_FRAME_BYTES", MAXIMUM_FRAME_BYTES)
        (task,) = (await answer_to(peer, "task_list", "l", {}))["data"]["tasks"]
        assert task["description"] == "d" * 3000
        # A refusal omits the stored value if it does not fit.
        monkeypatch.setattr(answers_file, "MAXIMUM_FRAME_BYTES", 2000)
        move = {"task_id": task["id"], "version": 7, "status": "todo"}
        refused = (await answer_to(peer, "task_move", "m", move))["data"]
        assert refused["code"] == "conflict"
        assert "carried_out" not in refused
        assert not refused.get("current")


async def test_fr1_results_that_wait_for_a_reader_are_bounded(autojump_clock: object) -> None:
    transport = WebSocketTransport("c", trio.testing.memory_stream_pair()[0], lambda *_: trio.CancelScope())
    answers = Replies(transport)
    large = "x" * (MAXIMUM_FRAME_BYTES - 1000)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(answers.result, str(number), large)
            await trio.testing.wait_all_tasks_blocked()
        sent = []
        while (frame := transport.send_queue.take()) is not None:
            sent.append(json.loads(frame))
            transport._notify_drained()
            await trio.testing.wait_all_tasks_blocked()
    assert len(sent) == 8
    assert {one["re"] for one in sent} == {str(number) for number in range(8)}
    refused = [one["data"] for one in sent if one["type"] == "error"]
    assert refused
    assert {(one["code"], one["carried_out"]) for one in refused} == {("overloaded", True)}
    assert len(sent) - len(refused) >= 4


async def test_fr1_a_page_of_alternatives_fits_into_a_frame() -> None:
    alternatives = [{"token": WORST * 100, "id": 1, "logprob": -1.0}] * 20
    stream = Stream(
        name="s",
        client_id="me",
        epoch="e",
        recovery=StartGeneration(client_id="me", stream="s", generate=Generate(prompt="x", logprobs=20, seed=1)),
        publish=lambda *_: None,
    )
    for seq in range(1, 301):
        stream.keep(
            GenerationTokens(
                stream="s",
                seq=seq,
                text=WORST * 100,
                index=seq,
                token_ids=(1,),
                log_probability=-1.0,
                logprobs=[{"token": WORST * 100, "id": 1, "logprob": -1.0, "top": alternatives}],
            )
        )
    at = 0
    while (page := stream.after(at)) is not None:
        assert isinstance(page, GenerationTokens)
        assert page.first_seq == at + 1
        size = len(json.dumps([page.text, page.logprobs]))
        assert size <= MAXIMUM_FRAME_BYTES
        assert page.seq > at
        at = page.seq
    assert at == 300


@pytest.mark.websocket
@pytest.mark.integration
async def test_fr1_a_welcome_with_many_snapshots_fits_into_a_frame(server: RunningServer) -> None:
    """Texts that do not fit come as events."""
    await server.until_engine_is("ready")
    from actors.connections import session

    prompts = [f"count to {number}" for number in range(100, 112)]
    async with server.peer() as peer:
        texts, streams = {}, []
        for number, prompt in enumerate(prompts):
            events = await peer.generate(str(number), prompt, max_tokens=2000)
            streams.append(events[0]["stream"])
            texts[events[0]["stream"]] = "".join(one["data"]["text"] for one in events[:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SNAPSHOT_BYTES", 1000)
        async with server.peer(hello=False) as peer:
            points = [{"stream": one, "epoch": "another", "seq": 5} for one in streams]
            welcome = await peer.hello(resume=points)
            found = {one["stream"]: one["snapshot"]["text"] for one in welcome["resumed"]}
            assert 0 < sum(len(one) for one in found.values()) <= 1000
            at = {one["stream"]: one["snapshot"]["seq"] for one in welcome["resumed"]}
            ended = 0
            while ended < len(streams):
                event = await peer.receive()
                assert "seq" in event, event
                assert event.get("first_seq", event["seq"]) == at[event["stream"]] + 1
                at[event["stream"]] = event["seq"]
                if event["type"] == "done":
                    ended += 1
                else:
                    found[event["stream"]] += event["data"]["text"]
    assert found == texts
