"""Every field of a request that this server knows, and what becomes of it: one table for the code, the tests and the reference.

A field that is not in the table cannot have been meant for this server: it is passed over, and the answer says so in
`LeanVibe-Ignored`. Refused is what would make the answer another one than was asked for.
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
    """Whose body a field stands in."""

    CHAT = "chat"
    COMPLETIONS = "completions"


class Treatment(enum.Enum):
    """What becomes of a field."""

    TAKEN = "taken"
    """It is carried out, or is a label that nothing depends on."""
    IGNORED = "ignored"
    """It changes how, and not what, is answered: passed over and named in the response's header."""
    REFUSED = "refused"
    """Without it the answer would be another one than was asked for."""


BOTH = frozenset(Endpoint)
CHAT = frozenset({Endpoint.CHAT})
COMPLETIONS = frozenset({Endpoint.COMPLETIONS})


@frozen
class FieldRule:
    """One field."""

    name: str
    treatment: Treatment
    note: str
    """What it does here, or what to do instead."""
    endpoints: frozenset[Endpoint] = BOTH
    quiet: tuple[Any, ...] = ()
    """Values that ask for nothing, as null always does: they are neither named nor refused."""

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether the value is one that changes nothing anywhere."""
        # 1 == True in Python, and JSON's 1 is not true.
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
        model="the name that `GET /v1/models` says",
        max_tokens="most tokens of the answer; without it, and beyond that, up to the context's end",
        temperature="0 to 2, by default 1",
        top_p="0 to 1; 0 leaves the likeliest token alone",
        top_k="keeps this many of the likeliest tokens; 0 and -1 keep all",
        min_p="keeps tokens at least this likely, relative to the likeliest",
        presence_penalty="-2 to 2",
        frequency_penalty="-2 to 2",
        repetition_penalty="divides the scores of tokens seen before; 1 is off",
        repeat_penalty="another name of `repetition_penalty`",
        logit_bias="-100 to 100 by token id",
        seed="any integer of 64 bits",
        stop="a text, or up to 16",
        ignore_eos="true: the answer goes on past the model's own end to its length, or the context's end; not with a form to follow",
        stream="server-sent events",
        stream_options="`include_usage`; no chunk is ever padded, whatever `include_obfuscation` says",
        n="1 to 8 answers",
        user="a label",
        metadata="labels; nothing is stored under them",
        safety_identifier="a label",
        prompt_cache_key="a label: prompts that begin alike share what was computed for them by themselves",
    ),
    *_taken(
        CHAT,
        messages="the chat; see below",
        max_completion_tokens="the newer name of `max_tokens`",
        logprobs="true tells the log-probability of each token",
        top_logprobs="0 to 20 alternatives",
        response_format="`text`, `json_object` or `json_schema`; a schema is always followed strictly, and what answers leave out of it is named",
        tools="functions; where the model's template has no tools they are described to it in a generic form",
        tool_choice="`none`, `auto`, `required`, one function, or `allowed_tools` with their mode",
        parallel_tool_calls="false: one call at most",
        functions="the old form of `tools`: one call at most, answered as `function_call`; not with `tools`",
        function_call="the old form of `tool_choice`: `none`, `auto` or `{\"name\"}`",
        modalities="`[\"text\"]`",
        reasoning_effort="`none` leaves thinking out where the model's template can, or has begun it; other words go to templates that take them (gpt-oss)",
        chat_template_kwargs="`enable_thinking`, `thinking` and `reasoning_effort`; others are ignored",
        enable_thinking="the same as in `chat_template_kwargs`",
    ),
    *_taken(
        COMPLETIONS,
        prompt="a text, an array of token ids, or several of either; with `n` up to 64 answers in all; ids are taken as they stand",
        logprobs="0 to 5 alternatives beside each token",
        echo="the prompt before the answer; with `logprobs` its tokens too, the first with null",
        best_of="1 to 8 answers are made, and the `n` likeliest told; not with `stream`",
    ),
    FieldRule("store", Treatment.IGNORED, "nothing is stored", quiet=(False,)),
    FieldRule("service_tier", Treatment.IGNORED, "there is one way to be served", quiet=("auto", "default")),
    FieldRule("verbosity", Treatment.IGNORED, "ask for short answers in words", CHAT, ("medium",)),
    FieldRule("prediction", Treatment.IGNORED, "it makes answers faster elsewhere, and no other ones", CHAT),
    FieldRule("prompt_cache_retention", Treatment.IGNORED, "how long prompts are kept is the server's affair"),
    *_ignored(
        "a way to sample that this server does not have",
        "typical_p", "tfs_z", "top_a", "epsilon_cutoff", "eta_cutoff", "mirostat", "mirostat_mode", "mirostat_tau",
        "mirostat_eta", "xtc_threshold", "xtc_probability", "dry_multiplier", "dry_base", "dry_allowed_length",
        "dry_sequence_breakers", "dry_penalty_last_n", "repeat_last_n", "penalize_nl", "dynatemp_range", "dynatemp_exponent",
        "length_penalty", "early_stopping", "min_keep", "samplers", "do_sample",
    ),
    *_ignored(
        "set when the server starts, or of no meaning here",
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
    FieldRule("moderation", Treatment.REFUSED, "must be null: there is none"),
    FieldRule("web_search_options", Treatment.REFUSED, "must be left out: this server searches nothing"),
    FieldRule("plugins", Treatment.REFUSED, "must be left out: there are none", quiet=([],)),
    FieldRule("tools", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ([],)),
    FieldRule("tool_choice", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ("none", "auto")),
    FieldRule("messages", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS),
    FieldRule("response_format", Treatment.REFUSED, "is a field of chats: ask /v1/chat/completions", COMPLETIONS, ({"type": "text"},)),
    FieldRule("max_completion_tokens", Treatment.REFUSED, "is a field of chats: send max_tokens", COMPLETIONS),
    FieldRule("suffix", Treatment.REFUSED, "is not supported: the model fills no gaps", quiet=("",)),
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
    FieldRule("add_special_tokens", Treatment.REFUSED, "is not supported: the model's template says", quiet=(False, True)),
    FieldRule("add_generation_prompt", Treatment.REFUSED, "must be true", CHAT, (True,)),
    FieldRule("continue_final_message", Treatment.REFUSED, "must be false: ask /v1/completions", CHAT, (False,)),
    FieldRule("chat_template", Treatment.REFUSED, "must be left out: the model's own is used", CHAT),
    FieldRule("documents", Treatment.REFUSED, "must be left out: put them into a message", CHAT, ([],)),
    FieldRule("echo", Treatment.REFUSED, "must be false in chats", CHAT, (False,)),
    FieldRule("best_of", Treatment.REFUSED, "must be 1 in chats", CHAT, (1,)),
)  # fmt: skip
"""Order is that of the reference; a name has one rule for each endpoint at most."""

_RULES = {endpoint: {rule.name: rule for rule in FIELDS if endpoint in rule.endpoints} for endpoint in Endpoint}


EMBEDDINGS: tuple[FieldRule, ...] = (
    *_taken(
        frozenset(),
        model="`all-minilm-l6-v2`, also by the names `all-minilm` and `sentence-transformers/all-MiniLM-L6-v2`",
        input="a text, an array of up to 2,048 texts, an array of token ids or up to 2,048 of those; none of them empty. Ids are those of "
        "the encoder's own vocabulary, with or without its [CLS] and [SEP], and never tiktoken's",
        dimensions="1 to 384, by default 384: the first numbers of each vector, brought back to length 1. The model was not trained for that, "
        "so neighbours are found less well the fewer there are",
        encoding_format="`float` or `base64` (float32, little-endian)",
        user="a label",
    ),
    FieldRule("messages", Treatment.REFUSED, "is a field of chats: send input", frozenset()),
    FieldRule("prompt", Treatment.REFUSED, "is a field of /v1/completions: send input", frozenset()),
    FieldRule("stream", Treatment.REFUSED, "must be false: vectors come at once", frozenset(), (False,)),
)
"""Those of `/v1/embeddings`."""
EMBEDDING_RULES = {rule.name: rule for rule in EMBEDDINGS}


def sort_fields(body: dict[str, Any], endpoint: Endpoint) -> tuple[dict[str, Any], list[str]]:
    """The fields that are taken, and the names of those that are passed over. Raises `InvalidField` for one that is refused."""
    return sort_by_rules(body, _RULES[endpoint])


def sort_by_rules(body: dict[str, Any], rules: Mapping[str, FieldRule]) -> tuple[dict[str, Any], list[str]]:
    """The same by the rules of another table."""
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
    """Names that a client chose, as the value of a header."""
    return ", ".join(quote(name[:NAME_CHARACTERS], safe="[]/", errors="replace") for name in names[:MAXIMUM_NAMED])


def field_lines(rules: Iterable[FieldRule]) -> str:
    """Head and one line a field."""
    lines = ["| field | is | asks for nothing | |", "|---|---|---|---|"]
    for rule in rules:
        quiet = ", ".join(f"`{json.dumps(one)}`" for one in rule.quiet)
        lines.append(f"| `{rule.name}` | {rule.treatment.value} | {quiet} | {rule.note} |")
    return "".join(f"{one}\n" for one in lines)
