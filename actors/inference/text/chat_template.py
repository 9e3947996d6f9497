"""Chat templates: the model's own Jinja template, rendered in a sandbox.

The environment is the one that checkpoints are written for, which is transformers' (`utils/chat_template_utils.py`).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from actors.inference.text.form_detection import (
    closed_reasoning,
    reasoning_form,
    tool_call_format_of,
    without_reasoning,
)
from actors.inference.text.generic_tools import GENERIC_FORMAT, plain_turns
from actors.inference.text.special_texts import Guard
from actors.inference.tools import GenerateWithTools, is_held
from protocol.generation import ChatMessage, Role

__all__ = ["ChatTemplate", "TemplateRefused"]


_OTHER_WORDS = "and other words"
_LEFT_OUT = "this model's template has no place for a system message; put its content into a user message"


class TemplateRefused(ValueError):
    """The model's template cannot render these messages; the text says why, in the template's words."""


class ChatTemplate:
    """One model's template, compiled once, with the settings that checkpoints are written for."""

    def __init__(self, source: str, special_tokens: dict[str, str], tokens: Collection[str] = ()) -> None:
        """``special_tokens`` has `bos_token` and the like, as templates name them; ``tokens`` holds the text of added
        tokens.

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
        tree = environment.parse(source)
        self._variables = jinja2.meta.find_undeclared_variables(tree)
        own_format = tool_call_format_of(source, tokens) if "tools" in self._variables else None
        self.reasoning = reasoning_form(tree, source, self._variables, tokens)
        """Form of the model's reasoning."""
        self.has_tools = own_format is not None
        """True if it supports tools and writes calls in a known format; otherwise tools are described in a message."""
        self.tool_call_format = own_format or GENERIC_FORMAT
        """Format of tool calls in its prompts."""

    def render(
        self, messages: Sequence[ChatMessage], guard: Guard | None = None, *, answer_is_held: bool = False
    ) -> str:
        """Renders the prompt text up to the beginning of the assistant's answer, with guards where the messages need
        them.

        With ``answer_is_held`` the answer is constrained, so the model cannot reason first.

        Raises `TemplateRefused`, also for a system message that the template would drop: some have no place for one and
        skip it silently.
        """
        turns = self._without_reasoning([{"role": one.role.value, "content": one.content} for one in messages])
        options = self._options(False if answer_is_held else None)
        text = self._render(turns, None, guard, options)
        self._check_system_turns(turns, None, text, guard, options)
        return closed_reasoning(text, self.reasoning, has_call=False) if answer_is_held else text

    def render_with_tools(self, request: GenerateWithTools, guard: Guard | None = None) -> str:
        """Renders the prompt of a chat with tools.

        Raises `TemplateRefused`, also for a template whose call format differs from the request's, and for a function
        that it would drop.
        """
        if self.tool_call_format is not request.tool_call_format:
            raise TemplateRefused("this model's chat template calls tools in another format")
        held = is_held(request)
        options = self._options(False if held else request.thinks, request.reasoning_effort)
        turns = self._without_reasoning(request.turns)
        if self.has_tools:
            text = self._render(turns, request.tools, guard, options)
            self._check_system_turns(turns, request.tools, text, guard, options)
        else:
            text = self._render_generic(turns, request.tools, guard, options)
        plain = text if guard is None else guard.removed(text)
        for tool in request.tools or ():
            if tool["function"]["name"] not in plain:
                raise TemplateRefused(f"it drops the function {tool['function']['name']}")
        if held or request.thinks is False:
            return closed_reasoning(text, self.reasoning, has_call=request.call_rule is not None or not held)
        return text

    def _options(self, thinks: bool | None, effort: str | None = None) -> dict[str, Any]:
        """Options for the template besides the messages, limited to those that it uses."""
        options: dict[str, Any] = {} if thinks is None else {"enable_thinking": thinks, "thinking": thinks}
        if effort is not None or thinks is False:
            # The least that templates support. gpt-oss's always reasons a little.
            options["reasoning_effort"] = {None: "low", "none": "low", "minimal": "low", "xhigh": "high"}.get(
                effort, effort
            )
        return {name: value for name, value in options.items() if name in self._variables}

    def _without_reasoning(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Removes the reasoning from past answers, since clients send back everything they displayed."""
        return [
            {**one, "content": without_reasoning(one["content"], self.reasoning.marks)}
            if one["role"] == Role.ASSISTANT.value and isinstance(one.get("content"), str)
            else one
            for one in turns
        ]

    def _render_generic(
        self,
        turns: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        guard: Guard | None,
        options: dict[str, Any],
    ) -> str:
        """Renders for a template without tools: they are described in a message, of role system if the template has a
        place for it."""
        if guard is not None:
            # Applied before rendering, because marks written around calls are not the messages' own.
            turns, tools = guard.applied(turns), guard.applied(tools)
        plain = plain_turns(turns, tools)
        try:
            text = self._render(plain, None, None, options)
        except TemplateRefused:
            if not tools:
                raise
            text = ""
        if tools and plain[0]["content"].strip() not in text:
            plain = plain_turns(turns, tools, has_system=False)
            text = self._render(plain, None, None, options)
        self._check_system_turns(plain, None, text, None, options)
        return text

    def _render(
        self,
        turns: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        guard: Guard | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        # As in transformers: templates test for the presence of a field, and would write "None".
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        if guard is not None:
            turns, tools = guard.applied(turns), guard.applied(tools)
        try:
            return self._template.render(
                messages=turns, tools=tools, add_generation_prompt=True, **options, **self._special_tokens
            )
        except Exception as error:
            # Boundary: the template is a program from the checkpoint and may fail in any way.
            words = str(error) or type(error).__name__
            raise TemplateRefused(words if guard is None else guard.removed(words)) from error

    def _check_system_turns(
        self,
        turns: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        text: str,
        guard: Guard | None,
        options: dict[str, Any],
    ) -> None:
        plain = text if guard is None else guard.removed(text)
        for place, turn in enumerate(turns):
            content = turn.get("content")
            # Templates strip their input.
            if turn["role"] != Role.SYSTEM.value or not isinstance(content, str) or content.strip() in plain:
                continue
            # Written differently (as JSON, line by line), or dropped: in that case other words give the same prompt.
            others = [*turns[:place], {**turn, "content": f"{content} {_OTHER_WORDS}"}, *turns[place + 1 :]]
            if self._render(others, tools, guard, options) == text:
                raise TemplateRefused(_LEFT_OUT)


class _GenerationBlocks(jinja2.ext.Extension):
    """`{% generation %}` marks the text that a model is trained on; in a prompt it renders as its content."""

    tags = {"generation"}  # noqa: RUF012  as the library declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Parameters in transformers' order, since templates pass some by position. Jinja's filter would escape `<` and `&`
    for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
