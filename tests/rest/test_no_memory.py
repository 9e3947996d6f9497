"""What fails for want of memory: refused before it is begun where that can be seen, and told as what it is where not."""

from __future__ import annotations

from typing import Any

import pytest

from actors import process_memory
from actors.rest.asgi_connection import BodyMemory
from actors.tasks.actor import Tasks
from tests.server_fixture import RunningServer

MEBIBYTE = 1024 * 1024
PATHS = (
    ("/ai/process", '"code": "unavailable"'),
    ("/v1/chat/completions", '"code":"unavailable"'),
    ("/v1/messages", '"type":"error"'),
    ("/api/chat", '"error":"the server has no memory for this now"'),
)
"""And what its API calls a server that cannot do this now."""


def test_op33_bodies_hold_room_until_they_have_been_read() -> None:
    left = [10 * MEBIBYTE]
    room = BodyMemory(lambda: left[0])
    with room.held(MEBIBYTE) as first, room.held(MEBIBYTE) as second:
        assert first
        assert second
        with room.held(MEBIBYTE) as third, room.held(1000) as small:
            assert not third
            assert small, "what is small is taken as it comes"
    left[0] = MEBIBYTE
    with room.held(MEBIBYTE) as has_room:
        assert not has_room
    with BodyMemory(lambda: None).held(1000 * MEBIBYTE) as has_room:
        assert has_room, "there is no limit"


@pytest.mark.integration
async def test_op34_what_fails_for_want_of_memory_is_unavailable_over_every_api_wherever_it_fails(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a body is collected, where no handler of errors is in reach; in a route; and in an actor."""
    monkeypatch.setattr(process_memory, "_shortages", [])

    def no_memory(*_: Any, **__: Any) -> Any:
        raise MemoryError

    def no_thread(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")

    async def fail_to_describe(*_: Any, **__: Any) -> Any:
        raise MemoryError

    async with engineless_server.http() as http:
        for target, fail in (
            ("quart.wrappers.request.Body.append", no_memory),
            ("actors.rest.services.parse_object", no_thread),
        ):
            monkeypatch.setattr(target, fail)
            for path, word in PATHS:
                monkeypatch.setattr("actors.rest.bodies.object_in_steps", fail)
                answer = await http.post(path, content=b"{}")
                assert (answer.status_code, word in answer.text) == (503, True), answer.text
                assert answer.headers["retry-after"] == "5"
            monkeypatch.undo()
        handle = Tasks.handle

        async def fail_in_actor(self: Tasks, message: Any) -> Any:
            if type(message).__name__.startswith("Describe"):
                return await handle(self, message)
            raise MemoryError

        monkeypatch.setattr(Tasks, "handle", fail_in_actor)
        read = await http.get("/tasks/me")
        assert (read.status_code, read.json()["code"]) == (503, "unavailable")
        # Whether it was kept before that nobody knows.
        written = await http.post("/tasks/me", json={"title": "x"})
        assert (written.status_code, written.json()["code"]) == (504, "deadline_exceeded")
        monkeypatch.undo()
        assert "memory was short" in str((await http.get("/health/ready")).json()["reasons"])
        assert (await http.post("/tasks/me", json={"title": "x"})).status_code == 201
