"""What `/health/ready` tells strangers: a word for each reason, and no name of anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.access.messages import CreateToken
from runtime.testing import crash
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

WORD = re.compile(r"[a-z]+")


async def ready(server: RunningServer, token: str | None = None) -> tuple[int, dict[str, list[str]]]:
    async with server.http() as http:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await http.get("/health/ready", headers=headers)
        return answer.status_code, answer.json()


async def test_op_readiness_names_nothing_to_who_has_no_token(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = engineless_server
    server.system.record("inspection").problem = "/home/somebody/data/server.json is not there"
    status, without_tokens = await ready(server)
    assert status == 503
    assert any("engine is loading: starting" in one for one in without_tokens["reasons"]), "nobody is a stranger here"
    made = await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
    # A supervisor that is about to give up, and rooms that do not answer at all.
    for _ in range(3):
        crash(server.system, "tasks", ValueError("a bug at postgresql://role@host:5432"))
        await eventually(lambda: server.system.reference("tasks").is_running)
    monkeypatch.setattr(server.system, "stopping_reason", "SIGTERM from /home/somebody")
    status, stranger = await ready(server)
    assert status == 503
    assert {"stopping", "engine"} <= set(stranger["reasons"])
    assert [one for one in (*stranger["reasons"], *stranger["degraded"]) if not WORD.fullmatch(one)] == []
    status, known = await ready(server, made.token)
    assert status == 503
    assert any("/home/somebody/data/server.json" in one for one in known["degraded"])
    assert any("engine is loading" in one for one in known["reasons"])
    _, guessed = await ready(server, "lv_guess_guess")
    assert guessed == stranger
    # Or nothing would stop it at the end.
    monkeypatch.undo()


async def test_op_every_json_answer_forbids_to_guess_another_type(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False) as server, server.http() as http:
        for path in (
            "/health",
            "/health/live",
            "/health/ready",
            "/tasks/a",
            "/nothing",
            "/tasks/a/nothing",
            "/openapi.json",
        ):
            answer = await http.get(path)
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
