"""`GET /programs`: set-ups with the address that the asker uses, which work as they stand and hold no token."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tomllib
from typing import Any

import pytest
import trio
from ruamel.yaml import YAML

from actors.access.messages import CreateToken, MadeToken
from actors.program_setup.programs import PROGRAMS, Served
from actors.program_setup.setups import program_setups
from tests.server_fixture import RunningServer

FENCES = 'it\'s "here" $(x) `y` \\n'
"""A name that no server would have: whatever it is put into has to quote it."""


def read(language: str, text: str) -> Any:
    match language:
        case "json":
            return json.loads(text)
        case "toml":
            return tomllib.loads(text)
        case "yaml":
            return YAML(typ="safe").load(text)
        case "python":
            return compile(text, "set-up", "exec")
        case "shell":
            return shlex.split(text)
    assert language == "vim"
    return text


@pytest.mark.parametrize("has_tokens", [True, False])
def test_co3_each_set_up_is_what_its_program_reads_and_holds_no_token(has_tokens: bool) -> None:
    served = Served(address="http://[::1]:8000", model=FENCES, context_tokens=8192, has_tokens=has_tokens)
    made = program_setups(served, lambda *words: " ".join(("/opt/a\\ b/leanvibe", *words)))
    assert [one.program for one in made.programs[: len(PROGRAMS)]] == list(PROGRAMS)
    names = [one.program for one in made.programs]
    assert len(names) == len(set(names))
    for one in made.programs:
        assert read(one.language, one.content), one.program
        assert served.address in one.content or one.program == "mcp", one.program
        assert "lv_" not in str(one)
        asks = any("token" in step.text.lower() for step in one.steps)
        assert asks == (has_tokens and one.program != "mcp"), one.program
        for step in one.steps:
            assert not step.is_command or shlex.split(step.text, comments=True)[0] == "export"
    curl = next(one for one in made.programs if one.program == "curl")
    body = json.loads(shlex.split(curl.content)[-1])
    assert body["model"] == FENCES
    mcp = next(one for one in made.programs if one.program == "mcp")
    assert json.loads(mcp.content)["mcpServers"]["leanvibe"] == {"command": "/opt/a b/leanvibe", "args": ["mcp"]}


async def test_co4_the_address_is_the_askers_and_what_is_no_address_is_refused(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.http() as http:
        plain = (await http.get("/programs")).json()
        assert plain["address"] == engineless_server.about.rest_url
        assert plain["needs_token"] is False
        behind = "https://ai.example.org"
        told = (await http.get("/programs", params={"address": behind})).json()
        assert told["address"] == behind
        codex = tomllib.loads(told["programs"][0]["content"])
        assert codex["model_providers"]["leanvibe"]["base_url"] == f"{behind}/v1"
        for wrong in (
            "",
            "x",
            "javascript:alert(1)",
            "http://a/b",
            "http://a b",
            "http://u@h",
            "http://h\n",
            "ftp://h",
        ):
            answer = await http.get("/programs", params={"address": wrong})
            assert (answer.status_code, answer.json()["field"]) == (422, "query.address"), wrong
        document = (await http.get("/openapi.json")).json()
        assert "AnswerProgramSetups" in document["components"]["schemas"]


async def test_co5_paths_of_this_machine_are_told_to_operators_alone(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    folder = str(engineless_server.settings.data_dir)
    async with engineless_server.http() as http:
        assert folder in (await http.get("/programs")).text
        for roles, knows in ((("user",), False), (("operator",), True)):
            made: MadeToken = await access.ask(CreateToken(client_ids=("ann",), roles=roles), timeout=60)
            answer = await http.get("/programs", headers={"Authorization": f"Bearer {made.token}"})
            assert (folder in answer.text) is knows
            assert answer.json()["needs_token"] is True
            assert made.token not in answer.text
        assert (await http.get("/programs")).status_code == 401


@pytest.mark.integration
async def test_co3_what_is_copied_into_a_shell_and_into_python_is_answered(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    access = server.system.reference("access")
    made: MadeToken = await access.ask(CreateToken(client_ids=("ann",)), timeout=60)
    environment = {**os.environ, "LEANVIBE_TOKEN": made.token, "NO_PROXY": "*"}
    async with server.http(headers={"Authorization": f"Bearer {made.token}"}) as http:
        told = (await http.get("/programs")).json()["programs"]
    contents = {one["program"]: one["content"] for one in told}
    commands = [[sys.executable, "-c", contents["openai"]]]
    if shutil.which("curl") is not None:
        commands.append(["bash", "-c", contents["curl"]])
    for command in commands:
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert b"What is a hash table" in done.stdout, done.stdout
