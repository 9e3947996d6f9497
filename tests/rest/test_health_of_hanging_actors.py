"""Health answers in time whatever hangs, and says so."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors.access.actor import Access
from actors.inference.actor import Inference
from actors.storage.writer import Writer
from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration


@pytest.fixture(
    params=[(Access, "access"), (Inference, "engine"), (Writer, "storage")], ids=["access", "engine", "storage"]
)
def hanging(request: pytest.FixtureRequest) -> tuple[type[Any], str]:
    """An actor that takes its next message and does not come back, and the word for it."""
    found: tuple[type[Any], str] = request.param
    return found


async def test_op32_health_answers_while_any_actor_hangs_and_says_which_work_cannot_be_done(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch, hanging: tuple[type[Any], str]
) -> None:
    actor, word = hanging
    released = trio.Event()
    handle = actor.handle

    async def hang(self: Any, message: Any) -> Any:
        await released.wait()
        return await handle(self, message)

    monkeypatch.setattr(actor, "handle", hang)
    async with engineless_server.http() as http:
        try:
            paths = ("/health/live", "/health/ready", "/health", "/health/mlx")
            live, ready, whole, engine = [await http.get(path) for path in paths]
            head = await http.head("/health/mlx")
        finally:
            released.set()
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert ready.status_code == 503
    told = ready.json()["reasons"]
    assert engine.status_code == head.status_code == 503
    if word == "access":
        assert word in told
        assert engine.json() == {"status": "degraded", "reasons": ["access"]}
        assert whole.status_code == 503
        assert "engine" not in whole.json(), "nobody can tell who asks"
    else:
        assert any(f"{word} cannot be described" in one for one in told)
        assert whole.status_code == 200
    assert whole.json()["status"] in ("degraded", "loading")
    if word == "engine":
        said = engine.json()
        assert said["status"] == "degraded"
        assert "did not answer" in said["problem"] or "no reply" in said["problem"], said["problem"]
        # What was not measured is not made up.
        assert (said["has_pretrained_weights"], said["running"], said["worker_pid"]) == (None, None, None)
