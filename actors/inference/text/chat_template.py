"""Chat templates: the model's own Jinja template, rendered in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox

from actors.inference.tools import GenerateWithTools, ToolCallFormat
from protocol.commands import ChatMessage, Role

__all__ = ["ChatTemplate", "TemplateRefused"]


_LEFT_OUT = "this model has no place for a message of the role system; put what it says into a user message"


class TemplateRefused(ValueError):
    """The model's template cannot take these messages; the text says why, in the template's words."""


class ChatTemplate:
    """One model's template, compiled once. The settings are those that checkpoints are written for."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """``special_tokens`` has `bos_token` and the like, as templates name them.

        Raises `jinja2.TemplateSyntaxError` for a template that does not compile.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens
        self.tool_call_format = _tool_call_format(environment, source)
        """How it writes calls of tools; None where it has no tools, or writes calls in a form that we do not read."""

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt text, ending where the assistant's answer begins.

        Raises `TemplateRefused`, also for a system message that the template would leave out: some have no place
        for one and pass over it without a word.
        """
        text = self._render([{"role": one.role.value, "content": one.content} for one in messages])
        _check_system_messages(messages, text)
        return text

    def render_with_tools(self, request: GenerateWithTools) -> str:
        """The same for a chat with tools.

        Raises `TemplateRefused`, also for a template that writes calls otherwise than the request expects, and for
        a function that it would leave out.
        """
        if self.tool_call_format is not request.tool_call_format:
            raise TemplateRefused("this model's chat template has no tools, or calls them in another form")
        text = self._render(request.turns, tools=request.tools)
        _check_system_messages(request.messages or (), text)
        for tool in request.tools or ():
            if tool["function"]["name"] not in text:
                raise TemplateRefused(f"it leaves out the function {tool['function']['name']}")
        return text

    def _render(self, turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        try:
            return self._template.render(
                messages=turns, tools=tools, add_generation_prompt=True, **self._special_tokens
            )
        except Exception as error:
            # Border: the template is the checkpoint's program, and may fail as programs do.
            raise TemplateRefused(str(error) or type(error).__name__) from error


def _tool_call_format(environment: jinja2.Environment, source: str) -> ToolCallFormat | None:
    # The variable and not the word: what a template only mentions, it is not given.
    if "tools" not in jinja2.meta.find_undeclared_variables(environment.parse(source)):
        return None
    # Some models write XML between the same marks.
    if "<function=" in source:
        return None
    return next((one for one in ToolCallFormat if one.opening in source), None)


def _check_system_messages(messages: Sequence[ChatMessage], text: str) -> None:
    for one in messages:
        # Templates trim what they are given.
        if one.role is Role.SYSTEM and one.content.strip() not in text:
            raise TemplateRefused(_LEFT_OUT)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
