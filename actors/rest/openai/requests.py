"""What OpenAI's clients send, field by field, and what it means to our engine. Pure.

The shapes are those of OpenAI's API reference (chat completions and the older completions). What is not listed here
is refused by name; what is listed is carried out, or takes only the value that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import Attribute, field, frozen

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.rest.openai.tool_choice import call_rule, callable_names, check_choice, is_tool_choice, named_function
from actors.rest.openai.tools import CalledTool, Tool, as_templates_know, turns_of
from protocol.codec import structure
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import InvalidField
from protocol.validation import FieldFault, between, length, one_of

__all__ = ["ChatCompletionRequest", "CompletionRequest", "StreamOptions", "generate_from_chat", "generate_from_prompt"]

ANSWER_MILLISECONDS = 600_000
"""Longest that one answer may take."""
MAXIMUM_STOPS = 16
LEAST_TOP_P = 1e-6
"""With so little, the likeliest token is all there is."""
SEEDS = 2**53
NO_TOOLS = (
    "is not supported: the loaded model's chat template has no tools; turn tools (agent mode) off in the editor, or load a "
    "model that has them"
)


def _text_or_parts(_: object, attribute: Attribute[Any], value: Any) -> None:
    """A string, or an array of `{"type": "text", "text": …}`; None is judged with the other fields."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list) or not value:
        raise FieldFault(attribute.name, "must be a string or an array of text parts")
    for index, part in enumerate(value):
        path = f"{attribute.name}[{index}]"
        if not isinstance(part, dict):
            raise FieldFault(path, "must be an object")
        if part.get("type") != "text":
            raise FieldFault(f"{path}.type", "must be text: this server reads no other kind of content")
        if not isinstance(part.get("text"), str):
            raise FieldFault(f"{path}.text", "must be a string")
        for name in part.keys() - {"type", "text"}:
            raise FieldFault(f"{path}.{name}", "is not a field of a text part")


def _stops(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None or (isinstance(value, str) and value):
        return
    if not isinstance(value, list) or len(value) > MAXIMUM_STOPS:
        raise FieldFault(attribute.name, f"must be a string or an array of at most {MAXIMUM_STOPS} strings")
    for index, one in enumerate(value):
        if not isinstance(one, str) or not one:
            raise FieldFault(f"{attribute.name}[{index}]", "must be a string that is not empty")


def _only(*allowed: Any, because: str) -> Any:
    """Takes only the values that change nothing, and says why no other."""

    def validate(_: object, attribute: Attribute[Any], value: Any) -> None:
        # 1 == True in Python, and JSON's 1 is not true.
        if value is not None and not any(value == one and type(value) is type(one) for one in allowed):
            raise FieldFault(attribute.name, because)

    return validate


@frozen(kw_only=True)
class Message:
    """One turn as OpenAI's clients write it."""

    role: str = field(validator=one_of("system", "developer", "user", "assistant", "tool"))
    content: Any = field(default=None, validator=_text_or_parts, repr=False)
    """May be left out beside calls of tools."""
    name: str | None = field(default=None, validator=_only(because="names of speakers are not supported"))
    refusal: str | None = field(default=None, validator=_only(because="must be null: this server's answers have none"))
    tool_calls: list[CalledTool] | None = field(default=None, validator=length(1, 128, "entries"))
    """What the assistant wanted called."""
    tool_call_id: str | None = field(default=None, validator=length(1, 256, "characters"))
    """Whose result a turn of the role tool is."""
    audio: Any = field(default=None, validator=_only(because="must be null: this server's answers have none"))
    function_call: Any = field(default=None, validator=_only(because="must be null: calls are written as tool_calls"))
    annotations: Any = field(
        default=None, validator=_only([], because="must be null or empty: this server's answers have none")
    )
    parsed: Any = field(default=None, repr=False)
    """What a client made of an answer, and sends back with it; nothing depends on it."""

    def __attrs_post_init__(self) -> None:
        if self.content is None and not self.tool_calls:
            raise FieldFault("content", "must be a string or an array of text parts")
        for name, value in (("tool_calls", self.tool_calls), ("parsed", self.parsed)):
            if value and self.role != "assistant":
                raise FieldFault(name, "may only be given with the role assistant")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise FieldFault("tool_call_id", "must be given with the role tool, and only with it")
        # Clients send system turns that were left empty, and answers and results of calls may have no text; a question has.
        if self.role == "user" and not self.text:
            raise FieldFault("content", "must not be empty")

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content)


@frozen(kw_only=True)
class StreamOptions:
    """What a stream shall carry besides the answer."""

    include_usage: bool | None = None
    """One more chunk with the whole `usage` before the end."""
    include_obfuscation: bool | None = field(
        default=None, validator=_only(False, because="must be false: this server pads nothing")
    )


@frozen(kw_only=True)
class SchemaFormat:
    """`json_schema` of `response_format`."""

    name: str = field(validator=length(1, 64, "characters"))
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    """The schema is always followed strictly."""


@frozen(kw_only=True)
class ResponseFormat:
    """What form the answer shall have."""

    type: str = field(validator=one_of("text", "json_object", "json_schema"))
    json_schema: SchemaFormat | None = None

    def __attrs_post_init__(self) -> None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise FieldFault("json_schema", "must be given with the type json_schema, and only with it")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer shall follow."""
        if self.json_schema is not None:
            return self.json_schema.schema
        return {"type": "object"} if self.type == "json_object" else None


@frozen(kw_only=True)
class _Sampling:
    """Fields that both kinds of completion have."""

    model: str = field(validator=length(1, 256, "characters"))
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    temperature: float | None = field(default=None, validator=between(0, 2))
    """OpenAI's default is 1."""
    top_p: float | None = field(default=None, validator=between(0, 1))
    """0 leaves the likeliest token alone, as at OpenAI."""
    presence_penalty: float | None = field(default=None, validator=between(-2, 2))
    frequency_penalty: float | None = field(default=None, validator=between(-2, 2))
    logit_bias: dict[str, float] | None = None
    seed: int | None = field(default=None, validator=between(-SEEDS, SEEDS))
    """Of a negative one the rest of a division by 2^53 counts; larger ones no JSON number of ours holds."""
    stop: Any = field(default=None, validator=_stops)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = field(default=None, validator=_only(1, because="must be 1: one answer is made for each request"))
    user: str | None = field(default=None, validator=length(0, 512, "characters"))
    """A label of the caller's own users; nothing depends on it."""

    def __attrs_post_init__(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise FieldFault("stream_options", "may only be given with stream")

    @property
    def includes_usage(self) -> bool:
        """Whether the stream shall end with a chunk of `usage`."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def stops(self) -> list[str]:
        """The stop texts as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


@frozen(kw_only=True)
class ChatCompletionRequest(_Sampling):
    """Body of `POST /v1/chat/completions`."""

    messages: list[Message] = field(validator=length(1, 1024, "entries"))
    max_completion_tokens: int | None = field(default=None, validator=between(1, 2**31))
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = field(default=None, validator=between(0, 20))
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = field(default=None, validator=length(0, 128, "entries"))
    tool_choice: Any = field(default=None, validator=is_tool_choice)
    """`none`, `auto`, `required`, or the one function to call."""
    parallel_tool_calls: bool | None = None
    """False: one call at most."""
    store: bool | None = field(default=None, validator=_only(False, because="must be false: nothing is stored"))
    metadata: Any = field(default=None, validator=_only({}, because="must be empty: nothing is stored under it"))
    service_tier: str | None = field(
        default=None,
        validator=_only("auto", "default", because="must be auto or default: there is one way to be served"),
    )
    modalities: Any = field(default=None, validator=_only(["text"], because='must be ["text"]: answers are text'))
    reasoning_effort: str | None = field(
        default=None,
        validator=_only("none", because="must be none or left out: how much a model thinks is not set here"),
    )
    verbosity: str | None = field(
        default=None, validator=_only("medium", because="must be medium or left out: ask for short answers in words")
    )
    safety_identifier: str | None = field(default=None, validator=length(0, 512, "characters"))
    """The newer name of `user`."""
    prompt_cache_key: str | None = field(default=None, validator=length(0, 512, "characters"))
    """A hint that is not needed: prompts that begin alike share what was computed for them."""
    prompt_cache_retention: str | None = field(
        default=None, validator=_only(because="must be null: how long prompts are kept is the server's affair")
    )
    prediction: Any = field(default=None, validator=_only(because="must be null: answers are not predicted by clients"))
    audio: Any = field(default=None, validator=_only(because="must be null: answers are text"))
    moderation: Any = field(default=None, validator=_only(because="must be null: there is none"))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.top_logprobs is not None and not self.logprobs:
            raise FieldFault("top_logprobs", "may only be given with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise FieldFault("max_completion_tokens", "and max_tokens are the same thing and must not differ")

    @property
    def callable_names(self) -> list[str]:
        """The functions that the answer may call."""
        return callable_names(self.tools or (), self.tool_choice)

    @property
    def names_function(self) -> bool:
        """Whether it says which function to call."""
        return named_function(self.tool_choice) is not None


@frozen(kw_only=True)
class CompletionRequest(_Sampling):
    """Body of `POST /v1/completions`."""

    prompt: Any = field(repr=False)
    """A text, or an array with one text."""
    logprobs: int | None = field(default=None, validator=between(0, 5))
    echo: bool | None = field(default=None, validator=_only(False, because="must be false"))
    suffix: str | None = field(default=None, validator=_only("", because="is not supported: the model fills no gaps"))
    best_of: int | None = field(default=None, validator=_only(1, because="must be 1"))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        prompt = self.prompt
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str) or not prompt:
            raise FieldFault("prompt", "must be a text that is not empty, or an array with one: no tokens, no batches")

    @property
    def text(self) -> str:
        """The one prompt."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[0])


def generate_from_chat(request: ChatCompletionRequest, tool_call_format: ToolCallFormat | None) -> Generate:
    """The engine's request for a chat completion, for a model that calls tools in that form, or has none.

    Raises `InvalidField`, named as the client wrote it.
    """
    of_tools = next(_fields_of_tools(request), None)
    if of_tools is None:
        return _from_chat(request, Generate)
    try:
        if tool_call_format is None:
            raise FieldFault(of_tools, NO_TOOLS)
        _check_tools(request)
        turns = turns_of(request.messages)
    except FieldFault as fault:
        raise _as_written(fault) from None
    return _from_chat(
        request,
        GenerateWithTools,
        turns=turns,
        tools=as_templates_know(request.tools or ()) if request.callable_names else None,
        tool_call_format=tool_call_format,
        call_rule=call_rule(request.tools or (), request.tool_choice, request.parallel_tool_calls, tool_call_format),
    )


def _fields_of_tools(request: ChatCompletionRequest) -> Iterator[str]:
    """Paths of what only a model with tools can be given. An empty list, and the wish for none, ask for nothing."""
    yield from (
        name
        for name in ("tools", "tool_choice", "parallel_tool_calls")
        if getattr(request, name) not in (None, [], "none")
    )
    for index, one in enumerate(request.messages):
        if one.role == "tool":
            yield f"messages[{index}].role"
        if one.tool_calls:
            yield f"messages[{index}].tool_calls"


def _check_tools(request: ChatCompletionRequest) -> None:
    check_choice(request.tools or (), request.tool_choice, request.parallel_tool_calls)
    if request.callable_names and request.logprobs:
        raise FieldFault("logprobs", "may not be given with tools: calls have no tokens of their own in the reply")
    if request.callable_names and request.response_format is not None and request.response_format.schema is not None:
        raise FieldFault("response_format", "may not be given with tools: a call does not follow the schema")


def _from_chat(request: ChatCompletionRequest, kind: type[Generate], **fields: Any) -> Generate:
    roles = {"developer": Role.SYSTEM, "tool": Role.USER}
    return _generate(
        request,
        kind,
        messages=[
            ChatMessage(roles[one.role] if one.role in roles else Role(one.role), one.text) for one in request.messages
        ],
        max_tokens=request.max_completion_tokens or request.max_tokens,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        response_schema=None if request.response_format is None else request.response_format.schema,
        **fields,
    )


def generate_from_prompt(request: CompletionRequest) -> Generate:
    """The engine's request for a completion. Raises `InvalidField`, named as the client wrote it."""
    return _generate(request, Generate, prompt=request.text, max_tokens=request.max_tokens, logprobs=request.logprobs)


def _generate(request: _Sampling, kind: type[Generate], **fields: Any) -> Generate:
    try:
        return kind(
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else max(request.top_p, LEAST_TOP_P),
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            logit_bias=request.logit_bias,
            seed=request.seed if request.seed is None or request.seed >= 0 else request.seed % SEEDS,
            stop=request.stops,
            deadline_ms=ANSWER_MILLISECONDS,
            **fields,
        )
    except FieldFault as fault:
        raise _as_written(fault) from None


def _as_written(fault: FieldFault) -> InvalidField:
    return InvalidField(f"body.{fault.path} {fault.problem}", field=f"body.{fault.path}")


# Built when this module is imported, so that the first request costs no more than the next.
structure({"model": "m", "messages": [{"role": "user", "content": "x"}]}, ChatCompletionRequest)
structure({"model": "m", "prompt": "x"}, CompletionRequest)
