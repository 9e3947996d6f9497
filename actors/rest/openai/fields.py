"""Every field of an OpenAI request that this server knows, with its treatment: one table for code, tests and
reference.

A field that is not in the table was not meant for this server: it is ignored, and named in the header
`LeanVibe-Ignored`. Fields are refused if ignoring them would change the meaning of the answer.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from attrs import frozen

from protocol.errors import InvalidField

__all__ = [
    "EMBEDDINGS",
    "EMBEDDING_RULES",
    "FIELDS",
    "IGNORED_HEADER",
    "Endpoint",
    "FieldRule",
    "Treatment",
    "field_lines",
    "ignored_header",
    "sort_by_rules",
    "sort_fields",
]

IGNORED_HEADER = "LeanVibe-Ignored"
MAXIMUM_NAMED = 32
NAME_CHARACTERS = 128


class Endpoint(enum.Enum):
    """The endpoints that a field belongs to."""

    CHAT = "chat"
    COMPLETIONS = "completions"


class Treatment(enum.Enum):
    """Treatments of a field."""

    TAKEN = "taken"
    """Applied, or a label without effect."""
    IGNORED = "ignored"
    """Affects how the answer is produced, not its content: ignored and named in the response's header."""
    REFUSED = "refused"
    """Ignoring it would change the answer: the request is rejected."""


BOTH = frozenset(Endpoint)
CHAT = frozenset({Endpoint.CHAT})
COMPLETIONS = frozenset({Endpoint.COMPLETIONS})


@frozen
class FieldRule:
    """Treatment of a field."""

    name: str
    treatment: Treatment
    note: str
    """Its effect here, or the alternative to it."""
    endpoints: frozenset[Endpoint] = BOTH
    quiet: tuple[Any, ...] = ()
    """Values that request nothing, as null always does: they are neither named nor refused."""

    def asks_for_nothing(self, value: Any) -> bool:
        """True if the value has no effect on any server."""
        # In Python 1 == True, but JSON's 1 is not true.
        return value is None or any(value == one and type(value) is type(one) for one in self.quiet)


def _taken(endpoints: frozenset[Endpoint], **notes: str) -> Iterator[FieldRule]:
    for name, note in notes.items():
        yield FieldRule(name, Treatment.TAKEN, note, endpoints)


def _ignored(note: str, *names: str, endpoints: frozenset[Endpoint] = BOTH) -> Iterator[FieldRule]:
    for name in names:
        yield FieldRule(name, Treatment.IGNORED, note, endpoints)


FIELDS: tuple[FieldRule, ...] = (
    *_taken(
        BOTH,
        model="the name listed by `GET /v1/models`",
        max_tokens="maximum number of tokens in the answer; by default and at most, the rest of the context",
        temperature="0 to 2, by default 1",
        top_p="0 to 1; 0 keeps the likeliest token only",
        top_k="keeps this many of the likeliest tokens; 0 and -1 keep all",
        min_p="keeps tokens at least this likely, relative to the likeliest",
        presence_penalty="-2 to 2",
        frequency_penalty="-2 to 2",
        repetition_penalty="divides the scores of tokens seen before; 1 is off",
        repeat_penalty="another name of `repetition_penalty`",
        logit_bias="-100 to 100 by token id",
        seed="any integer of 64 bits",
        stop="a text, or up to 16",
        ignore_eos="true: the answer continues past the model's own end, to its length limit or the end of the context; not with an enforced format",
        stream="server-sent events",
        stream_options="`include_usage`; no chunk is ever padded, whatever `include_obfuscation` says",
        n="1 to 8 answers",
        user="a label",
        metadata="labels; not stored",
        safety_identifier="a label",
        prompt_cache_key="a label: prompts with a common prefix share its computation anyway",
    ),
    *_taken(
        CHAT,
        messages="the chat; see below",
        max_completion_tokens="the newer name of `max_tokens`",
        logprobs="true returns the log-probability of each token",
        top_logprobs="0 to 20 alternatives",
        response_format="`text`, `json_object` or `json_schema`; a schema is always enforced; parts that answers leave out are named",
        tools="functions; if the model's template does not support tools, they are described in a generic form",
        tool_choice="`none`, `auto`, `required`, one function, or `allowed_tools` with their mode",
        parallel_tool_calls="false: one call at most",
        functions="the old form of `tools`: one call at most, answered as `function_call`; not with `tools`",
        function_call="the old form of `tool_choice`: `none`, `auto` or `{\"name\"}`",
        modalities="`[\"text\"]`",
        reasoning_effort="`none` turns reasoning off if the model's template allows that, or opens the reasoning itself; other values go to templates that use them (gpt-oss)",
        chat_template_kwargs="`enable_thinking`, `thinking` and `reasoning_effort`; others are ignored",
        enable_thinking="the same as in `chat_template_kwargs`",
    ),
    *_taken(
        COMPLETIONS,
        prompt="a text, an array of token ids, or several of either; with `n` up to 64 answers in all; ids are used as they are",
        logprobs="0 to 5 alternatives for each token",
        echo="the prompt before the answer; with `logprobs` its tokens too, the first with null",
        best_of="generates 1 to 8 answers and returns the `n` likeliest; not with `stream`",
    ),
    FieldRule("store", Treatment.IGNORED, "nothing is stored", quiet=(False,)),
    FieldRule("service_tier", Treatment.IGNORED, "there is only one tier", quiet=("auto", "default")),
    FieldRule("verbosity", Treatment.IGNORED, "ask for short answers in words", CHAT, ("medium",)),
    FieldRule("prediction", Treatment.IGNORED, "it affects speed only", CHAT),
    FieldRule("prompt_cache_retention", Treatment.IGNORED, "the server decides how long prompts are cached"),
    *_ignored(
        "a sampling option that this server does not support",
        "typical_p", "tfs_z", "top_a", "epsilon_cutoff", "eta_cutoff", "mirostat", "mirostat_mode", "mirostat_tau",
        "mirostat_eta", "xtc_threshold", "xtc_probability", "dry_multiplier", "dry_base", "dry_allowed_length",
        "dry_sequence_breakers", "dry_penalty_last_n", "repeat_last_n", "penalize_nl", "dynatemp_range", "dynatemp_exponent",
        "length_penalty", "early_stopping", "min_keep", "samplers", "do_sample",
    ),
    *_ignored(
        "set at the start of the server, or without meaning here",
        "keep_alive", "cache_prompt", "id_slot", "slot_id", "n_keep", "options", "num_ctx", "timings_per_token", "priority",
        "request_id", "spaces_between_special_tokens", "truncate_prompt_tokens", "extra_body", "extra_headers", "timeout",
        "provider", "transforms", "route", "models", "usage", "include", "think", "thinking", "reasoning",
        "reasoning_format", "include_reasoning", "mm_processor_kwargs",
        "safe_prompt", "random_seed", "return_progress",
    ),
    FieldRule("modalities", Treatment.REFUSED, "must be [\"text\"]: answers are text", COMPLETIONS, (["text"],)),
    FieldRule("audio", Treatment.REFUSED, "must be null: answers are text"),
    FieldRule("image", Treatment.REFUSED, "must be left out: this server reads text"),
    FieldRule("images", Treatment.REFUSED, "must be left out: this server reads text", quiet=([],)),
    FieldRule("moderation", Treatment.REFUSED, "must be null: moderation is not supported"),
    FieldRule("web_search_options", Treatment.REFUSED, "must be left out: this server does not search the web"),
    FieldRule("plugins", Treatment.REFUSED, "must be left out: plugins are not supported", quiet=([],)),
    FieldRule("tools", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ([],)),
    FieldRule("tool_choice", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ("none", "auto")),
    FieldRule("messages", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS),
    FieldRule("response_format", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ({"type": "text"},)),
    FieldRule("max_completion_tokens", Treatment.REFUSED, "is a field of chats: send max_tokens", COMPLETIONS),
    FieldRule("suffix", Treatment.REFUSED, "is not supported: the model cannot fill gaps", quiet=("",)),
    FieldRule("prompt", Treatment.REFUSED, "is a field of /v1/completions: send messages", CHAT),
    FieldRule("input", Treatment.REFUSED, "is a field of another API: send messages"),
    FieldRule("instructions", Treatment.REFUSED, "is a field of another API: send a message of the role system", quiet=("",)),
    FieldRule("system", Treatment.REFUSED, "is a field of another API: send a message of the role system", quiet=("",)),
    FieldRule("stop_sequences", Treatment.REFUSED, "is a field of another API: send stop", quiet=([],)),
    FieldRule("stop_token_ids", Treatment.REFUSED, "is not supported: send stop", quiet=([],)),
    FieldRule("bad_words", Treatment.REFUSED, "is not supported: send logit_bias", quiet=([],)),
    FieldRule("min_tokens", Treatment.REFUSED, "is not supported: answers end where the model ends them", quiet=(0,)),
    *(
        FieldRule(name, Treatment.REFUSED, "is a field of another API: send max_tokens")
        for name in ("max_new_tokens", "max_output_tokens", "max_length", "n_predict", "num_predict")
    ),
    *(
        FieldRule(name, Treatment.REFUSED, "is not supported: send response_format to a chat")
        for name in (
            "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar", "json_schema",
            "format", "regex", "ebnf",
        )
    ),
    FieldRule("use_beam_search", Treatment.REFUSED, "must be false: answers are sampled", quiet=(False,)),
    FieldRule("prompt_logprobs", Treatment.REFUSED, "is not supported: send echo with logprobs to /v1/completions"),
    FieldRule("return_tokens_as_token_ids", Treatment.REFUSED, "must be false", quiet=(False,)),
    FieldRule("include_stop_str_in_output", Treatment.REFUSED, "must be false: answers end before it", quiet=(False,)),
    FieldRule("skip_special_tokens", Treatment.REFUSED, "must be true", quiet=(True,)),
    FieldRule("add_special_tokens", Treatment.REFUSED, "is not supported: the model's template decides", quiet=(False, True)),
    FieldRule("add_generation_prompt", Treatment.REFUSED, "must be true", CHAT, (True,)),
    FieldRule("continue_final_message", Treatment.REFUSED, "must be false: ask /v1/completions", CHAT, (False,)),
    FieldRule("chat_template", Treatment.REFUSED, "must be left out: the model's own is used", CHAT),
    FieldRule("documents", Treatment.REFUSED, "must be left out: put them into a message", CHAT, ([],)),
    FieldRule("echo", Treatment.REFUSED, "must be false in chats", CHAT, (False,)),
    FieldRule("best_of", Treatment.REFUSED, "must be 1 in chats", CHAT, (1,)),
)  # fmt: skip
"""In the order of the reference. Each name has at most one rule per endpoint."""

_RULES = {endpoint: {rule.name: rule for rule in FIELDS if endpoint in rule.endpoints} for endpoint in Endpoint}


EMBEDDINGS: tuple[FieldRule, ...] = (
    *_taken(
        frozenset(),
        model="`all-minilm-l6-v2`, also by the names `all-minilm` and `sentence-transformers/all-MiniLM-L6-v2`",
        input="a text, an array of up to 2,048 texts, an array of token ids or up to 2,048 of those; none of them empty. Ids are those of "
        "the encoder's own vocabulary, with or without its [CLS] and [SEP], and never tiktoken's",
        dimensions="1 to 384, by default 384: the first components of each vector, normalized to length 1. The model was not trained for that, "
        "so retrieval gets worse with fewer dimensions",
        encoding_format="`float` or `base64` (float32, little-endian)",
        user="a label",
    ),
    FieldRule("messages", Treatment.REFUSED, "is a field of chats: send input", frozenset()),
    FieldRule("prompt", Treatment.REFUSED, "is a field of /v1/completions: send input", frozenset()),
    FieldRule("stream", Treatment.REFUSED, "must be false: vectors are not streamed", frozenset(), (False,)),
)
"""Fields of `/v1/embeddings`."""
EMBEDDING_RULES = {rule.name: rule for rule in EMBEDDINGS}


def sort_fields(body: dict[str, Any], endpoint: Endpoint) -> tuple[dict[str, Any], list[str]]:
    """Split a body into the fields to apply and the names of ignored ones. Raises `InvalidField` for a refused field."""
    return sort_by_rules(body, _RULES[endpoint])


def sort_by_rules(body: dict[str, Any], rules: Mapping[str, FieldRule]) -> tuple[dict[str, Any], list[str]]:
    """Like `sort_fields`, by the rules of another table."""
    taken: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in body.items():
        rule = rules.get(name)
        if rule is not None and rule.treatment is Treatment.TAKEN:
            taken[name] = value
        elif rule is None:
            ignored.append(name)
        elif not rule.asks_for_nothing(value):
            if rule.treatment is Treatment.REFUSED:
                raise InvalidField(f"body.{name} {rule.note}", field=f"body.{name}")
            ignored.append(name)
    return taken, ignored


def ignored_header(names: Sequence[str]) -> str:
    """Format names chosen by a client as the value of a header."""
    return ", ".join(quote(name[:NAME_CHARACTERS], safe="[]/", errors="replace") for name in names[:MAXIMUM_NAMED])


def field_lines(rules: Iterable[FieldRule]) -> str:
    """Render rules as a Markdown table."""
    lines = ["| field | is | no effect | |", "|---|---|---|---|"]
    for rule in rules:
        quiet = ", ".join(f"`{json.dumps(one)}`" for one in rule.quiet)
        lines.append(f"| `{rule.name}` | {rule.treatment.value} | {quiet} | {rule.note} |")
    return "".join(f"{one}\n" for one in lines)
