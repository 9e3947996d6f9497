"""Serving promise 23: one client id can neither read, change, cancel nor guess what belongs to another.

Every command and every REST route is tried; a new one fails here until it is listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import frozen
from quart_trio import QuartTrio

from actors.access.messages import CreateToken, MadeToken
from actors.rest import all_routes
from actors.rest.auth import ENTRY_PATH, PUBLIC_PATHS, needs_operator
from protocol.commands import COMMANDS
from protocol.operators import OPERATOR_COMMANDS
from tests.protocol.command_samples import VALID
from tests.server_fixture import Peer, RunningServer, running_server

pytestmark = pytest.mark.integration

SECRET = "owners-secret-words"
"""Part of everything that the owner creates; nothing sent to the stranger may contain it."""


@frozen(kw_only=True)
class House:
    """A server with two people: an owner with data, and a stranger who tries to reach it."""

    server: RunningServer
    owner_token: MadeToken
    stranger_token: MadeToken
    owner: Peer
    stranger: Peer
    http: httpx.AsyncClient
    task_id: str
    """A task of the owner."""

    async def owners_things(self) -> list[Any]:
        """Return what the owner sees: the same before and after whatever the stranger does."""
        headers = {"Authorization": f"Bearer {self.owner_token.token}"}
        found = [await self.http.get(f"/tasks/owner{path}", headers=headers) for path in ("", "/board")]
        assert [one.status_code for one in found] == [200, 200]
        assert SECRET in found[0].text
        return [one.json() for one in found]


Attempt = Callable[[House], Awaitable[None]]


async def attempt(house: House, kind: str, data: Any) -> dict[str, Any]:
    """Run the stranger's command. Returns the answer, which must hold nothing of the owner's."""
    answer = await house.stranger.ask(kind, f"try-{kind}", data)
    assert SECRET not in json.dumps(answer)
    return answer


async def start_owners_stream(house: House) -> str:
    """Start a generation of the owner. Returns the name of its stream."""
    await house.owner.send("generate", "mine", {"prompt": f"count to 5000 {SECRET}"})
    while True:
        answer = await house.owner.receive()
        if answer["type"] == "accepted":
            return str(answer["data"]["stream"])


async def owner_still_gets_text(house: House) -> None:
    """Assert that the stream continues."""
    for _ in range(3):
        event = await house.owner.receive()
        assert event["type"] == "token", event


async def cancel_anothers(house: House) -> None:
    stream = await start_owners_stream(house)
    for target in ("mine", stream[:64]):
        answer = await house.stranger.ask("cancel", f"c-{target[:8]}", {"target": target})
        # Refused, or there was nothing to cancel; never a success.
        assert answer["type"] == "error" or answer["data"] == {"cancelled": False}, answer
    await owner_still_gets_text(house)
    await house.owner.send("cancel", "end", {"target": "mine"})


async def resume_anothers(house: House) -> None:
    stream = await start_owners_stream(house)
    for epoch in ("guess", "0"):
        answer = await attempt(house, "resume", {"stream": stream, "epoch": epoch, "seq": 0})
        if answer["type"] == "result":
            assert answer["data"]["resumed"] is False
            assert not answer["data"].get("snapshot", {}).get("text")
    await owner_still_gets_text(house)
    await house.owner.send("cancel", "end", {"target": "mine"})


async def ask_how_far_anothers_is(house: House) -> None:
    stream = await start_owners_stream(house)
    answer = await house.stranger.ask("generation_progress", "p", {"stream": stream})
    assert answer["data"] == {"state": "over", "waiting": 0, "prompt_tokens": 0, "read_tokens": 0}
    await owner_still_gets_text(house)
    await house.owner.send("cancel", "end", {"target": "mine"})


async def acknowledge_anothers(house: House) -> None:
    stream = await start_owners_stream(house)
    await house.stranger.send("ack", data={"stream": stream, "seq": 2**40})
    assert (await house.stranger.ask("ping", "after", 1))["type"] in ("pong", "error")
    await owner_still_gets_text(house)
    await house.owner.send("cancel", "end", {"target": "mine"})


async def read_anothers_conversation(house: House, kind: str) -> None:
    """The owner has a conversation; the stranger names it, or asks for a list."""
    await house.owner.send("assist", "mine", {"intent": "ask", "content": SECRET, "conversation": "one"})
    while (await house.owner.receive())["type"] != "done":
        pass
    answer = await attempt(house, kind, VALID[kind])
    if kind == "conversation_list":
        assert answer["type"] == "result", answer
        assert '"one"' not in json.dumps(answer)
    else:
        assert answer["data"]["code"] == "not_found", answer
    await house.owner.send("conversation_get", "kept", {"conversation": "one"})
    while (kept := await house.owner.receive()).get("re") != "kept":
        pass
    assert SECRET in json.dumps(kept), kept


async def owner_asks(house: House, command_id: str, kind: str, data: Any) -> Any:
    """Run a command of the owner. Returns the data of its result."""
    await house.owner.send(kind, command_id, data)
    while (answer := await house.owner.receive()).get("re") != command_id:
        pass
    assert answer["type"] == "result", answer
    return answer["data"]


async def reach_for_anothers_notifications(house: House, kind: str) -> None:
    """The owner has a device and possibly notifications; the stranger names the same ones."""
    await owner_asks(house, "device", "device_register", VALID["device_register"])
    reads = ("notification_list", "device_list", "notification_preferences")
    before = [await owner_asks(house, f"before-{one}", one, {}) for one in reads]
    await attempt(house, kind, VALID[kind])
    assert [await owner_asks(house, f"after-{one}", one, {}) for one in reads] == before


async def say_hello_as_another(house: House) -> None:
    async with house.server.peer(hello=False) as peer:
        answer = await peer.ask("hello", "1", {"client_id": "owner", "token": house.stranger_token.token})
        assert answer["data"]["code"] == "forbidden"
        assert await peer.close_code() == 4403


async def resume_anothers_in_hello(house: House) -> None:
    await say_hello_as_another(house)
    stream = await start_owners_stream(house)
    async with house.server.peer(hello=False) as peer:
        welcome = await peer.hello(
            "stranger",
            token=house.stranger_token.token,
            resume=[{"stream": stream, "epoch": "guess", "seq": 0}],
        )
        (resumed,) = welcome["resumed"]
        assert resumed["resumed"] is False
        assert SECRET not in json.dumps(welcome)
    await house.owner.send("cancel", "end", {"target": "mine"})


async def only_of_its_own(house: House) -> None:
    """A command that names nothing of others: its effects are reported to its own client alone."""
    await house.stranger.send("generate", "theirs", {"prompt": "count to 3"})
    while (await house.stranger.receive())["type"] != "done":
        pass
    await house.owner.send("ping", "alone", "what came before this")
    while (told := await house.owner.receive())["type"] != "pong":
        # Late news of the owner's own things.
        assert told["type"] in ("task_created", "notification"), told


async def touches_nothing(house: House) -> None:
    """A command without any reference to stored data."""
    for kind, data in (("ping", 1), ("subscribe", {"channels": []})):
        await attempt(house, kind, data)


async def name_anothers(house: House, kind: str) -> None:
    """Send the least valid data of the command, with every id in it one of the owner's."""
    text = json.dumps(VALID[kind])
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", house.task_id, text)
    answer = await attempt(house, kind, json.loads(text))
    if "task_id" in text:
        assert house.task_id in text, f"{kind} has no UUID for its task in VALID"
    if kind in NAMES_A_TASK:
        assert answer["data"]["code"] == "not_found", answer
    else:
        assert house.task_id not in json.dumps(answer)


async def command_as_an_operator(house: House, kind: str) -> None:
    answer = await attempt(house, kind, VALID[kind])
    assert (answer["type"], answer["data"]["code"]) == ("error", "forbidden"), answer


NAMES_A_TASK = frozenset({"task_update", "task_move", "task_delete", "task_decide", "task_get", "task_history"})
COMMAND_ATTEMPTS: dict[str, Attempt] = {
    "hello": resume_anothers_in_hello,
    "ping": touches_nothing,
    "pong": touches_nothing,
    "subscribe": touches_nothing,
    "generate": only_of_its_own,
    "assist": only_of_its_own,
    "cancel": cancel_anothers,
    "generation_progress": ask_how_far_anothers_is,
    "resume": resume_anothers,
    "ack": acknowledge_anothers,
    **{kind: partial(command_as_an_operator, kind=kind) for kind in OPERATOR_COMMANDS},
    **{
        kind: partial(read_anothers_conversation, kind=kind)
        for kind in ("conversation_list", "conversation_get", "conversation_choose", "conversation_delete")
    },
    **{
        kind: partial(reach_for_anothers_notifications, kind=kind)
        for kind in (
            "notification_list",
            "notification_read",
            "notification_read_all",
            "notification_preferences",
            "device_register",
            "device_list",
            "device_remove",
        )
    },
    **{
        kind: partial(name_anothers, kind=kind)
        for kind in (
            *sorted(NAMES_A_TASK),
            "task_create",
            "task_bulk",
            "task_limits",
            "task_list",
            "task_board",
            "task_stats",
        )
    },
}
"""How the stranger tries each command on the owner's data."""


PATH_PARTS: dict[str, Callable[[House], str]] = {
    "client_id": lambda _: "owner",
    "task_id": lambda house: house.task_id,
    "name": lambda _: "anything",
    "notification_id": lambda house: house.task_id,
    "device_id": lambda _: "phone",
    # `test_responses.py` tests ownership with an existing one.
    "response_id": lambda _: "resp_0123456789abcdef0123456789abcdef",
    # As with responses, in `test_response_conversations.py`.
    "conversation_id": lambda _: "conv_0123456789abcdef0123456789abcdef",
    "item": lambda _: "msg_0123456789abcdef0123456789abcdef",
}
"""Values of the variables in route addresses: the owner's, if they belong to anyone."""
SHARED_PREFIXES = (
    "/health",
    "/ai/",
    "/api/",
    "/v1/",
    "/models",
    "/programs",
    "/mcp",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/push",
    "/subscriptions/",
)
"""Routes that store nothing per client id, or take it from `X-Client-Id`. All others have it in their address."""


@asynccontextmanager
async def two_people(folder: Path) -> AsyncIterator[House]:
    """Set up the owner and the stranger, each with a token of their own."""
    async with running_server(folder, mock_step_seconds=0.002) as server:
        access = server.system.reference("access")
        owner_token: MadeToken = await access.ask(CreateToken(client_ids=("owner",)), timeout=60)
        stranger_token: MadeToken = await access.ask(CreateToken(client_ids=("stranger",)), timeout=60)
        async with server.peer(hello=False) as owner, server.peer(hello=False) as stranger, server.http() as http:
            await owner.hello("owner", token=owner_token.token)
            await stranger.hello("stranger", token=stranger_token.token)
            created = await http.post(
                "/tasks/owner", json={"title": SECRET}, headers={"Authorization": f"Bearer {owner_token.token}"}
            )
            assert created.status_code == 201, created.text
            assert (await owner.receive())["type"] == "task_created"
            yield House(
                server=server,
                owner_token=owner_token,
                stranger_token=stranger_token,
                owner=owner,
                stranger=stranger,
                http=http,
                task_id=created.json()["id"],
            )


@pytest.mark.parametrize("kind", sorted(COMMANDS))
async def test_no_command_reaches_what_is_anothers(tmp_path: Path, kind: str) -> None:
    assert kind in COMMAND_ATTEMPTS, f"{kind} is a new command: add to COMMAND_ATTEMPTS how a stranger would misuse it"
    async with two_people(tmp_path) as house:
        before = await house.owners_things()
        await COMMAND_ATTEMPTS[kind](house)
        assert await house.owners_things() == before


def test_every_attempt_is_on_a_command_that_exists() -> None:
    assert set(COMMAND_ATTEMPTS) == set(COMMANDS)


def routes(app: QuartTrio) -> list[tuple[str, Any]]:
    """Yield method and rule of every route."""
    return sorted(
        ((method, rule) for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}),
        key=lambda one: (one[1].rule, one[0]),
    )


def address(house: House, rule: Any) -> str:
    """Return the rule with its variables filled in."""
    path: str = rule.rule
    for name in rule.arguments:
        assert name in PATH_PARTS, f"{rule.rule} has a new variable {name}: add to PATH_PARTS what it is of the owner's"
        path = re.sub(rf"<(\w+:)?{name}>", PATH_PARTS[name](house), path)
    return path


async def test_no_route_reaches_what_is_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 23. Each route is requested without a token, by the stranger, and as the owner with the stranger's token."""
    made: list[QuartTrio] = []
    real = all_routes.make_application

    def note(**arguments: Any) -> QuartTrio:
        made.append(real(**arguments))
        return made[-1]

    monkeypatch.setattr(all_routes, "make_application", note)
    async with two_people(tmp_path) as house:
        before = await house.owners_things()
        stranger = {"Authorization": f"Bearer {house.stranger_token.token}"}
        found = routes(made[0])
        assert len(found) > 20
        for method, rule in found:
            path = address(house, rule)
            where = f"{method} {rule.rule}"

            async def ask(method: str = method, path: str = path, where: str = where, **headers: str) -> httpx.Response:
                response = await house.http.request(method, path, headers=headers, json={})
                assert SECRET not in response.text, where
                return response

            if path == ENTRY_PATH:
                # For this server's own page, which has no token to present.
                assert (await ask(**stranger)).status_code == 403, where
                continue
            if path in PUBLIC_PATHS:
                assert (await ask()).status_code in (200, 503), where
                continue
            assert (await ask()).status_code == 401, where
            if needs_operator(path):
                assert (await ask(**stranger)).status_code == 403, where
            elif "client_id" in rule.arguments:
                assert (await ask(**stranger)).status_code == 404, where
            else:
                assert rule.rule.startswith(SHARED_PREFIXES), (
                    f"{where} is a new route without client_id: add its prefix to SHARED_PREFIXES if it keeps nothing of "
                    "one client id, or takes it from X-Client-Id"
                )
                assert (await ask(**stranger, **{"X-Client-Id": "owner"})).status_code == 403, where
        assert await house.owners_things() == before
