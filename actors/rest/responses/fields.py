"""Every field of `POST /v1/responses` that this server knows, with its treatment: one table for code, tests and
reference.

Other fields are ignored and named in `LeanVibe-Ignored`, as in the rest of OpenAI's API.
"""

from __future__ import annotations

from actors.rest.openai.fields import FieldRule, Treatment

__all__ = ["FIELDS", "IGNORED_TOOLS", "RULES"]

_TAKEN = {
    "model": "the name listed by `GET /v1/models`",
    "input": "a text, or an array of items; see below. It may be empty, as probes send it",
    "instructions": "a message of the role system before all others; not carried over by `previous_response_id`",
    "previous_response_id": "continues a stored response of this client: its input and output come first, preceded by those it continued",
    "conversation": 'the id of a conversation of `/v1/conversations`, alone or as `{"id": …}`: its items come first, and input and output are added to it once with the response\'s end; not with `previous_response_id`, nor with `store` false',
    "store": "true by default: the response can be read again for thirty days. False: it ends with its connection",
    "background": "true: answered at once with the status `queued`; not with `store` false",
    "stream": "server-sent events; a comment at least every 10 s while nothing else comes",
    "stream_options": "no event is ever padded, whatever `include_obfuscation` says",
    "max_output_tokens": "maximum number of tokens in the answer; by default and at most, the rest of the context",
    "temperature": "0 to 2, by default 1",
    "top_p": "0 to 1; 0 keeps the likeliest token only",
    "text": "`format` of the type `text`, `json_object` or `json_schema`, which is always enforced; `verbosity` is ignored",
    "tools": "tools of the type `function`, with `name` and `parameters`; other types are ignored and named",
    "tool_choice": "`none`, `auto`, `required`, one function, or `allowed_tools`",
    "parallel_tool_calls": "false: one call at most",
    "metadata": 'up to 16 texts of up to 512 characters by names of up to 64; `notify` `"true"` sends a notification at its end',
    "truncation": "`auto` drops the oldest turns if the input is too long, and reports the number of items in `dropped_input_items`; `disabled` by default",
    "include": "`message.output_text.logprobs`; others are ignored",
    "top_logprobs": "0 to 20 alternatives for each token, with `include`",
    "reasoning": "`effort` as of `reasoning_effort` in chats; `summary` is ignored",
    "service_tier": "a label: there is only one tier",
    "user": "a label",
    "safety_identifier": "a label",
    "prompt_cache_key": "a label: prompts with a common prefix share its computation anyway",
    "seed": "an addition of this server: any integer of 64 bits",
    "stop": "an addition of this server: a text, or up to 16",
    "top_k": "an addition of this server",
    "min_p": "an addition of this server",
    "presence_penalty": "an addition of this server: -2 to 2",
    "frequency_penalty": "an addition of this server: -2 to 2",
}
FIELDS: tuple[FieldRule, ...] = (
    *(FieldRule(name, Treatment.TAKEN, note) for name, note in _TAKEN.items()),
    FieldRule("max_tool_calls", Treatment.IGNORED, "this server runs no tools"),
    FieldRule("prompt_cache_retention", Treatment.IGNORED, "the server decides how long prompts are cached"),
    FieldRule("context_management", Treatment.IGNORED, "nothing is compacted; use `truncation`", quiet=([],)),
    FieldRule("client_metadata", Treatment.IGNORED, "labels of Codex; not stored", quiet=({},)),
    FieldRule("prompt", Treatment.REFUSED, "must be null: this server stores no templates"),
    FieldRule("moderation", Treatment.REFUSED, "must be null: moderation is not supported"),
    FieldRule("modalities", Treatment.REFUSED, "must be [\"text\"]: answers are text", quiet=(["text"],)),
    FieldRule("n", Treatment.REFUSED, "must be 1: there is one answer", quiet=(1,)),
    FieldRule("messages", Treatment.REFUSED, "is a field of another API: send input"),
    FieldRule("response_format", Treatment.REFUSED, "is a field of another API: send text.format", quiet=({"type": "text"},)),
    FieldRule("functions", Treatment.REFUSED, "is a field of another API: send tools", quiet=([],)),
    FieldRule("max_tokens", Treatment.REFUSED, "is a field of another API: send max_output_tokens"),
    FieldRule("max_completion_tokens", Treatment.REFUSED, "is a field of another API: send max_output_tokens"),
    FieldRule("logprobs", Treatment.REFUSED, "is a field of another API: send include", quiet=(False,)),
)  # fmt: skip
"""In the order of the reference."""

RULES = {rule.name: rule for rule in FIELDS}

IGNORED_TOOLS = (
    "web_search", "web_search_preview", "namespace", "custom", "local_shell", "shell", "apply_patch", "file_search", "mcp",
    "code_interpreter", "image_generation", "computer", "computer_use_preview", "tool_search",
)  # fmt: skip
"""Known types of tools that this server does not run, for the reference."""
