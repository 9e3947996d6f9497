"""Every field of `/v1/messages` that this server knows, with its treatment: one table for code, tests and reference.

Other fields are ignored and named in `LeanVibe-Ignored`, as in OpenAI's API (`openai/fields.py`).
"""

from __future__ import annotations

from actors.rest.openai.fields import FieldRule, Treatment

__all__ = ["FIELDS", "RULES"]

_TAKEN = {
    "model": "the name listed by `GET /v1/models`",
    "max_tokens": "at least 1; limited by the context. Not needed by `count_tokens`",
    "messages": "the chat; see below",
    "system": "a text, or an array of text blocks. Claude Code's billing line at its beginning is removed: it changes with "
    "every request and would spoil the prefix cache",
    "stop_sequences": "up to 16 texts",
    "stream": "server-sent events, with `ping` at least every 10 s while nothing else comes",
    "temperature": "0 to 1, by default 1",
    "top_p": "0 to 1; 0 keeps the likeliest token only",
    "top_k": "keeps this many of the likeliest tokens",
    "tools": "client tools with an `input_schema`; they work with every model, as in OpenAI's API",
    "tool_choice": "`auto`, `any`, `tool` or `none`, with `disable_parallel_tool_use`; `any` and `tool` constrain the answer to a call",
    "metadata": "labels; `user_id` has up to 512 characters, and has no effect",
    "output_config": "`format` of type `json_schema` is enforced; `effort` is ignored",
    "output_format": "the older name of `output_config.format`",
    "cache_control": "accepted anywhere: prompts with a common prefix share its computation anyway",
    "thinking": "`disabled` turns it off if the model's template allows that, or opens it itself; `enabled` and `adaptive` leave it to the model; "
    "`budget_tokens` is not counted",
    "seed": "an addition of this server: any integer from 0 to 2^53",
}
FIELDS: tuple[FieldRule, ...] = (
    *(FieldRule(name, Treatment.TAKEN, note) for name, note in _TAKEN.items()),
    FieldRule("service_tier", Treatment.IGNORED, "there is only one tier", quiet=("auto", "standard_only")),
    FieldRule("context_management", Treatment.IGNORED, "chats are not shortened; one that is too long is refused"),
    FieldRule("inference_geo", Treatment.IGNORED, "answers are generated on this machine"),
    FieldRule("speed", Treatment.IGNORED, "there is one speed", quiet=("standard",)),
    FieldRule("diagnostics", Treatment.IGNORED, "cache misses are not explained"),
    FieldRule("betas", Treatment.IGNORED, "there are no betas", quiet=([],)),
    FieldRule("container", Treatment.REFUSED, "must be null: this server runs no containers"),
    FieldRule("mcp_servers", Treatment.REFUSED, "must be left out: this server calls no MCP servers", quiet=([],)),
    FieldRule("prompt", Treatment.REFUSED, "is a field of another API: send messages"),
    FieldRule("max_tokens_to_sample", Treatment.REFUSED, "is a field of another API: send max_tokens"),
    FieldRule("max_completion_tokens", Treatment.REFUSED, "is a field of another API: send max_tokens"),
    FieldRule("stop", Treatment.REFUSED, "is a field of another API: send stop_sequences", quiet=([],)),
    FieldRule("response_format", Treatment.REFUSED, "is a field of another API: send output_config"),
    FieldRule("functions", Treatment.REFUSED, "is a field of another API: send tools", quiet=([],)),
    FieldRule("logit_bias", Treatment.REFUSED, "is a field of another API: ask /v1/chat/completions", quiet=({},)),
    FieldRule("logprobs", Treatment.REFUSED, "is a field of another API: ask /v1/chat/completions", quiet=(False,)),
    FieldRule("n", Treatment.REFUSED, "must be 1: there is one answer", quiet=(1,)),
)
"""In the order of the reference."""

RULES = {rule.name: rule for rule in FIELDS}
