"""Every field of Ollama's requests that this server knows, with its treatment: one table for code, tests and
reference.

Other fields are ignored and named in `LeanVibe-Ignored`, as in OpenAI's API (`openai/fields.py`).
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
        model="the name listed by `/api/tags`, with or without `:latest`",
        stream="lines of JSON by default; false returns one answer",
        format="`json` or a JSON Schema; it is enforced",
        options="see below",
        think="false turns reasoning off if the model's template allows that, or opens the reasoning itself; `low`, `medium` and `high` go to templates that use them",
        logprobs="true adds to each line the log-probabilities of its tokens, except for reasoning; not with `tools`",
        top_logprobs="0 to 20 alternatives for each token, with `logprobs`",
        keep_alive="0 in an empty request unloads the model, which needs an operator's token; otherwise the server's own setting applies",
    ),
    FieldRule("truncate", Treatment.IGNORED, "a prompt that is too long is refused", quiet=(False,)),
    FieldRule("shift", Treatment.IGNORED, "an answer ends at the end of the context", quiet=(False,)),
)

CHAT: tuple[FieldRule, ...] = (
    *_taken(
        messages="`role`, `content`, `tool_calls`, `tool_name`; `thinking` is accepted and not shown to the model; `images` are refused",
        tools="functions, as in OpenAI's API; a call is returned in one piece, with its arguments as an object",
    ),
    *_BOTH,
    FieldRule("prompt", Treatment.REFUSED, "is a field of /api/generate: send messages", quiet=("",)),
)
GENERATE: tuple[FieldRule, ...] = (
    *_taken(
        prompt="a question, or with `raw` a text that the model continues as it stands",
        system="a system message before the question",
        raw="true bypasses the model's chat template",
    ),
    *_BOTH,
    FieldRule("suffix", Treatment.REFUSED, "is not supported: the model cannot fill gaps", quiet=("",)),
    FieldRule("images", Treatment.REFUSED, "must be left out: this server reads text", quiet=([],)),
    FieldRule("template", Treatment.REFUSED, "must be left out: the model's own is used", quiet=("",)),
    FieldRule("context", Treatment.REFUSED, "must be left out: ask /api/chat with the earlier messages", quiet=([],)),
    FieldRule("messages", Treatment.REFUSED, "is a field of /api/chat: send prompt", quiet=([],)),
)
OPTIONS: tuple[FieldRule, ...] = (
    *_taken(
        num_predict="maximum number of tokens in the answer; -1 and -2 mean no limit but the context",
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
    FieldRule("num_ctx", Treatment.IGNORED, "the context is the model's own, as `/api/show` reports"),
    *_ignored(
        "a sampling option that this server does not support",
        "tfs_z", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta", "repeat_last_n", "penalize_newline",
    ),
    *_ignored(
        "set at the start of the server, or without meaning here",
        "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "logits_all",
        "vocab_only", "use_mmap", "use_mlock", "embedding_only", "draft_num_predict",
    ),
)  # fmt: skip

_EITHER = (
    *_taken(model="`all-minilm-l6-v2` or `all-minilm`, with or without `:latest`"),
    *_ignored("set at the start of the server, or without meaning here", "options", "keep_alive"),
)
EMBED: tuple[FieldRule, ...] = (
    *_EITHER,
    *_taken(
        input="a text, or an array of up to 2,048; an empty one alone loads the model",
        truncate="true, the default, truncates each text to 256 tokens; false refuses a longer one",
        dimensions="1 to 384, by default 384: the first components of each vector, normalized to length 1",
    ),
    FieldRule("prompt", Treatment.REFUSED, "is a field of /api/embeddings: send input", quiet=("",)),
)
EMBEDDINGS: tuple[FieldRule, ...] = (
    *_EITHER,
    *_taken(prompt="a text, truncated to 256 tokens; an empty one loads the model"),
    FieldRule("input", Treatment.REFUSED, "is a field of /api/embed: send prompt"),
)

RULES_OF_EMBED = {rule.name: rule for rule in EMBED}
RULES_OF_EMBEDDINGS = {rule.name: rule for rule in EMBEDDINGS}
RULES_OF_CHAT = {rule.name: rule for rule in CHAT}
RULES_OF_GENERATE = {rule.name: rule for rule in GENERATE}
RULES_OF_OPTIONS = {rule.name: rule for rule in OPTIONS}
