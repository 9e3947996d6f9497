"""Operators watch the whole tree over the WebSocket: one server, an independent peer."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.access.messages import CreateToken
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

TOPICS = ["tree", "metrics", "requests", "models", "dead_letters", "clients"]
KEYS = {
    "tree": "path",
    "metrics": "time_ms",
    "requests": "id",
    "models": "full_name",
    "dead_letters": "id",
    "clients": "id",
}


class Views:
    """What a page would know of each topic."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.items: dict[str, dict[str, Any]] = {}
        self.rest: dict[str, Any] = {}
        self.frames: dict[str, int] = {}
        self.trace: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []

    async def read(self) -> dict[str, Any]:
        message = await self.peer.receive()
        topic = message["type"].removesuffix("_changed")
        data = message["data"]
        if message["type"] == "trace_records":
            self.trace.append(data)
        elif topic in KEYS and "re" not in message:
            known = {} if data["is_whole"] else self.items[topic]
            self.items[topic] = {key: one for key, one in known.items() if key not in data["removed"]}
            self.items[topic] |= {str(one[KEYS[topic]]): one for one in data["changed"]}
            self.rest[topic] = data
            self.frames[topic] = self.frames.get(topic, 0) + 1
        else:
            self.others.append(message)
        return message

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await self.read()

    async def ask(self, kind: str, command_id: str, data: Any = None) -> dict[str, Any]:
        await self.peer.send(kind, command_id, data)
        while (message := await self.read()).get("re") != command_id:
            pass
        return message


def flat(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {node["path"]: node}
    for child in node["children"]:
        found |= flat(child)
    return found


async def test_mo5_all_topics_come_whole_and_say_what_the_inspection_socket_says(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer(client_id="ann") as peer:
        views = Views(peer)
        answer = await views.ask("watch", "w", {"topics": TOPICS})
        assert answer["data"] == {"topics": TOPICS}
        await views.until(lambda: set(views.items) == set(TOPICS) and views.items["clients"] and views.items["models"])
        inspected = flat((await server.inspect({"command": "tree"}))[0]["tree"])
        tree = views.items["tree"]
        assert set(tree) == set(inspected)
        for path, node in tree.items():
            there = inspected[path]
            for name in ("kind", "incarnation", "restarts", "intensity"):
                assert node.get(name) == there[name], (path, name)
            if there["mailbox"] is not None:
                assert node["mailbox"]["capacity"] == there["mailbox"]["capacity"]
        assert views.rest["tree"]["is_ready"] is True
        await peer.generate("g", "count to 12")
        await views.until(
            lambda: any(
                one.get("end_reason") == "length" or one["state"] == "ended" for one in views.items["requests"].values()
            )
        )
        (request,) = views.items["requests"].values()
        assert (request["client_id"], request["end_reason"], request["engine_restarts"]) == ("ann", "stop", 0)
        await views.until(lambda: any("first_token_p50_ms" in one for one in views.items["metrics"].values()))
        assert views.items["clients"]["ann/default"]["connections"] == 1
        assert views.items["models"]["mock"]["is_in_use"] is True
        assert views.rest["models"]["engine"]["state"] == "ready"
        # Nothing is said again that has not changed: after a while the models are as they were told first.
        assert views.frames["models"] <= 3
        # A new watch replaces the one before.
        await views.ask("watch", "w2", {"topics": ["requests"]})
        views.frames.clear()
        async with server.peer(client_id="bob") as other:
            await other.generate("g", "count to 5")
        await views.until(lambda: any(one["client_id"] == "bob" for one in views.items["requests"].values()))
        assert set(views.frames) == {"requests"}


async def test_mo6_nothing_is_collected_while_nobody_looks(server: RunningServer) -> None:
    async with server.peer() as peer:
        views = Views(peer)
        assert (await server.snapshot("monitoring"))["collections"] == 0
        await views.ask("watch", "w", {"topics": ["tree"]})
        await views.until(lambda: views.frames.get("tree", 0) >= 2)
        await views.ask("watch", "none", {})
        before = await server.snapshot("monitoring")
        assert (before["viewers"], before["topics"], before["is_collecting"]) == (0, [], False)
        await views.ask("watch", "w3", {"topics": ["tree"], "trace": {"path": "inference/inference"}})

    async def is_unwatched() -> bool:
        found = await server.snapshot("monitoring")
        return (found["viewers"], found["traces"]) == (0, 0)

    # The viewer has gone without a word.
    await eventually(is_unwatched, what="no viewers")


async def test_mo7_the_tree_is_told_while_every_actor_is_busy(server: RunningServer) -> None:
    async with server.peer() as peer:
        views = Views(peer)
        for path in ("inference/inference", "storage/writer", "tasks", "access", "connections/registry"):
            assert (await views.ask("actor_suspend", path, {"path": path}))["type"] == "result"
        await views.ask("watch", "w", {"topics": ["tree", "models", "requests", "metrics"]})
        await views.until(lambda: views.items.get("tree", {}).get("tasks", {}).get("state") == "suspended")
        await views.until(lambda: views.rest.get("models", {}).get("problem"))
        state = await views.ask("actor_state", "s", {"path": "root"})
        assert state["data"]["path"] == "root"
        for path in ("inference/inference", "storage/writer", "tasks", "access", "connections/registry"):
            assert (await views.ask("actor_resume", f"r{path}", {"path": path}))["type"] == "result"
        await views.until(lambda: views.items["tree"]["tasks"]["state"] == "idle")


async def test_mo8_a_killed_engine_is_seen_and_the_answer_goes_on(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.02) as server,
        server.peer() as peer,
        server.peer(client_id="ann") as asker,
    ):
        views = Views(peer)
        await views.ask("watch", "w", {"topics": ["tree", "requests"], "trace": {"path": "inference/engines/1"}})
        await asker.ask("generate", "g", {"prompt": "count to 60", "max_tokens": 200})
        await views.until(lambda: any(one["answer_tokens"] > 5 for one in views.items.get("requests", {}).values()))
        killed = await views.ask("engine_kill", "k", {})
        assert killed["data"]["worker_pid"] > 0
        began = time.monotonic()
        await views.until(lambda: views.items["tree"]["inference/engines/1"]["restarts"] == 1)
        assert str(signal.SIGKILL.value) in views.items["tree"]["inference/engines/1"]["last_error"]
        print(f"seen {time.monotonic() - began:.2f} s after the kill")
        events = await asker.stream("g")
        assert "".join(one["data"].get("text", "") for one in events) == count_to(60)
        await views.until(lambda: next(iter(views.items["requests"].values()))["state"] == "ended")
        assert next(iter(views.items["requests"].values()))["engine_restarts"] == 1
        assert {one["message_type"] for batch in views.trace for one in batch["records"]} >= {"AdmitRow"}
        # The collector itself is started again: the page goes on with a whole state.
        frames = views.frames["tree"]
        await server.inspect({"command": "restart", "path": "monitoring"})
        await views.until(lambda: views.frames["tree"] > frames and views.rest["tree"]["is_whole"])


async def test_mo9_commands_of_operators_need_the_role(server: RunningServer) -> None:
    access = server.system.reference("access")
    user = await access.ask(CreateToken(client_ids=("ann",)), timeout=60)
    operator = await access.ask(CreateToken(client_ids=("op",), roles=("operator",)), timeout=60)
    async with server.peer(hello=False) as peer, server.peer(hello=False) as other:
        await peer.hello("ann", token=user.token)
        for number, (kind, data) in enumerate(
            {
                "watch": {"topics": ["tree"]},
                "actor_state": {"path": "tasks"},
                "actor_restart": {"path": "tasks"},
                "actor_suspend": {"path": "tasks"},
                "actor_resume": {"path": "tasks"},
                "engine_kill": {},
                "token_list": {},
                "token_create": {"client_ids": ["ann"], "roles": ["operator"]},
                "token_revoke": {"token_id": operator.description.token_id},
            }.items()
        ):
            answer = await peer.ask(kind, f"c{number}", data)
            assert (answer["type"], answer["data"].get("code")) == ("error", "forbidden"), kind
        await other.hello("op", token=operator.token)
        listed = await other.ask("token_list", "l", {})
        assert [one["token_id"] for one in listed["data"]["tokens"] if not one["is_local"]] == [
            user.description.token_id,
            operator.description.token_id,
        ]
        assert operator.token not in json.dumps(listed)
        made = (await other.ask("token_create", "m", {"client_ids": ["bob"], "name": "phone"}))["data"]
        assert made["token"].startswith(f"lv_{made['description']['token_id']}_")
        revoked = await other.ask("token_revoke", "r", {"token_id": user.description.token_id})
        assert revoked["data"]["revoked_ms"] > 0
        assert await peer.close_code() == 4401


async def test_mo10_what_is_looked_through_is_not_stopped_through_itself(server: RunningServer) -> None:
    async with server.peer() as peer:
        for number, path in enumerate(("monitoring", "root", "connections", "connections/sockets")):
            answer = await peer.ask("actor_restart", f"c{number}", {"path": path})
            assert (answer["type"], answer["data"]["code"]) == ("error", "conflict"), answer
        restarted = await peer.ask("actor_restart", "t", {"path": "tasks"})
        assert restarted["data"] == {"path": "tasks", "incarnation": 2}
        unknown = await peer.ask("actor_restart", "u", {"path": "nobody"})
        assert unknown["data"]["code"] == "conflict"
        busy = await peer.ask("actor_state", "s", {"path": "tasks"})
        assert isinstance(busy["data"]["snapshot"], dict)
        assert busy["data"]["stack"]
