"""`leanvibe connect` asks a server that runs for its model and its context."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from actors.command_line.main import leanvibe
from tests.server_fixture import running_server

pytestmark = pytest.mark.integration


async def test_connect_tells_what_the_running_server_serves(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"

    def run(url: str) -> Result:
        return CliRunner().invoke(leanvibe, ["--url", url, "connect", "codex", "--yes", "--file", str(file)])

    async with running_server(tmp_path) as server:
        url = server.about.rest_url
        told = await trio.to_thread.run_sync(run, url)
        assert told.exit_code == 0, told.output
        written = tomllib.loads(file.read_text())
        async with server.http() as http:
            listed = (await http.get("/v1/models")).json()["data"]
    model = next(one for one in listed if one["capabilities"]["chat"])
    assert written["model"] == model["id"]
    assert written["model_context_window"] == model["context_length"]
    assert written["model_providers"]["leanvibe"]["base_url"] == f"{url}/v1"
    after = file.read_text()
    gone = await trio.to_thread.run_sync(run, url)
    assert gone.exit_code == 1, "a server that does not answer is told, and nothing is written"
    assert file.read_text() == after
