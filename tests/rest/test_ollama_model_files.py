"""Models fetched and removed over Ollama's API: the real command in its process, a hub of our own, progress, trouble, roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.access.messages import CreateToken
from actors.rest.ollama import model_files
from tests.inference.models.local_hub import Hub, serving
from tests.inference.models.small_checkpoints import write_small
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "small"
    write_small(folder)
    with serving(Hub()) as running:
        running.add_folder(folder)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield running


async def pull(server: RunningServer, name: str) -> list[dict[str, Any]]:
    async with server.http() as http:
        response = await http.post("/api/pull", json={"model": name}, timeout=120)
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


async def test_ol8_a_model_is_pulled_with_its_progress_and_removed(tmp_path: Path, hub: Hub) -> None:
    cache = tmp_path / "cache"
    folder = cache / "models" / "someone--small"
    async with running_server(tmp_path, cache_dir=cache) as server, server.http() as http:
        lines = await pull(server, "someone/small:latest")
        assert lines[0] == {"status": "pulling manifest"}
        assert lines[-1] == {"status": "success"}
        told = [one for one in lines if "total" in one]
        assert told
        assert told[-1]["status"] == "pulling someone/small"
        assert told[-1]["completed"] == told[-1]["total"] > 0
        assert (folder / "config.json").is_file()
        again = await http.post("/api/pull", json={"name": "someone/small", "stream": False}, timeout=120)
        assert again.json() == {"status": "success"}
        removed = await http.request("DELETE", "/api/delete", json={"model": "someone/small"}, timeout=120)
        assert (removed.status_code, removed.content) == (200, b"")
        assert not folder.exists()


async def test_ol9_what_goes_wrong_is_told_in_the_commands_words(tmp_path: Path, hub: Hub) -> None:
    async with running_server(tmp_path, cache_dir=tmp_path / "cache") as server, server.http() as http:
        (*_, last) = await pull(server, "someone/else")
        assert "someone/else" in last["error"]
        whole = await http.post("/api/pull", json={"model": "someone/else", "stream": False}, timeout=120)
        assert whole.status_code == 503
        assert "someone/else" in whole.json()["error"]
        for name in ("--help", "../x", "/etc", "a/b/c", ""):
            refused = await http.post("/api/pull", json={"model": name})
            assert (refused.status_code, set(refused.json())) == (400, {"error"})
        missing = await http.request("DELETE", "/api/delete", json={"model": "someone/else"})
        assert (missing.status_code, missing.json()) == (404, {"error": "model 'someone/else' not found"})
        in_use = await http.request("DELETE", "/api/delete", json={"model": "mock"})
        assert (in_use.status_code, in_use.json()) == (409, {"error": "model 'mock' is in use"})


async def test_fetching_and_removing_are_an_operators(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        made = await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
        async with server.http(headers={"Authorization": f"Bearer {made.token}"}) as http:
            for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete")):
                refused = await http.request(method, path, json={"model": "x/y"})
                assert (refused.status_code, set(refused.json())) == (403, {"error"})


async def test_ol10_a_client_that_leaves_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "SIGN_OF_LIFE_SECONDS", 0.1)
    alive = tmp_path / "alive"
    script = f'echo $$ > {alive}; echo \'{{"completed": 1, "total": 2}}\'; sleep 600'
    pulling: list[str] = []
    told: list[dict[str, Any]] = []
    progress = model_files._pull(["sh", "-c", script], "x", pulling)
    async for one in progress:
        told.append(one)
        if len(told) == 4:
            break
    assert pulling == ["x"]
    with pytest.raises(model_files._Failed, match="x is being pulled"):
        await anext(model_files._pull(["true"], "y", pulling))
    await progress.aclose()
    assert told[1:] == [{"status": "pulling x", "completed": 1, "total": 2}] * 3
    assert pulling == []
    pid = int(alive.read_text())
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), what="the command's end")
