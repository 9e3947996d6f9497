"""Requests of Ollama's clients, field by field, and their conversion to engine requests. Pure functions.

Shapes follow Ollama's API reference (`/api/chat`, `/api/generate`).
"""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field, frozen

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.rest.answer_reading.wish import Thinking, thinking_of_ollama
from actors.rest.ollama.fields import RULES_OF_CHAT, RULES_OF_GENERATE, RULES_OF_OPTIONS
from actors.rest.ollama.messages import Chat, read_chat, read_tools
from actors.rest.openai.fields import sort_by_rules
from actors.rest.openai.requests import ANSWER_MILLISECONDS, LEAST_TOP_P, SEEDS
from actors.rest.openai.tool_choice import call_rule
from actors.rest.openai.tools import Tool, as_templates_know
from protocol.codec import structure
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import InvalidField
from protocol.json_text import json_type
from protocol.validation import FieldFault, between, length

__all__ = ["ModelRequest", "OllamaRequest", "generate_from", "model_name", "read_chat_request", "read_generate_request"]

MAXIMUM_STOPS = 16
LATEST = ":latest"


def model_name(name: str) -> str:
    """Strip the tag `latest`, which Ollama's clients add to names without a tag."""
    return name.removesuffix(LATEST)


def _stops(_: object, attribute: Attribute[Any], value: Any) -> None:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | None) or len(stops or ()) > MAXIMUM_STOPS:
        raise FieldFault(attribute.name, f"must be a string or an array of at most {MAXIMUM_STOPS} strings")
    for one in stops or ():
        if not isinstance(one, str) or not one:
            raise FieldFault(attribute.name, "must contain non-empty strings")


@frozen(kw_only=True)
class ModelRequest:
    """Body of a request about a model."""

    model: str = field(validator=length(1, 256, "characters"))
    stream: bool | None = None


@frozen(kw_only=True)
class Options:
    """`options`, with Ollama's own defaults."""

    num_predict: int | None = field(default=None, validator=between(-2, 2**31))
    temperature: float | None = field(default=None, validator=between(0, 2))
    top_k: int | None = field(default=None, validator=between(-1, 2**31))
    top_p: float | None = field(default=None, validator=between(0, 1))
    min_p: float | None = field(default=None, validator=between(0, 1))
    repeat_penalty: float | None = field(default=None, validator=between(0.1, 10))
    presence_penalty: float | None = field(default=None, validator=between(-2, 2))
    frequency_penalty: float | None = field(default=None, validator=between(-2, 2))
    seed: int | None = field(default=None, validator=between(-(2**63), 2**63 - 1))
    stop: Any = field(default=None, validator=_stops)

    @property
    def stops(self) -> list[str]:
        """The stop texts as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


@frozen(kw_only=True)
class _Plain:
    """Fields that the codec can check by type."""

    model: str = field(validator=length(1, 256, "characters"))
    stream: bool | None = None
    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    options: Options | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = field(default=None, validator=between(0, 20))

    def __attrs_post_init__(self) -> None:
        if self.top_logprobs and not self.logprobs:
            raise FieldFault("top_logprobs", "may only be given with logprobs")


@frozen(kw_only=True)
class OllamaRequest:
    """Body of `POST /api/chat` or `POST /api/generate`."""

    plain: _Plain
    chat: Chat = field(repr=False)
    tools: list[Tool] = field(repr=False)
    response_schema: dict[str, Any] | None = field(repr=False)
    thinking: Thinking
    keep_alive: Any
    ignored: list[str]
    """Names of ignored fields."""

    @property
    def is_streamed(self) -> bool:
        """True if the answer is streamed as lines, Ollama's default."""
        return self.plain.stream is not False

    @property
    def is_empty(self) -> bool:
        """True for a request without a question, which only loads or unloads the model."""
        return not self.chat.turns and not self.plain.prompt

    @property
    def unloads(self) -> bool:
        """True if the request is to unload the model: it is empty and has a `keep_alive` of zero."""
        return self.is_empty and self.keep_alive in (0, "0", "0s", "0m", "0h")

    @property
    def callable_names(self) -> list[str]:
        """Names of the functions that the answer may call."""
        return [one.function.name for one in self.tools]

    @property
    def callable_schemas(self) -> dict[str, dict[str, Any] | None]:
        """Their parameter schemas, by name."""
        return {one.function.name: one.function.parameters for one in self.tools}


def read_chat_request(body: dict[str, Any]) -> OllamaRequest:
    """Parse a JSON body of `/api/chat`. Raises `InvalidField`."""
    taken, ignored = sort_by_rules(body, RULES_OF_CHAT)
    try:
        chat = read_chat(taken.pop("messages", None))
        tools, inner = read_tools(taken.pop("tools", None))
    except FieldFault as fault:
        raise _as_written(fault) from None
    return _request(taken, chat, tools, [*ignored, *chat.ignored, *inner])


def read_generate_request(body: dict[str, Any]) -> OllamaRequest:
    """Parse a JSON body of `/api/generate`. Raises `InvalidField`."""
    taken, ignored = sort_by_rules(body, RULES_OF_GENERATE)
    return _request(taken, Chat(), [], ignored)


def _request(taken: dict[str, Any], chat: Chat, tools: list[Tool], ignored: list[str]) -> OllamaRequest:
    try:
        thinking = thinking_of_ollama(taken.pop("think", None))
    except FieldFault as fault:
        raise _as_written(fault) from None
    keep_alive, form = taken.pop("keep_alive", None), taken.pop("format", None)
    options = taken.get("options")
    if isinstance(options, dict):
        taken["options"], inner = sort_by_rules(options, RULES_OF_OPTIONS)
        ignored += [f"options.{name}" for name in inner]
    plain: _Plain = structure(taken, _Plain, prefix="body")
    request = OllamaRequest(
        plain=plain,
        chat=chat,
        tools=tools,
        response_schema=_schema(form),
        thinking=thinking,
        keep_alive=keep_alive,
        ignored=ignored,
    )
    if keep_alive is not None and not request.unloads:
        ignored.append("keep_alive")
    if plain.logprobs and tools:
        problem = "may not be given with tools: the reply has no tokens for calls"
        raise InvalidField(f"body.logprobs {problem}", field="body.logprobs")
    if plain.raw and plain.system:
        raise InvalidField("body.system may not be given with raw", field="body.system")
    return request


def _schema(form: Any) -> dict[str, Any] | None:
    if form is None or form == "":
        return None
    if form == "json":
        return {"type": "object"}
    if not isinstance(form, dict):
        words = "a text" if isinstance(form, str) else json_type(form)
        raise InvalidField(f"body.format must be json or a JSON Schema, not {words}", field="body.format")
    return form


def generate_from(request: OllamaRequest, tool_call_format: ToolCallFormat) -> Generate:
    """Build the engine's request; ``tool_call_format`` is the model's. Raises `InvalidField`."""
    plain, schema = request.plain, request.response_schema
    if plain.prompt is not None and plain.raw:
        return _generate(request, Generate, prompt=plain.prompt, response_schema=schema)
    turns = request.chat.turns
    if plain.prompt is not None:
        system = [{"role": "system", "content": plain.system}] if plain.system else []
        turns = [*system, {"role": "user", "content": plain.prompt}]
    messages = [ChatMessage(Role.USER if one["role"] == "tool" else Role(one["role"]), one["content"]) for one in turns]
    if not request.tools and not request.chat.has_calls and not request.thinking.is_asked:
        return _generate(request, Generate, messages=messages, response_schema=schema)
    rule = call_rule(request.tools, "auto", None, tool_call_format, answer_schema=schema)
    return _generate(
        request,
        GenerateWithTools,
        messages=messages,
        turns=turns,
        tools=as_templates_know(request.tools) if request.tools else None,
        tool_call_format=tool_call_format,
        thinks=request.thinking.thinks,
        reasoning_effort=request.thinking.effort,
        call_rule=rule,
        response_schema=schema if rule is None else None,
    )


def _generate(request: OllamaRequest, kind: type[Generate], **fields: Any) -> Generate:
    options = request.plain.options or Options()
    wanted, seed = options.num_predict, options.seed
    try:
        return kind(
            max_tokens=wanted if wanted is not None and wanted > 0 else None,
            temperature=0.8 if options.temperature is None else options.temperature,
            top_k=(40 if options.top_k is None else max(0, options.top_k)) or None,
            top_p=0.9 if options.top_p is None else max(options.top_p, LEAST_TOP_P),
            min_p=options.min_p or 0.0,
            repetition_penalty=options.repeat_penalty or 1.1,
            presence_penalty=options.presence_penalty or 0.0,
            frequency_penalty=options.frequency_penalty or 0.0,
            seed=seed if seed is None or 0 <= seed <= SEEDS else seed % SEEDS,
            stop=options.stops,
            logprobs=(request.plain.top_logprobs or 0) if request.plain.logprobs else None,
            deadline_ms=ANSWER_MILLISECONDS,
            **fields,
        )
    except FieldFault as fault:
        raise _as_written(fault) from None


def _as_written(fault: FieldFault) -> InvalidField:
    return InvalidField(f"body.{fault.path} {fault.problem}", field=f"body.{fault.path}")


# Compiles the codec at import, so that the first request is as fast as the others.
structure({"model": "m", "options": {"seed": 1}}, _Plain)
structure({"model": "m"}, ModelRequest)
