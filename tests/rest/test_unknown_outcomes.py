"""A write that was kept is never told as refused: neither where the writer ends right after its commit, nor where the asker of the
writer does, nor where the command comes again to a server that can write nothing. Real trees, both transports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors.errors import CommandError, error_from_fault
from actors.rest.openai.errors import openai_error
from actors.rest.problems import problem_of
from actors.storage import readers, writer
from actors.tasks.messages import ListTasks
from actors.tasks.store import READS
from protocol.errors import ErrorCode
from runtime import ActorDead
from runtime.testing import crash
from tests.server_fixture import RunningServer, eventually

pytestmark = [pytest.mark.integration]

Strike = Callable[..., None]


class Struck(Exception):
    """What ends an actor here."""


@pytest.fixture
def strike(engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Strike:
    """Let the next call of a module's function in its thread end an actor once it has returned, and before anybody hears of it."""

    def set_up(module: Any, name: str, path: str, *, when: Callable[..., bool] = lambda *_: True) -> None:
        carry_out = getattr(module, name)

        def strike_after(*arguments: Any, **named: Any) -> Any:
            result = carry_out(*arguments, **named)
            if not when(*arguments):
                return result
            monkeypatch.setattr(module, name, carry_out)
            trio.from_thread.run_sync(crash, engineless_server.system, path, Struck())
            return result

        monkeypatch.setattr(module, name, strike_after)

    return set_up


async def kept(server: RunningServer, path: str = "/tasks/tester") -> list[str]:
    """Titles of what there is, once it can be read again."""
    async with server.http() as http:
        while True:
            answer = await http.get(path)
            if answer.status_code == 200:
                return [
                    one["title"] for one in answer.json()["tasks" if path.startswith("/tasks") else "notifications"]
                ]
            await trio.sleep(0.05)


@pytest.mark.parametrize("path", ["storage/writer", "tasks"])
async def test_uo_a_write_over_rest_whose_actor_ends_after_the_commit_is_not_told_as_refused(
    engineless_server: RunningServer, strike: Strike, path: str
) -> None:
    headers = {"Idempotency-Key": "once"}
    async with engineless_server.http() as http:
        strike(writer, "_carry_out_watched", path)
        answer = await http.post("/tasks/tester", json={"title": "kept"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert "not known whether the change was stored" in answer.json()["detail"]
        assert await kept(engineless_server) == ["kept"]

        async def is_made() -> bool:
            return (await http.post("/tasks/tester", json={"title": "kept"}, headers=headers)).status_code == 201

        await eventually(is_made, what="the first outcome told again")
    assert await kept(engineless_server) == ["kept"]


@pytest.mark.parametrize("path", ["storage/writer", "notifications/dispatcher"])
async def test_uo_so_is_a_notification(engineless_server: RunningServer, strike: Strike, path: str) -> None:
    async with engineless_server.http() as http:
        body = {"template": "message", "fields": {"title": "kept", "body": "b"}}
        strike(writer, "_carry_out_watched", path)
        answer = await http.post("/notifications/tester", json=body)
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert await kept(engineless_server, "/notifications/tester") == ["kept"]


@pytest.mark.websocket
@pytest.mark.parametrize("path", ["storage/writer", "tasks"])
async def test_uo_a_write_over_websocket_whose_actor_ends_after_the_commit_is_not_told_as_refused(
    engineless_server: RunningServer, strike: Strike, path: str
) -> None:
    async with engineless_server.peer() as peer:
        strike(writer, "_carry_out_watched", path)
        await peer.send("task_create", "once", {"title": "kept"})
        assert (await answer_of(peer, "once"))["data"]["code"] == "deadline_exceeded"
        while True:
            await peer.send("task_create", "once", {"title": "kept"})
            again = await answer_of(peer, "once")
            if again["type"] == "result":
                break
            assert again["data"]["temporary"]
            await trio.sleep(0.05)
    assert await kept(engineless_server) == ["kept"]


async def answer_of(peer: Any, command_id: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = await peer.receive()
        if message.get("re") == command_id:
            return message


async def test_uo_a_read_that_was_under_way_changes_nothing_and_may_just_be_repeated(
    engineless_server: RunningServer, strike: Strike
) -> None:
    async with engineless_server.http() as http:
        strike(readers, "_run", "storage/readers", when=lambda _, query, __: query is READS[ListTasks])
        answer = await http.get("/tasks/tester")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_uo_the_words_are_the_same_over_every_transport() -> None:
    begun = ActorDead("storage/writer", 1, "crashed", has_begun=True)
    told = error_from_fault(begun, writes=True)
    assert isinstance(told, CommandError)
    body, status = openai_error(problem_of(told.code, told.message))
    assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
    assert error_from_fault(Struck(), writes=True) is None
    waited = error_from_fault(ActorDead("storage/writer", 1, "crashed"), writes=True)
    read = error_from_fault(begun, writes=False)
    assert waited is not None
    assert read is not None
    assert (waited.code, read.code) == (ErrorCode.UNAVAILABLE, ErrorCode.UNAVAILABLE)
