"""The official `openai` package for Node, unmodified, against the real server with the mock engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.server_fixture import count_to, running_server

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[1] / "node"


@pytest.fixture(scope="module")
def node() -> str:
    """The program; its package is installed by `npm install` in tests/node, as `.ci/run` does."""
    found = shutil.which("node")
    if found is None or not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.skip("node is missing, or `npm install --no-package-lock` was not run in tests/node")
    return found


async def test_the_node_client_lists_asks_streams_fails_and_leaves(node: str, tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server:

        def run() -> subprocess.CompletedProcess[str]:
            command = [node, str(FOLDER / "openai_client.mjs"), f"{server.about.rest_url}/v1"]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        done = await trio.to_thread.run_sync(run)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["models"] == ["mock", "all-minilm-l6-v2"]
        assert (found["whole"]["text"], found["whole"]["reason"]) == (count_to(12), "stop")
        assert found["whole"]["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        for name in ("text", "usage", "tokens"):
            assert found["streamed"][name] == found["whole"][name]
        assert found["streamed"]["reasons"][-1] == "stop"
        assert found["gathered"] == count_to(12)
        assert found["completion"] == "1 2 3"
        refused = {"kind": "BadRequestError", "status": 400, "code": "invalid_field"}
        assert found["errors"] == {
            "model": {"kind": "NotFoundError", "status": 404, "param": "model", "code": "model_not_found"},
            "n": {**refused, "param": "n"},
            "tools": {**refused, "param": "tools[0].function"},
        }
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"]["cancelled"] == 1
