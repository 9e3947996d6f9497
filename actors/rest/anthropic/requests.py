"""Requests of Anthropic's clients, field by field, and their conversion to engine requests. Pure functions.

Shapes follow Anthropic's API reference (Messages, Count tokens).
"""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field, frozen

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.rest.answer_reading.wish import Thinking, thinking_of_anthropic
from actors.rest.anthropic.blocks import Chat, read_chat
from actors.rest.anthropic.fields import RULES
from actors.rest.anthropic.tools import (  # fmt: skip
    Tool,
    ToolChoice,
    as_templates_know,
    call_rule,
    callable_names,
    read_choice,
    read_tools,
)
from actors.rest.openai.fields import sort_by_rules
from actors.rest.openai.requests import ANSWER_MILLISECONDS, LEAST_TOP_P
from protocol.codec import structure
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import InvalidField
from protocol.validation import FieldFault, between, length

__all__ = ["VERSIONS", "MessagesRequest", "check_version", "generate_from", "read_messages_request"]

VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
"""Versions of the API that its clients have sent so far."""
MAXIMUM_STOPS = 16


def check_version(version: str | None) -> None:
    """Reject an unknown version of the API. Raises `InvalidField`."""
    if version is not None and version not in VERSIONS:
        raise InvalidField(
            f"anthropic-version must be one of {', '.join(VERSIONS)}, not {version[:32]!r}", field="anthropic-version"
        )


def _stops(_: object, attribute: Attribute[Any], value: Any) -> None:
    if len(value or ()) > MAXIMUM_STOPS:
        raise FieldFault(attribute.name, f"must have at most {MAXIMUM_STOPS} texts")
    for index, one in enumerate(value or ()):
        if not one:
            raise FieldFault(f"{attribute.name}[{index}]", "must not be empty")


@frozen(kw_only=True)
class Metadata:
    """Labels of the client."""

    user_id: str | None = field(default=None, validator=length(0, 512, "characters"))


@frozen(kw_only=True)
class _Plain:
    """Fields that the codec can check by type."""

    model: str = field(validator=length(1, 256, "characters"))
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    stop_sequences: list[str] | None = field(default=None, validator=_stops)
    stream: bool | None = None
    temperature: float | None = field(default=None, validator=between(0, 1))
    top_p: float | None = field(default=None, validator=between(0, 1))
    top_k: int | None = field(default=None, validator=between(0, 2**31))
    metadata: Metadata | None = None
    seed: int | None = field(default=None, validator=between(0, 2**53))


@frozen(kw_only=True)
class MessagesRequest:
    """Body of `POST /v1/messages`, or of `/v1/messages/count_tokens`."""

    plain: _Plain
    chat: Chat = field(repr=False)
    tools: list[Tool] = field(repr=False)
    choice: ToolChoice
    response_schema: dict[str, Any] | None = field(repr=False)
    thinking: Thinking
    ignored: list[str]
    """Names of ignored fields."""

    @property
    def callable_names(self) -> list[str]:
        """Names of the functions that the answer may call."""
        return callable_names(self.tools, self.choice)

    @property
    def callable_schemas(self) -> dict[str, dict[str, Any] | None]:
        """Their parameter schemas, by name."""
        names = self.callable_names
        return {one.name: one.input_schema for one in self.tools if one.name in names}


def read_messages_request(body: dict[str, Any], *, needs_length: bool = True) -> MessagesRequest:
    """Parse a JSON body. Raises `InvalidField`."""
    taken, ignored = sort_by_rules(body, RULES)
    taken.pop("cache_control", None)
    try:
        config = _without(taken.pop("output_config", None), "effort", ignored)
        response_schema = _schema(config.get("format", taken.pop("output_format", None)))
        ignored += [f"output_config.{name}" for name in config if name != "format"]
        chat = read_chat(taken.pop("system", None), taken.pop("messages", None))
        thinking = thinking_of_anthropic(taken.pop("thinking", None))
        tools, inner = read_tools(taken.pop("tools", None))
        choice = read_choice(taken.pop("tool_choice", None), tools)
    except FieldFault as fault:
        raise _as_written(fault) from None
    if isinstance(labels := taken.get("metadata"), dict):
        taken["metadata"] = {name: value for name, value in labels.items() if name == "user_id"}
    plain: _Plain = structure(taken, _Plain, prefix="body")
    if needs_length and plain.max_tokens is None:
        raise InvalidField("body.max_tokens is required", field="body.max_tokens")
    return MessagesRequest(
        plain=plain,
        chat=chat,
        tools=tools,
        choice=choice,
        response_schema=response_schema,
        thinking=thinking,
        ignored=[*ignored, *chat.ignored, *inner],
    )


def generate_from(request: MessagesRequest, tool_call_format: ToolCallFormat) -> Generate:
    """Build the engine's request; ``tool_call_format`` is the model's. Raises `InvalidField`."""
    schema, turns = request.response_schema, request.chat.turns
    if not request.tools and not request.chat.has_calls and not request.thinking.is_asked:
        return _generate(request, Generate, response_schema=schema)
    rule = call_rule(request.tools, request.choice, tool_call_format, answer_schema=schema)
    return _generate(
        request,
        GenerateWithTools,
        turns=turns,
        tools=as_templates_know(request.tools) if request.callable_names else None,
        tool_call_format=tool_call_format,
        thinks=request.thinking.thinks,
        call_rule=rule,
        # With a rule the answer is a call, or follows the schema that is part of the rule.
        response_schema=schema if rule is None else None,
    )


def _generate(request: MessagesRequest, kind: type[Generate], **fields: Any) -> Generate:
    plain = request.plain
    try:
        return kind(
            messages=[
                ChatMessage(Role.USER if one["role"] == "tool" else Role(one["role"]), one["content"])
                for one in request.chat.turns
            ],
            max_tokens=plain.max_tokens,
            temperature=1.0 if plain.temperature is None else plain.temperature,
            top_p=1.0 if plain.top_p is None else max(plain.top_p, LEAST_TOP_P),
            top_k=plain.top_k or None,
            seed=plain.seed,
            stop=list(plain.stop_sequences or ()),
            deadline_ms=ANSWER_MILLISECONDS,
            **fields,
        )
    except FieldFault as fault:
        raise _as_written(fault) from None


def _without(config: Any, name: str, ignored: list[str]) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise FieldFault("output_config", "must be an object")
    if config.get(name) is not None:
        ignored.append(f"output_config.{name}")
    return {key: value for key, value in config.items() if key != name}


def _schema(form: Any) -> dict[str, Any] | None:
    """The JSON Schema that the answer must follow, or None."""
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise FieldFault("output_config.format.type", "must be json_schema")
    if not isinstance(form.get("schema"), dict):
        raise FieldFault("output_config.format.schema", "must be an object")
    schema: dict[str, Any] = form["schema"]
    return schema


def _as_written(fault: FieldFault) -> InvalidField:
    return InvalidField(f"body.{fault.path} {fault.problem}", field=f"body.{fault.path}")


# Compiles the codec at import, so that the first request is as fast as the others.
structure({"model": "m", "metadata": {"user_id": "u"}, "stop_sequences": ["x"]}, _Plain)
