"""`assist` and conversations over a real socket, a real database and the worker process of the mock engine."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.inference.calibration import Calibration, Point
from actors.inference.model_registry import MockRegistry
from actors.storage.database import FILE_NAME
from runtime.testing import crash
from tests.assistant.kit import answered, ask, told
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.integration, pytest.mark.websocket]


async def accepted_stream(peer: Peer, kind: str, command_id: str, **data: Any) -> list[dict[str, Any]]:
    """All events of a streaming command."""
    accepted = await ask(peer, kind, command_id, data)
    assert accepted["type"] == "accepted", accepted
    return await peer.stream(command_id)


async def assist(peer: Peer, command_id: str, **data: Any) -> list[dict[str, Any]]:
    return await accepted_stream(peer, "assist", command_id, **{"intent": "ask", **data})


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(one["data"]["text"] for one in events if one["type"] == "token")


async def turns(peer: Peer, name: str = "c", command_id: str = "get") -> list[tuple[int, str, str]]:
    answer = await ask(peer, "conversation_get", command_id, {"conversation": name})
    assert answer["type"] == "result", answer
    return [(one["number"], one["role"], one["content"]) for one in answer["data"]["turns"]]


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_streams_and_done_says_what_is_in_it(server: RunningServer) -> None:
    question = "say\n```python\nx = 1\n```"
    async with server.peer() as peer:
        events = await assist(peer, "a", content=question)
    assert text_of(events) == f"You said: {question}"
    done = events[-1]
    assert done["type"] == "done"
    assert done["data"]["intent"] == "ask"
    assert done["data"]["suggestions"] == [{"language": "python", "code": "x = 1\n", "is_complete": True}]
    assert done["data"]["requires_review"] is False
    assert done["data"]["usage"]["completion_tokens"] == len(text_of(events))
    assert (await answered(server)) == [
        {
            "command": "assist",
            "id": "a",
            "analysis": text_of(events),
            "intent": "ask",
            **{name: (await told(server))[0][1][name] for name in ("event_id", "channel", "priority")},
        }
    ]


async def test_every_device_of_the_client_gets_the_answer_and_no_other_client(server: RunningServer) -> None:
    async with server.peer() as peer, server.peer() as other, server.peer(client_id="stranger") as stranger:
        await peer.send("assist", "a", {"intent": "ask", "content": "count to 3"})
        for one in (peer, other):
            while (message := await one.receive())["type"] != "ai_response":
                pass
            assert message["stream"] == "client"
            assert (message["data"]["id"], message["data"]["analysis"]) == ("a", "1 2 3")
        # The stranger hears nothing before the answer to its own question.
        assert (await stranger.ask("ping", "p", 1))["type"] == "pong"


async def test_the_same_command_again_joins_the_first(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.003) as server,
        server.peer() as peer,
        server.peer() as other,
    ):
        data = {"intent": "ask", "content": "count to 60", "conversation": "c"}
        first = await ask(peer, "assist", "a", data)
        assert (await peer.receive())["type"] == "token"
        again = await ask(other, "assist", "a", data)
        assert again["data"] == first["data"]
        assert text_of(await other.stream("a")) == count_to(60)
        await answered(server)
        # And once more when it is over; only one turn was taken.
        assert (await ask(other, "assist", "a", data))["data"] == first["data"]
        assert text_of(await other.stream("a")) == count_to(60)
        assert await turns(other) == [(1, "user", "count to 60"), (2, "assistant", count_to(60))]
        refused = await ask(other, "assist", "a", {**data, "content": "count to 61"})
        assert (refused["data"]["code"], refused["data"]["field"]) == ("conflict", "id")


async def test_a_plain_generate_is_told_to_nobody_else(server: RunningServer) -> None:
    async with server.peer() as peer:
        await peer.generate("g", "count to 3")
        await assist(peer, "a", content="count to 4")
    assert [one["id"] for one in await answered(server)] == ["a"]


async def test_the_code_is_in_the_prompt(server: RunningServer) -> None:
    async with server.peer() as peer:
        events = await assist(peer, "a", intent="refactor", content="y=1", file_path="y.rb")
    # The mock says what it was asked.
    assert "```ruby\ny=1\n```" in text_of(events)
    assert events[-1]["data"]["suggestions"][0] == {"language": "ruby", "code": "y=1\n", "is_complete": True}


async def test_code_that_is_too_long_is_cut_around_the_cursor_and_that_is_told(server: RunningServer) -> None:
    content = "".join(f"x{number} = {number}\n" for number in range(2000))
    async with server.peer() as peer:
        events = await assist(peer, "a", intent="explain", content=content, cursor=content.index("x1000"))
    dropped = events[-1]["data"]["dropped"]
    assert dropped["lines_before"] > 100
    assert dropped["lines_after"] > 100
    assert dropped["turns"] == 0
    # The mock's answer repeats the prompt; both together fill the context, and the cut answer wants a look.
    assert events[-1]["data"]["requires_review"] is True
    assert events[-1]["data"]["usage"]["prompt_tokens"] <= 8192 - 1024


@pytest.mark.parametrize("content", ["\x00\x01\x02\x7fELF", "a\x00b", "  ", ""])
@pytest.mark.parametrize("before", [[], [{"role": "system", "content": "Be brief."}]])
async def test_a_turn_that_is_no_text_is_refused_and_nothing_is_stored(
    engineless_server: RunningServer, content: str, before: list[dict[str, str]]
) -> None:
    async with engineless_server.peer() as peer:
        messages = [*before, {"role": "user", "content": content}]
        answer = await ask(peer, "generate", "a", {"messages": messages, "conversation": "c"})
        assert (answer["type"], answer["data"]["code"]) == ("error", "invalid_field")
        assert answer["data"]["field"] == f"data.messages[{len(before)}].content"
        assert (await ask(peer, "conversation_list", "l"))["data"] == {"conversations": []}


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({"content": ""}, "invalid_field", "data.content"),
        ({"content": "\x00\x01"}, "invalid_field", "data.content"),
        ({"content": "x", "cursor": 5}, "invalid_field", "data.cursor"),
        ({"content": "x", "language": "klingon"}, "invalid_field", "data.language"),
        ({"content": "why? " * 2000}, "context_length_exceeded", "data.content"),
        ({"content": "x" * 1024 * 1024}, "too_large", None),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
async def test_bad_input_is_refused_and_nothing_is_stored(
    engineless_server: RunningServer, data: dict[str, Any], code: str, field: str | None
) -> None:
    async with engineless_server.peer() as peer:
        frame = {"intent": "ask", "conversation": "c", **data}
        if code == "too_large":
            await peer.websocket.send(json.dumps({"type": "assist", "id": "a", "data": frame}))
            assert await peer.close_code() == 1009
        else:
            answer = await ask(peer, "assist", "a", frame)
            assert (answer["type"], answer["data"]["code"]) == ("error", code)
            assert answer["data"].get("field") == field
    async with engineless_server.peer() as peer:
        assert (await ask(peer, "conversation_list", "l"))["data"] == {"conversations": []}
    assert await told(engineless_server) == []


# --- conversations ------------------------------------------------------------------------------------


async def test_a_turn_whose_client_is_cut_while_it_is_accepted_is_kept_with_its_answer(server: RunningServer) -> None:
    data = {"messages": [{"role": "user", "content": "count to 9"}], "conversation": "c", "on_disconnect": "detach"}
    disk = sqlite3.connect(server.settings.data_dir / FILE_NAME, isolation_level=None)
    async with server.peer(hello=False) as peer:
        await peer.hello(device_id="desk")
        disk.execute("BEGIN IMMEDIATE")

        async def is_being_stored() -> bool:
            return (await server.snapshot("assistant"))["running"] == 1 and (await server.snapshot("storage/writer"))[
                "writing"
            ] > 0

        await peer.send("generate", "a", data)
        await eventually(is_being_stored)
        await trio.aclose_forcefully(peer.websocket.stream)
        await eventually(lambda: not server.connections())
    disk.execute("ROLLBACK")
    disk.close()
    async with server.peer(hello=False) as again:
        await again.hello(device_id="desk")
        accepted = await ask(again, "generate", "a", data)
        assert accepted["type"] == "accepted", accepted
        assert text_of(await again.stream("a")) == count_to(9)
        assert [one["analysis"] for one in await answered(server)] == [count_to(9)]
        assert await turns(again) == [(1, "user", "count to 9"), (2, "assistant", count_to(9))]


async def test_a_conversation_is_kept_turn_by_turn(server: RunningServer) -> None:
    async with server.peer() as peer:
        await assist(peer, "a", content="count to 3", conversation="c")
        await answered(server, 1)
        events = await accepted_stream(
            peer, "generate", "b", messages=[{"role": "user", "content": "and you?"}], conversation="c"
        )
        assert "intent" not in events[-1]["data"]
        last = await answered(server, 2)
        assert [last[1][name] for name in ("command", "id", "conversation", "analysis")] == [
            "generate",
            "b",
            "c",
            "You said: and you?",
        ]
        assert await turns(peer) == [
            (1, "user", "count to 3"),
            (2, "assistant", "1 2 3"),
            (3, "user", "and you?"),
            (4, "assistant", "You said: and you?"),
        ]
        listed = (await ask(peer, "conversation_list", "l"))["data"]["conversations"]
        assert [(one["conversation"], one["turns"], one["forgotten_turns"]) for one in listed] == [("c", 4, 0)]
        assert "running" not in listed[0]


async def test_who_was_told_the_end_may_go_on_at_once(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression: the next turn came before the answer was on disk and was refused as a second one."""
    from actors.assistant.actor import Assistant

    settle = Assistant._settle

    async def later(self: Assistant, *arguments: Any) -> None:
        await trio.sleep(0.2)
        await settle(self, *arguments)

    monkeypatch.setattr(Assistant, "_settle", later)
    async with server.peer() as peer:
        for number in range(2, 5):
            events = await assist(peer, f"a{number}", content=f"count to {number}", conversation="c")
            assert text_of(events) == count_to(number)
        assert len(await turns(peer)) == 6
        deleted = await ask(peer, "conversation_delete", "d", {"conversation": "c"})
        assert deleted["data"] == {"conversation": "c", "turns": 6}


async def test_the_users_turn_is_on_disk_when_it_is_accepted_and_one_turn_runs_at_a_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        server.peer() as peer,
        server.peer() as other,
    ):
        accepted = await ask(peer, "assist", "a", {"intent": "ask", "content": "count to 900", "conversation": "c"})
        assert accepted["type"] == "accepted"
        assert await turns(other) == [(1, "user", "count to 900")]
        assert (await ask(other, "conversation_list", "l"))["data"]["conversations"][0]["running"] == "a"
        for kind, data in (
            ("assist", {"intent": "ask", "content": "x"}),
            ("generate", {"messages": [{"role": "user", "content": "x"}]}),
            ("conversation_delete", {}),
        ):
            refused = await ask(other, kind, f"late-{kind}", {**data, "conversation": "c"})
            assert (refused["type"], refused["data"]["code"]) == ("error", "conflict")
            assert refused["data"]["current"] == {"command": "a"}
            assert refused["data"]["field"] == "data.conversation"
        # Another conversation is none of its business.
        assert text_of(await assist(other, "d", content="count to 2", conversation="d")) == "1 2"
        assert await turns(other, command_id="g2") == [(1, "user", "count to 900")]


async def test_a_turn_that_came_at_the_same_moment_as_anothers_is_a_conflict_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regression: the id was stored before the conflict was seen, so the same id again was accepted and cancelled."""
    from actors.assistant.actor import Assistant

    begin = Assistant._begin
    is_late_ready, is_first_accepted = trio.Event(), trio.Event()

    async def after_the_first(
        self: Assistant, stream: str, client: str, domain: str, name: str, *others: Any, **more: Any
    ) -> Any:
        if name == "late":
            is_late_ready.set()
            await is_first_accepted.wait()
        return await begin(self, stream, client, domain, name, *others, **more)

    monkeypatch.setattr(Assistant, "_begin", after_the_first)
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        server.peer() as peer,
        server.peer() as other,
    ):
        turn = {"intent": "ask", "content": "count to 900", "conversation": "c"}
        await other.send("assist", "late", turn)

        # Its prompt is made while the conversation is still free.
        with trio.fail_after(60):
            await is_late_ready.wait()
        assert (await ask(peer, "assist", "first", turn))["type"] == "accepted"
        is_first_accepted.set()
        refused = await other.receive()
        while refused.get("re") != "late":
            refused = await other.receive()
        assert (refused["type"], refused["data"]["code"]) == ("error", "conflict")
        again = await ask(other, "assist", "late", turn)
        assert (again["type"], again["data"]["code"]) == ("error", "conflict")
        assert await turns(other) == [(1, "user", "count to 900")]
        # Also when the conversation is free again: one id has one outcome.
        await peer.send("cancel", "x", {"target": "first"})
        await peer.stream("first")
        await eventually(lambda: _when_free(peer), what="the end on disk")
        again = await ask(other, "assist", "late", turn)
        assert (again["type"], again["data"]) == ("error", refused["data"])
        # Another command under that id is what it always was.
        changed = await ask(other, "assist", "late", {**turn, "content": "x"})
        assert (changed["type"], changed["data"]["field"]) == ("error", "id")


async def test_what_was_cancelled_is_kept_as_a_part_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.peer() as peer:
        await peer.send("assist", "a", {"intent": "ask", "content": "count to 900", "conversation": "c"})
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.receive())["type"] == "token"
        await peer.send("cancel", "x", {"target": "a"})
        events = await peer.stream("a")
        assert events[-1]["type"] == "cancelled"
        page = await eventually(lambda: _when_free(peer), what="the end on disk")
        assert [one["role"] for one in page["turns"]] == ["user", "assistant"]
        assert page["turns"][1]["is_partial"] is True
        assert page["turns"][1]["content"]
        assert count_to(900).startswith(page["turns"][1]["content"])
        assert [(kind, data["change"]) for kind, data in await told(server)] == [("conversation_changed", "turns")]
        assert text_of(await assist(peer, "b", content="count to 2", conversation="c")) == "1 2"
        assert [one["id"] for one in await answered(server)] == ["b"]


async def _when_free(peer: Peer, name: str = "c") -> dict[str, Any] | None:
    _when_free.count += 1  # type: ignore[attr-defined]
    command_id = f"poll-{_when_free.count}"  # type: ignore[attr-defined]
    answer = await ask(peer, "conversation_get", command_id, {"conversation": name})
    data: dict[str, Any] = answer["data"]
    return None if "running" in data["conversation"] else data


_when_free.count = 0  # type: ignore[attr-defined]


async def test_a_client_that_leaves_ends_its_turn(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server:
        async with server.peer() as peer:
            await peer.send("assist", "a", {"intent": "ask", "content": "count to 900", "conversation": "c"})
            assert (await peer.receive())["type"] == "accepted"
            assert (await peer.receive())["type"] == "token"
        await server.until_no_row_is_taken()
        async with server.peer() as peer:
            page = await eventually(lambda: _when_free(peer))
            assert page["turns"][1]["is_partial"] is True


async def test_a_deleted_conversation_is_gone_for_good(server: RunningServer) -> None:
    async with server.peer() as peer:
        await assist(peer, "a", content="count to 3", conversation="c")
        await answered(server)
        deleted = await ask(peer, "conversation_delete", "d", {"conversation": "c"})
        assert deleted["data"] == {"conversation": "c", "turns": 2}
        assert (await ask(peer, "conversation_list", "l"))["data"] == {"conversations": []}
        for kind, data in (
            ("conversation_get", {}),
            ("conversation_delete", {}),
            ("assist", {"intent": "ask", "content": "x"}),
        ):
            refused = await ask(peer, kind, f"after-{kind}", {**data, "conversation": "c"})
            assert (refused["data"]["code"], refused["data"]["field"]) == ("not_found", "data.conversation")
            assert "deleted" in refused["data"]["message"]
        # The same command again has the same outcome.
        assert (await ask(peer, "conversation_delete", "d", {"conversation": "c"}))["data"] == deleted["data"]


async def test_another_clients_conversation_is_not_there(server: RunningServer) -> None:
    async with server.peer() as peer, server.peer(client_id="stranger") as stranger:
        await assist(peer, "a", content="count to 3", conversation="c")
        await answered(server)
        refused = await ask(stranger, "conversation_get", "g", {"conversation": "c"})
        assert (refused["data"]["code"], refused["data"]["field"]) == ("not_found", "data.conversation")
        # The name is theirs to use.
        await assist(stranger, "a", content="count to 2", conversation="c")
        await answered(server, client_id="stranger")
        assert await turns(stranger) == [(1, "user", "count to 2"), (2, "assistant", "1 2")]
        assert await turns(peer) == [(1, "user", "count to 3"), (2, "assistant", "1 2 3")]


async def test_long_answers_are_told_cut_and_marked(server: RunningServer) -> None:
    async with server.peer() as peer:
        # Most are one byte, and six of JSON: cut by what it takes encoded. Drawn, so that no answer repeats itself.
        content = "".join(random.Random(1).choices("\x1b" * 13 + "xyz", k=3900))
        events = await assist(peer, "a", content=content)
        assert len(text_of(events)) == 1024
        await accepted_stream(
            peer,
            "generate",
            "b",
            messages=[{"role": "user", "content": content}],
            max_tokens=3900,
            conversation="c",
        )
    short, long = await answered(server, 2)
    assert "truncated" not in short
    assert long["truncated"] is True
    assert 16000 < len(json.dumps(long["analysis"])) <= 16384


# --- what dies ----------------------------------------------------------------------------------------


async def test_a_worker_that_dies_costs_the_conversation_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.003) as server, server.peer() as peer:
        await peer.send("assist", "a", {"intent": "ask", "content": "count to 100", "conversation": "c"})
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.receive())["type"] == "token"
        worker = (await server.engine()).worker_pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        events = await peer.stream("a")
        assert events[-1]["data"]["engine_restarts"] == 1
        await answered(server)
        assert (await turns(peer))[1] == (2, "assistant", count_to(100))


async def test_an_assistant_that_crashes_leaves_no_conversation_locked(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.peer() as peer:
        await peer.send("assist", "a", {"intent": "ask", "content": "count to 900", "conversation": "c"})
        assert (await peer.receive())["type"] == "accepted"
        crash(server.system, "assistant", RuntimeError("on purpose"))
        events = await peer.stream("a")
        assert events[-1]["type"] == "cancelled"
        await eventually(lambda: server.system.reference("assistant").incarnation == 2)
        await eventually(lambda: _when_free(peer))
        assert text_of(await assist(peer, "b", content="count to 2", conversation="c")) == "1 2"


async def test_a_lost_inference_actor_is_made_good(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.003) as server, server.peer() as peer:
        await peer.send("assist", "a", {"intent": "ask", "content": "count to 100", "conversation": "c"})
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.receive())["type"] == "token"
        crash(server.system, "inference/inference", RuntimeError("on purpose"))
        events = await peer.stream("a")
        assert events[-1]["type"] == "done", events[-1]
        assert events[-1]["data"]["intent"] == "ask"
        await answered(server)
        assert (await turns(peer))[1] == (2, "assistant", count_to(100))


async def test_while_inference_is_away_an_assist_is_unavailable_for_a_moment(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.inference.actor import Inference

    async def broken(self: Inference) -> None:
        raise RuntimeError("on purpose")

    async with engineless_server.peer() as peer:
        monkeypatch.setattr(Inference, "started", broken)
        crash(engineless_server.system, "inference/inference", RuntimeError("on purpose"))
        refused = await ask(peer, "assist", "a", {"intent": "ask", "content": "x", "conversation": "c"})
        assert (refused["data"]["code"], refused["data"]["temporary"]) == ("unavailable", True)
        monkeypatch.undo()


async def test_done_is_calibrated_for_assist_alone_and_only_where_the_model_was_measured(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Calibration(points=(Point(confidence=0.5, rate=0.25),), items=20)
    async with server.peer() as peer, server.http(headers={"X-Client-Id": "tester"}) as http:
        assert "calibrated" not in (await assist(peer, "a", content="count to 2"))[-1]["data"]
        monkeypatch.setattr(MockRegistry, "calibration", lambda *_: half)
        done = (await assist(peer, "b", content="count to 2"))[-1]["data"]
        assert (done["confidence"], done["calibrated"]) == (1.0, 0.25)
        accepted = await ask(peer, "generate", "g", {"prompt": "count to 2"})
        assert accepted["type"] == "accepted"
        assert "calibrated" not in (await peer.stream("g"))[-1]["data"]
        command = {"type": "command", "intent": "explain", "content": "x = 1"}
        assert (await http.post("/ai/process", json=command)).json()["calibrated"] == 0.25
        message = {"type": "message", "content": "count to 2"}
        assert "calibrated" not in (await http.post("/ai/process", json=message)).json()
