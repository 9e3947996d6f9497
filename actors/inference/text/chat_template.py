"""Chat templates: the model's own Jinja template, rendered in a sandbox.

The environment is the one that checkpoints are written for, which is transformers' (`utils/chat_template_utils.py`).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from actors.inference.text.generic_tools import GENERIC_FORMAT, plain_turns
from actors.inference.text.special_texts import Guard
from actors.inference.tools import GenerateWithTools, ToolCallFormat
from protocol.commands import ChatMessage, Role

__all__ = ["ChatTemplate", "TemplateRefused"]


_OTHER_WORDS = "and other words"
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
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens
        own_format = _tool_call_format(environment, source)
        self.has_tools = own_format is not None
        """Whether it has tools itself, and writes calls in a form that we read. Else they are described in a message."""
        self.tool_call_format = own_format or GENERIC_FORMAT
        """How calls of tools are written in its prompts."""

    def render(self, messages: Sequence[ChatMessage], guard: Guard | None = None) -> str:
        """The prompt text, ending where the assistant's answer begins; with guards where the messages need any.

        Raises `TemplateRefused`, also for a system message that the template would leave out: some have no place
        for one and pass over it without a word.
        """
        turns = [{"role": one.role.value, "content": one.content} for one in messages]
        text = self._render(turns, None, guard)
        self._check_system_turns(turns, None, text, guard)
        return text

    def render_with_tools(self, request: GenerateWithTools, guard: Guard | None = None) -> str:
        """The same for a chat with tools.

        Raises `TemplateRefused`, also for a template that writes calls otherwise than the request expects, and for
        a function that it would leave out.
        """
        if self.tool_call_format is not request.tool_call_format:
            raise TemplateRefused("this model's chat template calls tools in another form")
        if self.has_tools:
            text = self._render(request.turns, request.tools, guard)
            self._check_system_turns(request.turns, request.tools, text, guard)
        else:
            text = self._render_generic(request, guard)
        plain = text if guard is None else guard.removed(text)
        for tool in request.tools or ():
            if tool["function"]["name"] not in plain:
                raise TemplateRefused(f"it leaves out the function {tool['function']['name']}")
        return text

    def _render_generic(self, request: GenerateWithTools, guard: Guard | None) -> str:
        """For a template without tools: they are described in a message, of the system where there is a place for one."""
        turns, tools = request.turns, request.tools
        if guard is not None:
            # Here already: the marks that are written round calls are not the messages' own.
            turns, tools = guard.applied(turns), guard.applied(tools)
        plain = plain_turns(turns, tools)
        try:
            text = self._render(plain)
        except TemplateRefused:
            if not tools:
                raise
            text = ""
        if tools and plain[0]["content"].strip() not in text:
            plain = plain_turns(turns, tools, has_system=False)
            text = self._render(plain)
        self._check_system_turns(plain, None, text, None)
        return text

    def _render(
        self, turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, guard: Guard | None = None
    ) -> str:
        # As transformers does: templates test whether a field is there, and would write "None".
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        if guard is not None:
            turns, tools = guard.applied(turns), guard.applied(tools)
        try:
            return self._template.render(
                messages=turns, tools=tools, add_generation_prompt=True, **self._special_tokens
            )
        except Exception as error:
            # Border: the template is the checkpoint's program, and may fail as programs do.
            words = str(error) or type(error).__name__
            raise TemplateRefused(words if guard is None else guard.removed(words)) from error

    def _check_system_turns(
        self, turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None, text: str, guard: Guard | None
    ) -> None:
        plain = text if guard is None else guard.removed(text)
        for place, turn in enumerate(turns):
            content = turn.get("content")
            # Templates trim what they are given.
            if turn["role"] != Role.SYSTEM.value or not isinstance(content, str) or content.strip() in plain:
                continue
            # Written otherwise (as JSON, line by line), or not at all: then other words make the same prompt.
            others = [*turns[:place], {**turn, "content": f"{content} {_OTHER_WORDS}"}, *turns[place + 1 :]]
            if self._render(others, tools, guard) == text:
                raise TemplateRefused(_LEFT_OUT)


class _GenerationBlocks(jinja2.ext.Extension):
    """`{% generation %}` marks what a model learns to write; for a prompt it is what is in it."""

    tags = {"generation"}  # noqa: RUF012  as the library declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _tool_call_format(environment: jinja2.Environment, source: str) -> ToolCallFormat | None:
    # The variable and not the word: what a template only mentions, it is not given.
    if "tools" not in jinja2.meta.find_undeclared_variables(environment.parse(source)):
        return None
    # Some models write XML between the same marks.
    if "<function=" in source:
        return None
    return next((one for one in ToolCallFormat if one.opening in source), None)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """In transformers' order, since templates name some by place. Jinja's own would escape `<` and `&` for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
