"""Set-ups for the console: the programs of `leanvibe connect`, then those of the guides. Pure functions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.program_setup.config_edit import edited
from actors.program_setup.programs import NO_TOKEN, PROGRAMS, TOKEN, TOKEN_EXPORT, Served
from protocol.program_setup import ProgramSetup, ProgramSetups, SetupStep

__all__ = ["program_setups"]

HOME = Path("~")


def program_setups(served: Served, line: Callable[..., str]) -> ProgramSetups:
    """Return every set-up. ``line`` formats our commands as typed on the server's machine. Blocking, since it generates YAML."""
    return ProgramSetups(
        address=served.address,
        model=served.model,
        context_tokens=served.context_tokens,
        needs_token=served.has_tokens,
        programs=[*_connected(served, line), *_of_guides(served, line)],
    )


def _connected(served: Served, line: Callable[..., str]) -> list[ProgramSetup]:
    return [
        ProgramSetup(
            program=name,
            name=known.name,
            command=line("connect", name),
            command_elsewhere=f"leanvibe --url {shlex.quote(served.address)} connect {name}",
            file=str(known.file(HOME, {})),
            language=known.form,
            content=edited("", known.form, known.changes(served)),
            steps=_with_token(known.next_steps(served)),
        )
        for name, known in PROGRAMS.items()
    ]


def _with_token(steps: list[SetupStep]) -> list[SetupStep]:
    """Add the step that exports the token, if a later step needs it."""
    return [TOKEN_EXPORT, *steps] if any(f"${TOKEN}" in one.text for one in steps) else steps


def _of_guides(served: Served, line: Callable[..., str]) -> list[ProgramSetup]:
    export = [TOKEN_EXPORT] if served.has_tokens else []
    return [
        ProgramSetup(
            program="command-line",
            name="The command line on another machine",
            language="shell",
            content=f"leanvibe --url {shlex.quote(served.address)} chat\n",
            steps=export,
        ),
        ProgramSetup(program="curl", name="curl", language="shell", content=_curl(served), steps=export),
        ProgramSetup(
            program="openai",
            name="OpenAI's library for Python",
            language="python",
            content=_openai(served),
            steps=export,
        ),
        ProgramSetup(
            program="anthropic",
            name="Anthropic's library for Python",
            language="python",
            content=_anthropic(served),
            steps=export,
        ),
        ProgramSetup(
            program="ollama",
            name="Ollama's library for Python",
            language="python",
            content=_ollama(served),
            steps=export,
        ),
        ProgramSetup(
            program="mcp",
            name="Programs that speak MCP",
            language="json",
            content=_document({"mcpServers": {"leanvibe": _mcp_server(line("mcp"))}}),
            steps=[
                SetupStep(
                    text=f"one that speaks streamable HTTP is told {served.address}/mcp instead, and on another machine always",
                    is_command=False,
                )
            ],
        ),
        ProgramSetup(
            program="jupyterlab",
            name="JupyterLab with Notebook Intelligence",
            file="~/.jupyter/nbi/config.json",
            language="json",
            content=_jupyterlab(served),
            steps=_token_in_place_of(NO_TOKEN, served),
        ),
        ProgramSetup(
            program="vim",
            name="Vim with vim-ai",
            file="~/.vimrc",
            language="vim",
            content=_vim(served),
            steps=[SetupStep(text="put the token into ~/.config/leanvibe.token", is_command=False)]
            if served.has_tokens
            else [],
        ),
    ]


def _token_in_place_of(word: str, served: Served) -> list[SetupStep]:
    if not served.has_tokens:
        return []
    return [
        SetupStep(
            text=f"put the token where the file says {word!r}: this program reads it from there alone", is_command=False
        )
    ]


def _document(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _curl(served: Served) -> str:
    body = json.dumps(
        {"model": served.model, "messages": [{"role": "user", "content": "What is a hash table?"}], "max_tokens": 200},
        ensure_ascii=False,
    )
    headers = ["-H 'Content-Type: application/json'"]
    if served.has_tokens:
        headers.append(f'-H "Authorization: Bearer ${TOKEN}"')
    address = shlex.quote(f"{served.address}/v1/chat/completions")
    return " \\\n  ".join([f"curl {address}", *headers, f"-d {shlex.quote(body)}"]) + "\n"


def _key(served: Served) -> str:
    return f'os.environ["{TOKEN}"]' if served.has_tokens else json.dumps(NO_TOKEN)


def _python(served: Served, library: str, *lines: str) -> str:
    imports = [*(["import os"] if served.has_tokens else []), f"import {library}"]
    return "\n".join([*imports, "", *lines, ""])


def _openai(served: Served) -> str:
    return _python(
        served,
        "openai",
        f"client = openai.OpenAI(base_url={served.address + '/v1'!r}, api_key={_key(served)})",
        'question = [{"role": "user", "content": "What is a hash table?"}]',
        f"answer = client.chat.completions.create(model={served.model!r}, messages=question, max_tokens=200)",
        "print(answer.choices[0].message.content)",
    )


def _anthropic(served: Served) -> str:
    return _python(
        served,
        "anthropic",
        f"client = anthropic.Anthropic(base_url={served.address!r}, api_key={_key(served)})",
        'question = [{"role": "user", "content": "What is a hash table?"}]',
        f"answer = client.messages.create(model={served.model!r}, messages=question, max_tokens=200)",
        "print(answer.content[0].text)",
    )


def _ollama(served: Served) -> str:
    headers = f', headers={{"Authorization": "Bearer " + {_key(served)}}}' if served.has_tokens else ""
    return _python(
        served,
        "ollama",
        f"client = ollama.Client(host={served.address!r}{headers})",
        'question = [{"role": "user", "content": "What is a hash table?"}]',
        f'answer = client.chat(model={served.model!r}, messages=question, options={{"num_predict": 200}})',
        "print(answer.message.content)",
    )


def _mcp_server(line: str) -> dict[str, Any]:
    command, *arguments = shlex.split(line)
    return {"command": command, "args": arguments}


def _jupyterlab(served: Served) -> str:
    properties = {
        "base_url": f"{served.address}/v1",
        "model_id": served.model,
        "api_key": NO_TOKEN,
        "context_window": str(served.context_tokens),
    }
    return _document(
        {
            "chat_model": {
                "provider": "openai-compatible",
                "model": "openai-compatible-chat-model",
                "properties": [{"id": name, "value": value} for name, value in properties.items()],
            },
            "inline_completion_model": {"provider": "none", "model": "none"},
        }
    )


def _vim(served: Served) -> str:
    address, model = (_vim_text(one) for one in (f"{served.address}/v1/chat/completions", served.model))
    key = "let g:vim_ai_token_file_path = '~/.config/leanvibe.token'\n" if served.has_tokens else ""
    entry = "" if served.has_tokens else "auth_type: 'none', "
    return (
        f"{key}let s:leanvibe = #{{\n"
        f"\\   endpoint_url: {address}, {entry}\n"
        f"\\   model: {model}, max_tokens: 300, request_timeout: 60,\n"
        "\\ }\n"
        "let g:vim_ai_chat = #{options: s:leanvibe}\n"
        "let g:vim_ai_complete = #{options: s:leanvibe}\n"
        "let g:vim_ai_edit = #{options: s:leanvibe}\n"
    )


def _vim_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
