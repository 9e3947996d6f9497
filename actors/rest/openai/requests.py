"""Requests of OpenAI's clients, field by field, and their conversion to engine requests. Pure functions.

Shapes follow OpenAI's API reference (chat completions and the older completions). The table in `fields.py` lists
additional fields, and those that are ignored or refused.
"""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field, frozen

from actors.inference.messages import GenerateFromIds, GenerateWithTools, ToolCallFormat
from actors.rest.answer_reading.wish import (  # fmt: skip
    Thinking,
    check_effort,
    check_template_options,
    thinking_of_openai,
    unread_template_options,
)
from actors.rest.openai.fields import Endpoint, sort_fields
from actors.rest.openai.messages import Message, readable_messages
from actors.rest.openai.tool_choice import (
    call_rule,
    callable_names,
    check_choice,
    is_function_call,
    is_tool_choice,
    must_call,
    named_function,
)
from actors.rest.openai.tools import Function, Tool, as_templates_know, readable_tools, turns_of
from protocol.codec import structure
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import InvalidField
from protocol.validation import FieldFault, between, length, one_of

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "StreamOptions",
    "generate_from_chat",
    "generates_from_prompts",
    "read_chat",
    "read_completion",
]

ANSWER_MILLISECONDS = 600_000
"""Deadline of one answer."""
MAXIMUM_STOPS = 16
MAXIMUM_ANSWERS = 8
"""Answers to one prompt."""
MAXIMUM_TOGETHER = 64
"""Answers to all prompts of one request."""
MAXIMUM_READ = 16
"""The same limit if the prompts' tokens are returned, each with its alternatives."""
_HAS_FORM = "may not be combined with an enforced format, which ends the answer"
LEAST_TOP_P = 1e-6
"""So small that only the likeliest token remains."""
SEEDS = 2**53


def _text_alone(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value not in (None, ["text"]):
        raise FieldFault(attribute.name, 'must be ["text"]: answers are text')


def _stops(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None or (isinstance(value, str) and value):
        return
    if not isinstance(value, list) or len(value) > MAXIMUM_STOPS:
        raise FieldFault(attribute.name, f"must be a string or an array of at most {MAXIMUM_STOPS} strings")
    for index, one in enumerate(value):
        if not isinstance(one, str) or not one:
            raise FieldFault(f"{attribute.name}[{index}]", "must be a non-empty string")


@frozen(kw_only=True)
class StreamOptions:
    """Additional content of a stream."""

    include_usage: bool | None = None
    """One more chunk with the complete `usage` before the end."""
    include_obfuscation: bool | None = None
    """Allow padding of chunks against eavesdroppers; ours are never padded."""


@frozen(kw_only=True)
class SchemaFormat:
    """`json_schema` of `response_format`."""

    name: str = field(validator=length(1, 64, "characters"))
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    """Accepted either way: the schema is always enforced."""


@frozen(kw_only=True)
class ResponseFormat:
    """The format of the answer."""

    type: str = field(validator=one_of("text", "json_object", "json_schema"))
    json_schema: SchemaFormat | None = None

    def __attrs_post_init__(self) -> None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise FieldFault("json_schema", "must be given with the type json_schema, and only with it")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema to enforce, or None."""
        if self.json_schema is not None:
            return self.json_schema.schema
        return {"type": "object"} if self.type == "json_object" else None


@frozen(kw_only=True)
class _Sampling:
    """Fields common to both kinds of completion."""

    model: str = field(validator=length(1, 256, "characters"))
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    temperature: float | None = field(default=None, validator=between(0, 2))
    """Defaults to 1, as at OpenAI."""
    top_p: float | None = field(default=None, validator=between(0, 1))
    """0 keeps the likeliest token only, as at OpenAI."""
    presence_penalty: float | None = field(default=None, validator=between(-2, 2))
    frequency_penalty: float | None = field(default=None, validator=between(-2, 2))
    top_k: int | None = field(default=None, validator=between(-1, 2**31))
    """0 and -1 keep all tokens, as on other servers."""
    min_p: float | None = field(default=None, validator=between(0, 1))
    repetition_penalty: float | None = field(default=None, validator=between(0.1, 10))
    repeat_penalty: float | None = field(default=None, validator=between(0.1, 10))
    """The name in llama.cpp and Ollama."""
    logit_bias: dict[str, float] | None = None
    seed: int | None = field(default=None, validator=between(-(2**63), 2**63 - 1))
    """Negative seeds, and those beyond 2^53, are reduced modulo 2^53."""
    stop: Any = field(default=None, validator=_stops)
    ignore_eos: bool | None = None
    """Continue past the model's end-of-text token."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = field(default=None, validator=between(1, MAXIMUM_ANSWERS))
    user: str | None = field(default=None, validator=length(0, 512, "characters"))
    """A label for the client's own users; it has no effect."""
    metadata: dict[str, Any] | None = None
    """Labels of the client; they are not stored."""
    safety_identifier: str | None = field(default=None, validator=length(0, 512, "characters"))
    """The newer name of `user`."""
    prompt_cache_key: str | None = field(default=None, validator=length(0, 512, "characters"))
    """A hint that is not needed: prompts with a common prefix share its computation anyway."""

    def __attrs_post_init__(self) -> None:
        if (
            None not in (self.repetition_penalty, self.repeat_penalty)
            and self.repetition_penalty != self.repeat_penalty
        ):
            raise FieldFault("repeat_penalty", "and repetition_penalty are synonyms and must not differ")
        if self.stream_options is not None and not self.stream:
            raise FieldFault("stream_options", "may only be given with stream")

    @property
    def includes_usage(self) -> bool:
        """True if the stream is to end with a `usage` chunk."""
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
    """`none`, `auto`, `required`, or a function to call."""
    parallel_tool_calls: bool | None = None
    """False limits the answer to one call."""
    functions: list[Function] | None = field(default=None, validator=length(0, 128, "entries"))
    """The older form of `tools`."""
    function_call: Any = field(default=None, validator=is_function_call)
    """The older form of `tool_choice`."""
    modalities: Any = field(default=None, validator=_text_alone)
    reasoning_effort: str | None = field(default=None, validator=check_effort)
    chat_template_kwargs: dict[str, Any] | None = field(default=None, validator=check_template_options)
    """Only the options about reasoning are read."""
    enable_thinking: bool | None = None

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.top_logprobs is not None and not self.logprobs:
            raise FieldFault("top_logprobs", "may only be given with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise FieldFault("max_completion_tokens", "and max_tokens are synonyms and must not differ")
        if self.functions and (self.tools or self.tool_choice is not None):
            raise FieldFault(
                "functions", "is the older form of tools and tool_choice and may not be combined with them"
            )
        if isinstance(self.function_call, dict) and self.function_call["name"] not in [
            one.name for one in self.functions or ()
        ]:
            raise FieldFault("function_call.name", "must be one of the functions")
        has_form = self.response_format is not None and self.response_format.type != "text"
        if self.ignore_eos and (has_form or self.must_call):
            raise FieldFault("ignore_eos", _HAS_FORM)

    @property
    def thinking(self) -> Thinking:
        """The client's wishes about reasoning."""
        return thinking_of_openai(self.reasoning_effort, self.enable_thinking, self.chat_template_kwargs)

    @property
    def callable_schemas(self) -> dict[str, dict[str, Any] | None]:
        """Parameter schemas of the functions that the answer may call, by name."""
        names = self.callable_names
        return {one.function.name: one.function.parameters for one in self.offered if one.function.name in names}

    @property
    def is_legacy(self) -> bool:
        """True if calls are returned in the older form."""
        return bool(self.functions)

    @property
    def offered(self) -> list[Tool]:
        """The tools, in either form."""
        return self.tools or [Tool(type="function", function=one) for one in self.functions or ()]

    @property
    def choice(self) -> Any:
        """The tool choice, in either form."""
        if not self.is_legacy:
            return self.tool_choice
        named = self.function_call
        return {"type": "function", "function": named} if isinstance(named, dict) else named

    @property
    def callable_names(self) -> list[str]:
        """Names of the functions that the answer may call."""
        return callable_names(self.offered, self.choice)

    @property
    def must_call(self) -> bool:
        """True if the answer must consist of calls."""
        return must_call(self.choice)

    @property
    def names_function(self) -> bool:
        """True if the client names the function to call."""
        return named_function(self.choice) is not None


@frozen(kw_only=True)
class CompletionRequest(_Sampling):
    """Body of `POST /v1/completions`."""

    prompt: Any = field(repr=False)
    """A text, an array of token ids, or an array of either."""
    max_tokens: int | None = field(default=None, validator=between(0, 2**31))
    """0 generates nothing, which is useful with `echo`."""
    logprobs: int | None = field(default=None, validator=between(0, 5))
    echo: bool | None = None
    best_of: int | None = field(default=None, validator=between(1, MAXIMUM_ANSWERS))
    """Generates this many answers and returns the likeliest."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        prompts = self.prompts
        if not prompts or not all(_is_prompt(one) for one in prompts):
            raise FieldFault("prompt", "must be a text or an array of token ids, not empty, or an array of these")
        made, told = self.made, self.n or 1
        if len(prompts) * made > MAXIMUM_TOGETHER:
            raise FieldFault(
                "prompt", f"and n must amount to at most {MAXIMUM_TOGETHER} answers, not {len(prompts) * made}"
            )
        if made < told:
            raise FieldFault("best_of", "must be at least n")
        if made > told and self.stream:
            raise FieldFault("best_of", "may not exceed n in a stream: the best answers are known only at the end")
        if self.max_tokens == 0 and not self.echo:
            raise FieldFault("max_tokens", "may only be 0 with echo")
        if self.reads_prompt and len(prompts) * made > MAXIMUM_READ:
            raise FieldFault(
                "prompt", f"and n must amount to at most {MAXIMUM_READ} answers if echo returns the prompt's tokens"
            )

    @property
    def reads_prompt(self) -> bool:
        """True if the prompt's tokens are needed: for their log-probabilities, or because the prompt is given as
        token ids.
        """
        has_ids = not all(isinstance(one, str) for one in self.prompts)
        return bool(self.echo) and (self.logprobs is not None or has_ids)

    @property
    def prompts(self) -> list[Any]:
        """The prompts, each a text or token ids."""
        if not isinstance(self.prompt, list):
            return [self.prompt]
        # An array of integers is a single prompt.
        return [self.prompt] if self.prompt and _is_prompt(self.prompt) else list(self.prompt)

    @property
    def made(self) -> int:
        """Number of answers to generate for each prompt."""
        return self.best_of or self.n or 1


def read_chat(body: dict[str, Any]) -> tuple[ChatCompletionRequest, list[str]]:
    """Parse a JSON body. Returns the request and the names of ignored fields. Raises `InvalidField`."""
    taken, ignored = sort_fields(body, Endpoint.CHAT)
    for name, read in (("messages", readable_messages), ("tools", readable_tools)):
        if name in taken:
            taken[name], inner = read(taken[name])
            ignored += inner
    ignored += unread_template_options(taken.get("chat_template_kwargs"))
    request: ChatCompletionRequest = structure(taken, ChatCompletionRequest, prefix="body")
    return request, ignored


def read_completion(body: dict[str, Any]) -> tuple[CompletionRequest, list[str]]:
    """Like `read_chat`, for `POST /v1/completions`."""
    taken, ignored = sort_fields(body, Endpoint.COMPLETIONS)
    request: CompletionRequest = structure(taken, CompletionRequest, prefix="body")
    return request, ignored


def generate_from_chat(request: ChatCompletionRequest, tool_call_format: ToolCallFormat) -> Generate:
    """Build the engine's request for a chat completion; ``tool_call_format`` is the model's.

    Raises `InvalidField` with the client's field names.
    """
    schema = None if request.response_format is None else request.response_format.schema
    if not _has_tools(request) and not request.thinking.is_asked:
        return _from_chat(request, Generate, response_schema=schema)
    try:
        _check_tools(request)
        turns = turns_of(request.messages)
    except FieldFault as fault:
        raise _as_written(_in_old_words(fault) if request.is_legacy else fault) from None
    rule = call_rule(
        request.offered,
        request.choice,
        # The older form has room for one call in an answer.
        False if request.is_legacy else request.parallel_tool_calls,
        tool_call_format,
        answer_schema=schema,
    )
    if rule is not None and request.ignore_eos:
        raise _as_written(FieldFault("ignore_eos", _HAS_FORM))
    return _from_chat(
        request,
        GenerateWithTools,
        turns=turns,
        tools=as_templates_know(request.offered) if request.callable_names else None,
        tool_call_format=tool_call_format,
        thinks=request.thinking.thinks,
        reasoning_effort=request.thinking.effort,
        call_rule=rule,
        # With a rule the answer is a call, or follows the schema that is part of the rule.
        response_schema=schema if rule is None else None,
    )


def _has_tools(request: ChatCompletionRequest) -> bool:
    """True if the request needs a template with tools. Empty lists and `none` do not."""
    if request.offered or request.choice not in (None, "none", "auto"):
        return True
    return any(one.role in ("tool", "function") or one.calls or one.name for one in request.messages)


def _check_tools(request: ChatCompletionRequest) -> None:
    check_choice(request.offered, request.choice)
    if request.callable_names and request.logprobs:
        raise FieldFault("logprobs", "may not be given with tools: the reply has no tokens for calls")


def _from_chat(request: ChatCompletionRequest, kind: type[Generate], **fields: Any) -> Generate:
    roles = {"developer": Role.SYSTEM, "tool": Role.USER, "function": Role.USER}
    return _generate(
        request,
        kind,
        messages=[
            ChatMessage(roles[one.role] if one.role in roles else Role(one.role), one.text) for one in request.messages
        ],
        max_tokens=request.max_completion_tokens or request.max_tokens,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        **fields,
    )


def generates_from_prompts(request: CompletionRequest) -> list[Generate]:
    """Build the engine's requests for a completion. Raises `InvalidField` with the client's field names."""
    # The engine generates at least one token.
    common = {
        "max_tokens": None if request.max_tokens is None else max(1, request.max_tokens),
        "logprobs": request.logprobs,
    }
    return [
        _generate(request, Generate, prompt=one, **common)
        if isinstance(one, str)
        else _generate(request, GenerateFromIds, prompt="token ids", prompt_ids=one, **common)
        for one in request.prompts
    ]


def _generate(request: _Sampling, kind: type[Generate], **fields: Any) -> Generate:
    try:
        return kind(
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else max(request.top_p, LEAST_TOP_P),
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            repetition_penalty=request.repetition_penalty or request.repeat_penalty or 1.0,
            min_p=request.min_p or 0.0,
            top_k=request.top_k if request.top_k is not None and request.top_k > 0 else None,
            logit_bias=request.logit_bias,
            seed=request.seed if request.seed is None or 0 <= request.seed <= SEEDS else request.seed % SEEDS,
            stop=request.stops,
            deadline_ms=ANSWER_MILLISECONDS,
            **fields,
        )
    except FieldFault as fault:
        raise _as_written(fault) from None


def _is_prompt(value: Any) -> bool:
    """True for a non-empty text or non-empty token ids."""
    if isinstance(value, str) or not isinstance(value, list):
        return isinstance(value, str) and bool(value)
    return bool(value) and all(type(one) is int and 0 <= one < 2**31 for one in value)


def _in_old_words(fault: FieldFault) -> FieldFault:
    path = fault.path.replace("tool_choice.function", "function_call").replace("tool_choice", "function_call")
    return FieldFault(path.replace("tools[", "functions[").replace("].function.", "]."), fault.problem)


def _as_written(fault: FieldFault) -> InvalidField:
    return InvalidField(f"body.{fault.path} {fault.problem}", field=f"body.{fault.path}")


# Compiles the codec at import, so that the first request is as fast as the others.
structure({"model": "m", "messages": [{"role": "user", "content": "x"}]}, ChatCompletionRequest)
structure({"model": "m", "prompt": "x"}, CompletionRequest)
