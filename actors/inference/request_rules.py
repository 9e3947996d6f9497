"""Rules for requests to the loaded model: limits, deadlines and sampling settings. Pure functions."""

from __future__ import annotations

import math

from actors.inference.messages import GenerationRefused
from actors.inference.sampling import Sampling
from actors.inference.tools import GenerateFromIds
from protocol.errors import ErrorCode
from protocol.generation import Generate

__all__ = ["DEFAULT_MAX_TOKENS", "check_request", "deadline_of", "sampling_of", "too_long"]

DEFAULT_MAX_TOKENS = 1024
"""Answer length if neither the request, nor a setting, nor the caller's API specifies one."""


def deadline_of(generate: Generate, asked_at: float | None, now: float) -> float:
    """Deadline of a request on the clock of the other arguments; infinite without one.

    It counts from the first time the request was made, across all recoveries.
    """
    if generate.deadline_ms is None:
        return math.inf
    return (now if asked_at is None else asked_at) + generate.deadline_ms / 1000


def check_request(
    generate: Generate,
    *,
    prompt_tokens: int,
    vocabulary_size: int,
    context_tokens: int,
    default_max_tokens: int | None,
    to_context_end: bool = False,
) -> int:
    """Returns the maximum number of answer tokens. Raises `GenerationRefused` naming the field at fault.

    With ``to_context_end`` a requested length is an upper bound like the context, and the smaller one applies.
    """
    if generate.top_k is not None and generate.top_k > vocabulary_size:
        raise GenerationRefused(
            ErrorCode.INVALID_FIELD,
            f"data.top_k must be at most the vocabulary's {vocabulary_size}, not {generate.top_k}",
            field="data.top_k",
        )
    for token in generate.logit_bias or {}:
        if int(token) >= vocabulary_size:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD,
                f"data.logit_bias names token {token}; the vocabulary has {vocabulary_size}",
                field=f"data.logit_bias.{token}",
            )
    if isinstance(generate, GenerateFromIds) and max(generate.prompt_ids) >= vocabulary_size:
        raise GenerationRefused(
            ErrorCode.INVALID_FIELD,
            f"data.prompt names token {max(generate.prompt_ids)}; the vocabulary has {vocabulary_size}",
            field="data.prompt",
        )
    room = context_tokens - prompt_tokens
    wanted = generate.max_tokens
    if prompt_tokens == 0:
        raise GenerationRefused(ErrorCode.INVALID_FIELD, "the prompt has no tokens", field="data.prompt")
    if room < 1 or (wanted is not None and wanted > room and not to_context_end):
        is_prompt = wanted is None or room < 1
        raise GenerationRefused(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            too_long(context_tokens, prompt_tokens, wanted, is_chat=generate.messages is not None),
            field=f"data.{'messages' if generate.messages else 'prompt'}" if is_prompt else "data.max_tokens",
        )
    if wanted is not None:
        return min(wanted, room)
    if generate.max_tokens_if_room is not None:
        return min(generate.max_tokens_if_room, room)
    if default_max_tokens is None:
        return room if to_context_end else min(DEFAULT_MAX_TOKENS, room)
    return min(default_max_tokens, room)


def too_long(context_tokens: int, prompt_tokens: int, wanted_tokens: int | None, *, is_chat: bool) -> str:
    """Error message for a request beyond the context, in OpenAI's words: clients look for them to shorten a chat and
    retry."""
    prompt = "messages" if is_chat else "prompt"
    start = f"This model's maximum context length is {context_tokens} tokens. However, "
    if wanted_tokens is None:
        return (
            f"{start}your {prompt} resulted in {prompt_tokens} tokens, which leaves no room for an answer. "
            f"Please reduce the length of the {prompt}."
        )
    return (
        f"{start}you requested {prompt_tokens + wanted_tokens} tokens ({prompt_tokens} in the {prompt}, {wanted_tokens} in the "
        f"completion). Please reduce the length of the {prompt} or completion."
    )


def sampling_of(generate: Generate, seed: int) -> Sampling:
    """The worker's sampling settings for a request."""
    return Sampling(
        temperature=generate.temperature,
        top_p=generate.top_p,
        top_k=generate.top_k or 0,
        min_p=generate.min_p,
        repetition_penalty=generate.repetition_penalty,
        presence_penalty=generate.presence_penalty,
        frequency_penalty=generate.frequency_penalty,
        logit_bias={int(token): bias for token, bias in (generate.logit_bias or {}).items()},
        seed=seed,
    )
