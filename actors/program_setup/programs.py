"""Set-up of other programs for this server: the settings file of each, and its contents. Pure functions.

Tokens are never included: each program gets the name of the environment variable from which it reads one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import field, frozen

from actors.program_setup.config_edit import Change
from protocol.program_setup import SetupStep

__all__ = ["NO_TOKEN", "PROGRAMS", "TOKEN", "TOKEN_EXPORT", "Program", "Served"]

TOKEN = "LEANVIBE_TOKEN"  # noqa: S105  the name of a variable
NO_TOKEN = "none"  # noqa: S105  programs want a word where the server wants none
TOKEN_EXPORT = SetupStep(text=f"export {TOKEN}=…   # of `leanvibe token create`", is_command=True)
"""The person fills in the token."""


@frozen(kw_only=True)
class Served:
    """The server's description of itself."""

    address: str
    """`http://127.0.0.1:8000`"""
    model: str
    context_tokens: int
    has_tokens: bool


@frozen(kw_only=True)
class Program:
    """A program that can be set up."""

    name: str
    """Name for people."""
    form: str
    """`json`, `toml` or `yaml`."""
    file: Callable[[Path, Mapping[str, str]], Path]
    """Returns its settings file, given the home folder and the environment."""
    changes: Callable[[Served], list[Change]]
    next_steps: Callable[[Served], list[SetupStep]] = field(default=lambda _: [])
    """Further steps for the person."""


def _answer_tokens(served: Served) -> int:
    """Return the tokens to reserve for an answer, which programs subtract from the context."""
    return max(1, min(8192, served.context_tokens // 4))


def _codex(served: Served) -> list[Change]:
    provider = ("model_providers", "leanvibe")
    changes = [
        Change(path=("model",), value=served.model),
        Change(path=("model_provider",), value="leanvibe"),
        Change(path=("model_context_window",), value=served.context_tokens),
        Change(path=(*provider, "name"), value="LeanVibe"),
        Change(path=(*provider, "base_url"), value=f"{served.address}/v1"),
        Change(path=(*provider, "wire_api"), value="responses"),
    ]
    return [*changes, Change(path=(*provider, "env_key"), value=TOKEN)] if served.has_tokens else changes


def _claude(served: Served) -> list[Change]:
    values = {
        "ANTHROPIC_BASE_URL": served.address,
        "ANTHROPIC_MODEL": served.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": served.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": served.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": served.model,
        **({} if served.has_tokens else {"ANTHROPIC_AUTH_TOKEN": NO_TOKEN}),
    }
    return [Change(path=("env", name), value=value) for name, value in values.items()]


def _opencode(served: Served) -> list[Change]:
    key = f"{{env:{TOKEN}}}" if served.has_tokens else NO_TOKEN
    answer = _answer_tokens(served)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "LeanVibe",
        "options": {"baseURL": f"{served.address}/v1", "apiKey": key},
        "models": {served.model: {"name": served.model, "limit": {"context": served.context_tokens, "output": answer}}},
    }
    return [
        Change(path=("provider", "leanvibe"), value=provider),
        Change(path=("model",), value=f"leanvibe/{served.model}"),
    ]


def _continue(served: Served) -> list[Change]:
    model = {
        "name": "LeanVibe",
        "provider": "openai",
        "model": served.model,
        "apiBase": f"{served.address}/v1",
        "apiKey": f"${{{{ secrets.{TOKEN} }}}}" if served.has_tokens else NO_TOKEN,
        "roles": ["chat", "edit", "apply"],
        "defaultCompletionOptions": {"contextLength": served.context_tokens, "maxTokens": _answer_tokens(served)},
    }
    needed = {"name": "Local", "version": "1.0.0", "schema": "v1"}
    return [
        *(Change(path=(name,), value=value, only_if_missing=True) for name, value in needed.items()),
        Change(path=("models",), value=model, same="name"),
    ]


def _zed(served: Served) -> list[Change]:
    model = {
        "name": served.model,
        "display_name": f"{served.model} (LeanVibe)",
        "max_tokens": served.context_tokens,
        "max_output_tokens": _answer_tokens(served),
        "capabilities": {"tools": True, "images": False, "parallel_tool_calls": True, "prompt_cache_key": False},
    }
    provider = {"api_url": f"{served.address}/v1", "available_models": [model]}
    return [Change(path=("language_models", "openai_compatible", "LeanVibe"), value=provider)]


def _aider(served: Served) -> list[Change]:
    return [
        Change(path=("model",), value=f"openai/{served.model}"),
        Change(path=("openai-api-base",), value=f"{served.address}/v1"),
    ]


def _vscode(served: Served) -> list[Change]:
    answer = _answer_tokens(served)
    model = {
        "id": served.model,
        "name": f"{served.model} (LeanVibe)",
        "url": f"{served.address}/v1/chat/completions",
        "toolCalling": True,
        "vision": False,
        "maxInputTokens": served.context_tokens - answer,
        "maxOutputTokens": answer,
    }
    provider = {"name": "LeanVibe", "vendor": "customendpoint", "apiType": "chat-completions", "models": [model]}
    return [Change(path=(), value=provider, same="name")]


def _exported(name: str) -> Callable[[Served], list[SetupStep]]:
    def steps(served: Served) -> list[SetupStep]:
        value = f'"${TOKEN}"' if served.has_tokens else NO_TOKEN
        return [SetupStep(text=f"export {name}={value}", is_command=True)]

    return steps


def _token_exported(served: Served) -> list[SetupStep]:
    return [TOKEN_EXPORT] if served.has_tokens else []


def _by_hand(text: str) -> Callable[[Served], list[SetupStep]]:
    return lambda served: [SetupStep(text=text, is_command=False)] if served.has_tokens else []


def _config(home: Path, environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config")


def _vscode_file(home: Path, environment: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "Code" / "User" / "chatLanguageModels.json"
    return _config(home, environment) / "Code" / "User" / "chatLanguageModels.json"


PROGRAMS: dict[str, Program] = {
    "codex": Program(
        name="Codex",
        form="toml",
        file=lambda home, environment: Path(environment.get("CODEX_HOME") or home / ".codex") / "config.toml",
        changes=_codex,
        next_steps=_token_exported,
    ),
    "claude-code": Program(
        name="Claude Code",
        form="json",
        file=lambda home, environment: Path(environment.get("CLAUDE_CONFIG_DIR") or home / ".claude") / "settings.json",
        changes=_claude,
        next_steps=lambda served: _exported("ANTHROPIC_AUTH_TOKEN")(served) if served.has_tokens else [],
    ),
    "opencode": Program(
        name="opencode",
        form="json",
        file=lambda home, environment: _config(home, environment) / "opencode" / "opencode.json",
        changes=_opencode,
        next_steps=_token_exported,
    ),
    "continue": Program(
        name="Continue",
        form="yaml",
        file=lambda home, _: home / ".continue" / "config.yaml",
        changes=_continue,
        next_steps=_by_hand(f"put {TOKEN}=… into ~/.continue/.env"),
    ),
    "zed": Program(
        name="Zed",
        form="json",
        file=lambda home, environment: _config(home, environment) / "zed" / "settings.json",
        changes=_zed,
        next_steps=_exported("LEANVIBE_API_KEY"),
    ),
    "aider": Program(
        name="aider",
        form="yaml",
        file=lambda home, _: home / ".aider.conf.yml",
        changes=_aider,
        next_steps=_exported("OPENAI_API_KEY"),
    ),
    "vscode": Program(
        name="VS Code",
        form="json",
        file=_vscode_file,
        changes=_vscode,
        next_steps=_by_hand("enter the token for LeanVibe in Chat: Manage Language Models"),
    ),
}
"""Programs by their names in `leanvibe connect`, in the order of the help."""
