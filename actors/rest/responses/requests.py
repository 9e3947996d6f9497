"""Requests of the Responses API, field by field, and the chat completions that they amount to. Pure functions.

Sampling, tools, choices and schemas are those of `/v1/chat/completions`: a body is converted to one of that API and
checked there, and errors are translated back to the client's field names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import Attribute, field, frozen

from actors.clock import now_milliseconds
from actors.inference.messages import ToolCallFormat
from actors.rest.openai.fields import sort_by_rules
from actors.rest.openai.requests import ChatCompletionRequest, generate_from_chat, read_chat
from actors.rest.responses.fields import RULES
from actors.rest.responses.items import Chat, chat_of, readable_items
from protocol.codec import structure
from protocol.commands import Generate
from protocol.errors import InvalidField
from protocol.validation import FieldFault, between, length, one_of

__all__ = ["ID", "ResponsesRequest", "item_id", "labels", "new_id", "read_responses_request"]

ID = re.compile(r"resp_[0-9a-f]{48}")
"""Ids of any other form are not looked up in the database."""
LOGPROBS = "message.output_text.logprobs"
MAXIMUM_LABELS = 16
_PASSED_ON = (
    "temperature", "top_p", "seed", "stop", "top_k", "min_p", "presence_penalty", "frequency_penalty", "user",
    "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
)  # fmt: skip
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "item_reference": "ref",
}
_CHAT_NAMES = (
    (re.compile(r"^response_format\.json_schema"), "text.format"),
    (re.compile(r"^response_format"), "text.format"),
    (re.compile(r"^max_completion_tokens"), "max_output_tokens"),
    (re.compile(r"^tool_choice\.function\."), "tool_choice."),
    (re.compile(r"^(tool_choice)\.allowed_tools\.tools\[(\d+)\]\.function"), r"\1.tools[\2]"),
    (re.compile(r"^(tool_choice)\.allowed_tools"), r"\1"),
    (re.compile(r"^logprobs"), "include"),
    (re.compile(r"^reasoning_effort"), "reasoning.effort"),
)
_IN_MESSAGE = re.compile(r"^\.tool_calls\[\d+\]\.(function\.)?")


def new_id(draw: str) -> str:
    """Build the id of a response from 48 hexadecimal digits."""
    return f"resp_{draw}"


def item_id(response_id: str, kind: str, place: str) -> str:
    """Build the id of an item, which includes the response's: `msg_…_0` in the output, `msg_…_i0` in the input."""
    return f"{_PREFIXES.get(kind, 'out')}_{response_id.removeprefix('resp_')}_{place}"


def labels(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Validate `metadata`."""
    if value is None:
        return
    if len(value) > MAXIMUM_LABELS:
        raise FieldFault(attribute.name, f"must have at most {MAXIMUM_LABELS} names")
    for name, text in value.items():
        if len(name) > 64:
            raise FieldFault(f"{attribute.name}.{name[:64]}", "must have a name of at most 64 characters")
        if not isinstance(text, str) or len(text) > 512:
            raise FieldFault(f"{attribute.name}.{name}", "must be a string of at most 512 characters")


@frozen(kw_only=True)
class _Plain:
    """Fields that the codec can check by type."""

    model: str = field(validator=length(1, 256, "characters"))
    instructions: str | None = field(default=None, repr=False)
    previous_response_id: str | None = field(default=None, validator=length(1, 256, "characters"))
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_output_tokens: int | None = field(default=None, validator=between(1, 2**31))
    metadata: dict[str, Any] | None = field(default=None, validator=labels)
    truncation: str = field(default="disabled", validator=one_of("auto", "disabled"))
    include: list[str] | None = field(default=None, validator=length(0, 32, "entries"))
    top_logprobs: int | None = field(default=None, validator=between(0, 20))
    service_tier: str | None = field(default=None, validator=length(0, 64, "characters"))

    def __attrs_post_init__(self) -> None:
        if self.background and self.store is False:
            raise FieldFault("background", "may not be given with store false: the answer could not be read")
        if self.top_logprobs and LOGPROBS not in (self.include or ()):
            raise FieldFault("top_logprobs", f"may only be given with include {LOGPROBS}")


@frozen(kw_only=True)
class ResponsesRequest:
    """Body of `POST /v1/responses`."""

    id: str
    """Id of the response that will answer it."""
    created_ms: int
    plain: _Plain
    conversation_id: str | None
    """The conversation that the response belongs to."""
    items: list[dict[str, Any]] = field(repr=False)
    """The input as a list of items."""
    passed_on: dict[str, Any] = field(repr=False)
    """Fields in common with `/v1/chat/completions`."""
    tools: list[dict[str, Any]] = field(repr=False)
    """The functions as the client wrote them."""
    tool_places: list[int] = field(repr=False)
    """Position of each function among all tools of the request."""
    tool_choice: Any
    text_format: dict[str, Any] = field(repr=False)
    effort: str | None
    ignored: list[str]
    """Names of ignored fields."""

    @property
    def is_stored(self) -> bool:
        """True if the response is stored and can be read again."""
        return self.plain.store is not False

    @property
    def has_logprobs(self) -> bool:
        """True if the log-probability of each token is returned."""
        return LOGPROBS in (self.plain.include or ())

    @property
    def drops_oldest(self) -> bool:
        """True if the oldest turns of a long chat are dropped."""
        return self.plain.truncation == "auto"

    def chat(self, before: Sequence[dict[str, Any]]) -> Chat:
        """Build the chat that follows these earlier items."""
        source = "previous_response_id" if self.conversation_id is None else "conversation"
        return chat_of(self.plain.instructions, before, self.items, source=source)

    def chat_request(self, chat: Chat) -> ChatCompletionRequest:
        """Convert to a chat completion. Raises `InvalidField` with the client's field names."""
        body: dict[str, Any] = {
            "model": self.plain.model,
            "messages": chat.messages,
            "max_completion_tokens": self.plain.max_output_tokens,
            "tools": [{"type": "function", "function": _without_type(one)} for one in self.tools] or None,
            "tool_choice": _nested_choice(self.tool_choice),
            "response_format": _nested_format(self.text_format),
            "reasoning_effort": self.effort,
            **self.passed_on,
        }
        if self.has_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.plain.top_logprobs}
        try:
            return read_chat({name: value for name, value in body.items() if value is not None})[0]
        except InvalidField as error:
            raise self._as_written(error, chat) from None

    def generate(self, chat: Chat, tool_call_format: ToolCallFormat) -> tuple[Generate, ChatCompletionRequest]:
        """Build the engine's request and the chat completion behind it. Raises `InvalidField`."""
        wanted = self.chat_request(chat)
        try:
            return generate_from_chat(wanted, tool_call_format), wanted
        except InvalidField as error:
            raise self._as_written(error, chat) from None

    def echo(self, model: str, wanted: ChatCompletionRequest) -> dict[str, Any]:
        """Fields of the response that repeat the request."""
        plain = self.plain
        return {
            "background": bool(plain.background),
            "instructions": plain.instructions,
            "max_output_tokens": plain.max_output_tokens,
            "max_tool_calls": None,
            "model": model,
            "parallel_tool_calls": wanted.parallel_tool_calls is not False,
            "previous_response_id": plain.previous_response_id,
            "prompt_cache_key": wanted.prompt_cache_key,
            "reasoning": {"effort": self.effort, "summary": None},
            "safety_identifier": wanted.safety_identifier,
            "service_tier": "default",
            "store": self.is_stored,
            "temperature": 1.0 if wanted.temperature is None else wanted.temperature,
            "text": {"format": self.text_format},
            "tool_choice": "auto" if self.tool_choice is None else self.tool_choice,
            "tools": self.tools,
            "top_logprobs": plain.top_logprobs or 0,
            "top_p": 1.0 if wanted.top_p is None else wanted.top_p,
            "truncation": plain.truncation,
            "user": wanted.user,
            "metadata": plain.metadata or {},
            **({} if self.conversation_id is None else {"conversation": {"id": self.conversation_id}}),
        }

    def _as_written(self, error: InvalidField, chat: Chat) -> InvalidField:
        """Translate an error of the chat completion to the names of this API."""
        field_name = (error.field or "").removeprefix("body.")
        name = field_name
        if found := re.match(r"messages\[(\d+)\]", name):
            name = chat.places[int(found[1])] + _IN_MESSAGE.sub(".", name[found.end() :]).replace(
                ".tool_call_id", ".call_id"
            )
        elif found := re.match(r"tools\[(\d+)\](\.function)?", name):
            name = f"tools[{self.tool_places[int(found[1])]}]" + name[found.end() :]
        else:
            for pattern, mine in _CHAT_NAMES:
                if pattern.match(name):
                    name = pattern.sub(mine, name, count=1)
                    break
        words = error.message.removeprefix(f"body.{field_name}")
        return InvalidField(f"body.{name}{words}", field=f"body.{name}")


def read_responses_request(body: dict[str, Any], response_id: str) -> ResponsesRequest:
    """Parse a JSON body. Raises `InvalidField`."""
    taken, ignored = sort_by_rules(body, RULES)
    conversation_id = _conversation(taken.pop("conversation", None))
    has_before = conversation_id is not None or taken.get("previous_response_id") is not None
    given = taken.pop("input", None)
    if given is None:
        if not has_before:
            raise InvalidField("body.input is required", field="body.input")
        given = []
    items, passed_over = readable_items(given, lambda kind, index: item_id(response_id, kind, f"i{index}"))
    tools, places, left_out = _functions(taken.pop("tools", None))
    text_format, unread = _text_format(taken.pop("text", None))
    effort, unread_too = _effort(taken.pop("reasoning", None))
    tool_choice = _choice(taken.pop("tool_choice", None), tools)
    passed_on = {name: taken.pop(name) for name in _PASSED_ON if name in taken}
    plain: _Plain = structure({name: one for name, one in taken.items() if one is not None}, _Plain, prefix="body")
    if conversation_id is not None and plain.previous_response_id is not None:
        raise _wrong("conversation", "may not be given with previous_response_id: both say what comes before")
    if conversation_id is not None and plain.store is False:
        raise _wrong("conversation", "may not be given with store false: the answer could not be added to it")
    unknown = [f"include[]/{one[:64]}" for one in plain.include or () if one != LOGPROBS]
    return ResponsesRequest(
        id=response_id,
        created_ms=now_milliseconds(),
        plain=plain,
        conversation_id=conversation_id,
        items=items,
        passed_on=passed_on,
        tools=tools,
        tool_places=places,
        tool_choice=tool_choice,
        text_format=text_format,
        effort=effort,
        ignored=[*ignored, *passed_over, *left_out, *unread, *unread_too, *unknown],
    )


def _conversation(given: Any) -> str | None:
    """Parse the id of a conversation, given alone or in an object."""
    if given is None:
        return None
    name = "conversation"
    if isinstance(given, dict):
        given, name = given.get("id"), "conversation.id"
    if not isinstance(given, str):
        raise _wrong(name, "must be the id of a conversation")
    return given


def _functions(tools: Any) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """Return the functions among the tools, their positions, and the names of other types."""
    if tools is None:
        return [], [], []
    if not isinstance(tools, list) or len(tools) > 256:
        raise _wrong("tools", "must be an array of at most 256 tools")
    functions: list[dict[str, Any]] = []
    places: list[int] = []
    left_out: dict[str, None] = {}
    for index, one in enumerate(tools):
        if not isinstance(one, dict) or not isinstance(one.get("type"), str):
            raise _wrong(f"tools[{index}].type", "must be a string")
        if one["type"] != "function":
            left_out[f"tools[].{one['type'][:64]}"] = None
            continue
        for name in ("name", "parameters"):
            if name not in one:
                raise _wrong(f"tools[{index}].{name}", "is required")
        left_out |= {
            f"tools[].{name[:64]}": None
            for name in one.keys() - {"type", "name", "description", "parameters", "strict"}
        }
        known = ("type", "name", "description", "parameters", "strict")
        functions.append({name: one[name] for name in known if name in one})
        places.append(index)
    return functions, places, list(left_out)


def _without_type(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name != "type"}


def _choice(choice: Any, tools: Sequence[dict[str, Any]]) -> Any:
    """Parse a tool choice; `auto` is dropped if all tools were left out."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        return {**choice, "tools": [one for one in choice["tools"] if _is_function(one)]}
    return choice


def _is_function(tool: Any) -> bool:
    return not isinstance(tool, dict) or tool.get("type") == "function"


def _nested_choice(choice: Any) -> Any:
    """Convert to the form of `/v1/chat/completions`, which also rejects invalid choices."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": _without_type(choice)}
    if choice.get("type") == "allowed_tools":
        tools = choice.get("tools")
        if isinstance(tools, list):
            tools = [
                {"type": "function", "function": _without_type(one)} if isinstance(one, dict) else one for one in tools
            ]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": tools}}
    return choice


def _text_format(text: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the text format, and the names of other options."""
    if text is None:
        return {"type": "text"}, []
    if not isinstance(text, dict):
        raise _wrong("text", "must be an object")
    ignored = [
        f"text.{name[:64]}"
        for name, value in text.items()
        if name != "format" and value is not None and (name, value) != ("verbosity", "medium")
    ]
    form = text.get("format")
    if form is None:
        return {"type": "text"}, ignored
    if not isinstance(form, dict):
        raise _wrong("text.format", "must be an object")
    return form, ignored


def _nested_format(form: dict[str, Any]) -> dict[str, Any] | None:
    if form == {"type": "text"}:
        return None
    inner = _without_type(form)
    return {"type": form.get("type"), **({"json_schema": inner} if inner else {})}


def _effort(reasoning: Any) -> tuple[str | None, list[str]]:
    if reasoning is None:
        return None, []
    if not isinstance(reasoning, dict):
        raise _wrong("reasoning", "must be an object")
    effort = reasoning.get("effort")
    if effort is not None and (not isinstance(effort, str) or len(effort) > 64):
        raise _wrong("reasoning.effort", "must be a string of at most 64 characters")
    return effort, [
        f"reasoning.{name[:64]}"
        for name, value in reasoning.items()
        if name != "effort" and value not in (None, "none")
    ]


def _wrong(path: str, problem: str) -> InvalidField:
    return InvalidField(f"body.{path} {problem}", field=f"body.{path}")


# Compiles the codec at import, so that the first request is as fast as the others.
structure({"model": "m", "metadata": {"a": "b"}, "include": []}, _Plain)
