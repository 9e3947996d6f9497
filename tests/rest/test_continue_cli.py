"""Continue's program for terminals, `cn`, unmodified, with the settings of `docs/guides/editors.md`.

It reads the same `config.yaml` as Continue in VS Code and in JetBrains' editors do. The server is the real one with the mock engine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.javascript.tools import npm_file
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
PROGRAM = REPOSITORY / "tests" / "node" / "node_modules" / "@continuedev" / "cli" / "dist" / "cn.js"
NO_TOOLS = ["--exclude", "*"]
"""It offers its tools to the model otherwise."""


def settings_of_readme() -> str:
    """The YAML that the guide tells people to copy."""
    text = (REPOSITORY / "docs" / "guides" / "editors.md").read_text()
    found = re.search(r"`~/\.continue/config\.yaml`.*?```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def command(server: RunningServer, folder: Path, *arguments: str, model: str = "mock") -> dict[str, Any]:
    """What starts it in a folder of its own: command, folder and environment. It tells nobody of it and renews nothing."""
    if not PROGRAM.exists():
        pytest.skip("@continuedev/cli is not installed; ./scripts/prepare_javascript does it")
    settings = settings_of_readme()
    assert "http://127.0.0.1:8000/v1" in settings
    assert "model: embedded" in settings
    config = folder / "config.yaml"
    config.write_text(
        settings.replace("http://127.0.0.1:8000", server.about.rest_url).replace("model: embedded", f"model: {model}")
    )
    quiet = {"CONTINUE_CLI_ENABLE_TELEMETRY": "0", "CONTINUE_METRICS_ENABLED": "0", "CONTINUE_CLI_AUTO_UPDATED": "1"}
    return {
        "command": [str(npm_file(".bin/node")), str(PROGRAM), "--config", str(config), *arguments],
        "cwd": folder,
        "env": {"PATH": os.environ["PATH"], "HOME": str(folder), "CONTINUE_GLOBAL_DIR": str(folder), **quiet},
    }


async def run(started: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(60):
        return await trio.run_process(**started, stdin=b"", capture_stdout=True, capture_stderr=True, check=False)


@pytest.mark.parametrize("arguments", [(), NO_TOOLS], ids=["tools", "no tools"])
async def test_it_answers_with_the_settings_of_readme(
    server: RunningServer, tmp_path: Path, arguments: list[str]
) -> None:
    done = await run(command(server, tmp_path, *arguments, "-p", "count to 12"))
    assert (done.returncode, done.stdout.decode().strip()) == (0, count_to(12)), done.stderr


@pytest.mark.parametrize(
    ("arguments", "model", "words"),
    [
        (NO_TOOLS, "gpt-4o", "404 the model 'gpt-4o' is not loaded; 'mock' is"),
    ],
    ids=["another model"],
)
async def test_it_shows_its_people_what_is_to_be_set(
    server: RunningServer, tmp_path: Path, arguments: list[str], model: str, words: str
) -> None:
    await server.until_engine_is("ready")
    done = await run(command(server, tmp_path, *arguments, "-p", "count to 12", model=model))
    assert done.returncode == 1
    told = json.loads(done.stderr)
    assert told["status"] == "error"
    assert told["message"].startswith(words)


async def test_its_end_in_the_middle_of_an_answer_frees_the_row(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.01) as server:
        started = command(server, tmp_path, *NO_TOOLS, "-p", "count to 900")
        program = await trio.lowlevel.open_process(
            **started, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:

            async def is_answered() -> bool:
                return (await server.engine()).running == 1

            await eventually(is_answered, what="the answer began")
            program.send_signal(signal.SIGINT)
            await server.until_no_row_is_taken()
        finally:
            program.kill()
            await program.wait()
        assert (await server.snapshot("inference/inference"))["finished"]["cancelled"] == 1
