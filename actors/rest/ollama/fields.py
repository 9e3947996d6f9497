"""Every field of Ollama's requests that this server knows, and its treatment: one table for code, tests and reference.

A field that is not in the tables is passed over and named in `LeanVibe-Ignored`, as in OpenAI's API (`openai/fields.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.rest.openai.fields import FieldRule, Treatment

__all__ = [
    "CHAT",
    "EMBED",
    "EMBEDDINGS",
    "GENERATE",
    "OPTIONS",
    "RULES_OF_CHAT",
    "RULES_OF_EMBED",
    "RULES_OF_EMBEDDINGS",
    "RULES_OF_GENERATE",
    "RULES_OF_OPTIONS",
]


def _taken(**notes: str) -> Iterator[FieldRule]:
    for name, note in notes.items():
        yield FieldRule(name, Treatment.TAKEN, note)


def _ignored(note: str, *names: str) -> Iterator[FieldRule]:
    for name in names:
        yield FieldRule(name, Treatment.IGNORED, note)


_BOTH = (
    *_taken(
        model="the name that `/api/tags` lists, with or without `:latest`",
        stream="lines of JSON, by default; false answers at once",
        format="`json` or a JSON Schema; it is followed strictly",
        options="see below",
        think="false leaves thinking out where the model's template can, or has begun it; `low`, `medium` and `high` go to templates that take them",
        logprobs="true has each line tell the log-probabilities of its tokens; what is thought has none; not with `tools`",
        top_logprobs="0 to 20 alternatives to each token, with `logprobs`",
        keep_alive="with an empty request 0 unloads the model, which needs an operator's token; else the server's own setting holds",
    ),
    FieldRule("truncate", Treatment.IGNORED, "a prompt that is too long is refused and never cut", quiet=(False,)),
    FieldRule("shift", Treatment.IGNORED, "an answer ends at the context's end", quiet=(False,)),
)

CHAT: tuple[FieldRule, ...] = (
    *_taken(
        messages="`role`, `content`, `tool_calls`, `tool_name`; `thinking` is taken back and not shown to the model; `images` are refused",
        tools="functions, as in OpenAI's API; a call comes in one piece, with its arguments as an object",
    ),
    *_BOTH,
    FieldRule("prompt", Treatment.REFUSED, "is a field of /api/generate: send messages", quiet=("",)),
)
GENERATE: tuple[FieldRule, ...] = (
    *_taken(
        prompt="a question, or with `raw` a text that the model continues as it stands",
        system="a message of the system before the question",
        raw="true leaves the model's chat template out",
    ),
    *_BOTH,
    FieldRule("suffix", Treatment.REFUSED, "is not supported: the model fills no gaps", quiet=("",)),
    FieldRule("images", Treatment.REFUSED, "must be left out: this server reads text", quiet=([],)),
    FieldRule("template", Treatment.REFUSED, "must be left out: the model's own is used", quiet=("",)),
    FieldRule("context", Treatment.REFUSED, "must be left out: ask /api/chat with the earlier messages", quiet=([],)),
    FieldRule("messages", Treatment.REFUSED, "is a field of /api/chat: send prompt", quiet=([],)),
)
OPTIONS: tuple[FieldRule, ...] = (
    *_taken(
        num_predict="most tokens of the answer; -1 and -2 go on to the answer's own end, or the context's",
        temperature="0 to 2, by default 0.8",
        top_k="keeps this many of the likeliest tokens, by default 40; 0 keeps all",
        top_p="0 to 1, by default 0.9",
        min_p="0 to 1",
        repeat_penalty="0.1 to 10, by default 1.1",
        presence_penalty="-2 to 2",
        frequency_penalty="-2 to 2",
        seed="any integer of 64 bits",
        stop="a text, or up to 16",
    ),
    FieldRule("num_ctx", Treatment.IGNORED, "the context is the model's own, as `/api/show` says"),
    *_ignored(
        "a way to sample that this server does not have",
        "tfs_z", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta", "repeat_last_n", "penalize_newline",
    ),
    *_ignored(
        "set when the server starts, or of no meaning here",
        "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "logits_all",
        "vocab_only", "use_mmap", "use_mlock", "embedding_only", "draft_num_predict",
    ),
)  # fmt: skip

_EITHER = (
    *_taken(model="`all-minilm-l6-v2` or `all-minilm`, with or without `:latest`"),
    *_ignored("set when the server starts, or of no meaning here", "options", "keep_alive"),
)
EMBED: tuple[FieldRule, ...] = (
    *_EITHER,
    *_taken(
        input="a text, or an array of up to 2,048; an empty one alone loads the model",
        truncate="true, by default, cuts each text to 256 tokens; false refuses a longer one",
        dimensions="1 to 384, by default 384: the first numbers of each vector, brought back to length 1",
    ),
    FieldRule("prompt", Treatment.REFUSED, "is a field of /api/embeddings: send input", quiet=("",)),
)
EMBEDDINGS: tuple[FieldRule, ...] = (
    *_EITHER,
    *_taken(prompt="a text, cut to 256 tokens; an empty one loads the model"),
    FieldRule("input", Treatment.REFUSED, "is a field of /api/embed: send prompt"),
)

RULES_OF_EMBED = {rule.name: rule for rule in EMBED}
RULES_OF_EMBEDDINGS = {rule.name: rule for rule in EMBEDDINGS}
RULES_OF_CHAT = {rule.name: rule for rule in CHAT}
RULES_OF_GENERATE = {rule.name: rule for rule in GENERATE}
RULES_OF_OPTIONS = {rule.name: rule for rule in OPTIONS}
