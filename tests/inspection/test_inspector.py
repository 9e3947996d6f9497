"""Every inspector command over the real Unix socket of a running server."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.inference.messages import CancelGeneration, DescribeEngine
from actors.inspection import actor as inspector
from runtime import MailboxFull
from runtime.testing import crash
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


def nodes(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {node["path"]: node}
    for child in node["children"]:
        found |= nodes(child)
    return found


async def test_the_socket_is_the_owners_alone(engineless_server: RunningServer) -> None:
    mode = Path(engineless_server.about.inspection_socket).stat().st_mode  # noqa: ASYNC240  one local file
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_server_json_names_socket_and_worker(server: RunningServer) -> None:
    health = await server.until_engine_is("ready")
    path = server.settings.data_dir / "server.json"
    await eventually(lambda: json.loads(path.read_text())["worker_pid"] == health.worker_pid)
    crash(server.system, "inference/engines/1", RuntimeError("x"))

    def names_the_next() -> bool:
        return json.loads(path.read_text())["worker_pid"] not in (None, health.worker_pid)

    await eventually(names_the_next)
    assert json.loads(path.read_text())["inspection_socket"] == server.about.inspection_socket


async def test_a_stopped_server_leaves_neither_file_nor_socket(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False) as server:
        assert (tmp_path / "server.json").exists()
    assert not (tmp_path / "server.json").exists()
    assert not Path(server.about.inspection_socket).exists()  # noqa: ASYNC240  one local file


async def test_the_tree_shows_every_place(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        await peer.generate("g", "count to 30")
        (answer,) = await server.inspect({"command": "tree"})
        shown = nodes(answer["tree"])
        assert set(server.incarnations()) | set(server.connections()) | {"root"} == set(shown)
    assert answer["is_ready"] is True
    assert answer["reasons"] == []
    assert answer["dead_letters"] == 0
    inference = shown["inference/inference"]
    assert (inference["state"], inference["incarnation"], inference["kind"]) == ("idle", 1, "actor")
    assert inference["mailbox"]["capacity"] >= 1024
    assert inference["mailbox"]["peak"] >= 1
    assert inference["handled"] > 80
    assert inference["messages_per_second"] >= 0
    assert inference["stack"] == []
    assert shown["root"]["kind"] == "one_for_one"
    assert shown["connections/sockets"]["kind"] == "dynamic"


async def test_the_tree_shows_stacks_when_asked(engineless_server: RunningServer) -> None:
    (answer,) = await engineless_server.inspect({"command": "tree", "stacks": True})
    assert any("park" in line for line in nodes(answer["tree"])["access"]["stack"])


async def test_the_tree_tells_how_busy_an_actor_is(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 900"})
        while (await peer.receive())["type"] != "token":
            pass
        (answer,) = await server.inspect({"command": "tree"})
        assert nodes(answer["tree"])["inference/inference"]["messages_per_second"] > 20


async def test_a_restarted_actor_shows_its_incarnation_and_its_last_error(engineless_server: RunningServer) -> None:
    crash(engineless_server.system, "access", RuntimeError("for show"))
    await eventually(lambda: engineless_server.system.record("access").incarnation == 2)
    (answer,) = await engineless_server.inspect({"command": "tree"})
    access = nodes(answer["tree"])["access"]
    assert (access["incarnation"], access["restarts"]) == (2, 1)
    assert access["last_error"] == "RuntimeError: for show"
    assert nodes(answer["tree"])["root"]["restarts_in_window"] == 1


def _room(server: RunningServer, path: str) -> int:
    """How many more messages its mailbox takes."""
    life = server.system.reference(path).living_incarnation()
    statistics = life.mailbox.statistics(0.0)
    return statistics.capacity - statistics.used


async def test_the_tree_answers_within_a_second_while_every_mailbox_is_full(server: RunningServer) -> None:
    """The promise of ARCHITECTURE: it reads the runtime's own records and never asks an actor."""
    await server.until_engine_is("ready")
    full = ("access", "inference/inference", "inference/engines/1")
    for path in full:
        assert await server.inspect({"command": "suspend", "path": path}) == [{"suspended": path}]
    from actors.access.messages import CheckOrigin
    from actors.inference.engine_messages import CancelRow

    fillers: dict[str, Any] = {
        "access": CheckOrigin(host="x", origin=None),
        "inference/inference": CancelGeneration("none"),
        "inference/engines/1": CancelRow(-1),
    }
    for path in full:
        reference = server.system.reference(path)
        for _ in range(_room(server, path)):
            reference.tell_nowait(fillers[path])
        with pytest.raises(MailboxFull):
            reference.tell_nowait(fillers[path])
    began = trio.current_time()
    (answer,) = await server.inspect({"command": "tree"})
    assert trio.current_time() - began < 1
    shown = nodes(answer["tree"])
    for path in full:
        assert shown[path]["state"] == "suspended"
        assert shown[path]["mailbox"]["used"] == shown[path]["mailbox"]["capacity"]
        assert shown[path]["mailbox"]["oldest_age_seconds"] >= 0
    began = trio.current_time()
    (state,) = await server.inspect({"command": "state", "path": "inference/inference"})
    assert "snapshot" in state, "a snapshot takes the system lane"
    assert trio.current_time() - began < 1


# --- state --------------------------------------------------------------------------------------------


async def test_state_is_the_actors_own_snapshot(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer(client_id="somebody"):
        (connection,) = await server.inspect({"command": "state", "path": server.connections()[0]})
        assert connection["snapshot"]["client_id"] == "somebody"
    (inference,) = await server.inspect({"command": "state", "path": "inference/inference"})
    assert inference["snapshot"]["state"] == "ready"


async def test_the_state_of_a_busy_actor_is_what_it_is_busy_with(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.inference.actor import Inference
    from actors.inspection import commands

    async def sleep(*_: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(commands, "SNAPSHOT_SECONDS", 0.1)
    monkeypatch.setattr(Inference, "handle", sleep)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            await server.system.reference("inference/inference").ask(DescribeEngine(), timeout=30)

        nursery.start_soon(ask)
        (answer,) = await server.inspect({"command": "state", "path": "inference/inference"})
        assert answer["busy_with"] == "DescribeEngine" or answer["busy_with"].startswith("Engine")
        assert answer["age_seconds"] >= 0
        assert any("sleep_forever" in line for line in answer["stack"])
        nursery.cancel_scope.cancel()


# --- suspend, resume, restart -------------------------------------------------------------------------


async def test_a_suspended_actor_waits_until_it_is_resumed(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    await server.inspect({"command": "suspend", "path": "inference/inference"})
    async with server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 5"})
        assert (await peer.ask("ping", "p"))["type"] == "pong"
        (tree,) = await server.inspect({"command": "tree"})
        assert nodes(tree["tree"])["inference/inference"]["state"] == "suspended"
        assert await server.inspect({"command": "resume", "path": "inference/inference"}) == [
            {"resumed": "inference/inference"}
        ]
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.stream("g"))[-1]["type"] == "done"


@pytest.mark.parametrize("path", ["access", "inference/engines/1", "inference", "connections/listener", "rest"])
async def test_a_child_is_restarted_on_request_and_no_failure_is_counted(server: RunningServer, path: str) -> None:
    await server.until_engine_is("ready")
    assert await server.inspect({"command": "restart", "path": path}) == [{"restarted": path, "incarnation": 2}]
    (answer,) = await server.inspect({"command": "tree"})
    assert nodes(answer["tree"])["root"]["restarts_in_window"] == 0
    async with server.peer() as peer:
        assert (await peer.generate("g", "count to 5"))[-1]["type"] == "done"


async def test_inspection_does_not_restart_itself(engineless_server: RunningServer) -> None:
    (answer,) = await engineless_server.inspect({"command": "restart", "path": "inspection"})
    assert "cannot restart itself" in answer["error"]
    assert engineless_server.system.record("inspection").incarnation == 1


# --- trace --------------------------------------------------------------------------------------------


async def test_a_trace_stops_itself_at_its_limit(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    lines: list[dict[str, Any]] = []
    request = {"command": "trace", "path": "inference/inference", "maximum": 5, "rate": 1000}
    async with server.peer() as peer, trio.open_nursery() as nursery:

        async def trace() -> None:
            lines.extend(await server.inspect(request))

        nursery.start_soon(trace)
        await eventually(lambda: server.system.record("inference/inference").trace_session)
        await peer.generate("g", "count to 20 secret")
    assert lines[0] == {"tracing": "inference/inference", "rate": 1000.0, "maximum": 5}
    assert lines[-1]["ended"] is True
    assert len(lines) == 7
    assert {"direction", "other", "message_type", "seconds"} == set(lines[1])
    assert lines[1]["direction"] == "ask"
    assert lines[1]["message_type"] == "StartGeneration"
    assert lines[1]["other"].startswith("connections/sockets/")
    assert {line["direction"] for line in lines[1:-1]} >= {"ask", "out"}
    assert "secret" not in json.dumps(lines)
    assert not server.system.trace_sessions or not any(
        trace_session.is_open for trace_session in server.system.trace_sessions
    )


async def test_a_trace_shows_payloads_only_when_asked(engineless_server: RunningServer) -> None:
    lines: list[dict[str, Any]] = []
    request = {"command": "trace", "path": "access", "maximum": 1, "payload": True}
    async with trio.open_nursery() as nursery:

        async def trace() -> None:
            lines.extend(await engineless_server.inspect(request))

        nursery.start_soon(trace)
        await eventually(lambda: engineless_server.system.record("access").trace_session)
        async with engineless_server.peer():
            pass
    assert "127.0.0.1" in lines[1]["message"]
    assert len(lines[1]["message"]) <= 200


async def test_a_trace_ends_when_its_reader_goes(engineless_server: RunningServer) -> None:
    """Also on an actor that is idle: a reader who left would else hold a place for ever."""
    async with await trio.open_unix_socket(engineless_server.about.inspection_socket) as stream:
        await stream.send_all(b'{"command":"trace","path":"access"}\n')
        assert b"tracing" in await stream.receive_some()
        trace_session = engineless_server.system.record("access").trace_session
        assert trace_session is not None
        assert trace_session.is_open
    await eventually(lambda: not trace_session.is_open, seconds=2, what="the session closed")


async def test_many_traces_left_behind_do_not_lock_inspectors_out(engineless_server: RunningServer) -> None:
    for _ in range(inspector.INSPECTORS + 2):
        async with await trio.open_unix_socket(engineless_server.about.inspection_socket) as stream:
            await stream.send_all(b'{"command":"trace","path":"rest"}\n')
            with trio.fail_after(60):
                assert b"tracing" in await stream.receive_some()
    (answer,) = await engineless_server.inspect({"command": "state", "path": "access"})
    assert answer["snapshot"]["tokens"] == 0


# --- dead letters -------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_without_their_content(engineless_server: RunningServer) -> None:
    engineless_server.system.reference("nowhere").tell_nowait(CancelGeneration("secret stream"))
    (answer,) = await engineless_server.inspect({"command": "dead_letters"})
    assert answer["total"] == 1
    assert answer["counts"] == {"not_running": 1}
    (last,) = answer["last"]
    assert (last["path"], last["message_type"], last["reason"]) == ("nowhere", "CancelGeneration", "not_running")
    assert last["age_seconds"] >= 0
    assert "secret" not in json.dumps(answer)
    (answer,) = await engineless_server.inspect({"command": "dead_letters", "payload": True})
    assert "secret" in json.dumps(answer)


# --- mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["state", "suspend", "resume", "restart", "trace"])
async def test_an_unknown_path_is_an_error(engineless_server: RunningServer, command: str) -> None:
    (answer,) = await engineless_server.inspect({"command": command, "path": "no/such"})
    assert "no/such" in answer["error"]
    (answer,) = await engineless_server.inspect({"command": command})
    assert "path" in answer["error"]


@pytest.mark.parametrize("command", ["state", "suspend", "resume"])
async def test_a_supervisor_is_no_actor(engineless_server: RunningServer, command: str) -> None:
    (answer,) = await engineless_server.inspect({"command": command, "path": "inference"})
    assert "supervisor" in answer["error"]


async def test_an_unknown_command_is_told_the_known_ones(engineless_server: RunningServer) -> None:
    for request in ({"command": "explode"}, {"command": None}, {"command": ["tree"]}, {}):
        (answer,) = await engineless_server.inspect(request)
        for word in ("unknown command", "tree", "trace", "state", "dead_letters"):
            assert word in answer["error"]


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0},
        {"rate": "fast"},
        {"rate": None},
        {"rate": 1e9},
        {"rate": float("nan")},
        {"maximum": 0},
        {"maximum": 10**9},
        {"maximum": float("inf")},
        {"maximum": []},
    ],
    ids=str,
)
async def test_a_trace_with_impossible_limits_is_refused(
    engineless_server: RunningServer, change: dict[str, Any]
) -> None:
    (answer,) = await engineless_server.inspect({"command": "trace", "path": "access", **change})
    assert "error" in answer
    assert engineless_server.system.record("inspection").incarnation == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\n",
        b"[]\n",
        b"5\n",
        b"\xff\xfe\n",
        b"{}",
        b"",
        b"[" * 60_000 + b"\n",
        b"x" * 100_000 + b"\n",
        b'{"command":"tree"',
    ],
    ids=["text", "array", "number", "bytes", "no-newline", "empty", "nested", "long", "cut"],
)
async def test_garbage_is_refused_and_harms_nobody(
    engineless_server: RunningServer, request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "REQUEST_SECONDS", 0.2)
    lines: list[dict[str, Any]] = []
    with suppress(trio.BrokenResourceError, ConnectionError):
        lines = await engineless_server.inspect(request_bytes)
    assert all("error" in line for line in lines)
    (answer,) = await engineless_server.inspect({"command": "state", "path": "access"})
    assert answer["snapshot"]["tokens"] == 0
    assert engineless_server.system.record("inspection").incarnation == 1


@pytest.mark.parametrize("request_bytes", [b"hello\n", b"[1]\n", b"null\n", b"\xff\xfe\n", b"[" * 20_000 + b"\n"])
async def test_a_line_that_is_no_request_is_answered_with_an_error(
    engineless_server: RunningServer, request_bytes: bytes
) -> None:
    (answer,) = await engineless_server.inspect(request_bytes)
    assert answer["error"].startswith("no request: ")


async def test_a_killed_inspector_comes_back_on_the_same_socket(engineless_server: RunningServer) -> None:
    crash(engineless_server.system, "inspection", RuntimeError("x"))

    def is_back() -> bool:
        place = engineless_server.system.record("inspection")
        return place.incarnation == 2 and place.life is not None and place.life.is_ready

    await eventually(is_back)
    (answer,) = await engineless_server.inspect({"command": "state", "path": "access"})
    assert answer["snapshot"]["tokens"] == 0
    assert (engineless_server.settings.data_dir / "server.json").exists()
