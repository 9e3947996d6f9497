"""Echoes the prompt before its answer, with its tokens if requested (`echo` of the completions API). Async only to
yield.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

import trio
from attrs import frozen

from actors.inference.messages import OneToken, PromptToken
from actors.rest.openai.replies import completion_logprobs

__all__ = ["Echo", "behind_echo", "read_echo", "with_echo"]

TOKENS_AT_ONCE = 256
"""Tokens between checkpoints: a prompt may have thousands, with six log-probabilities each."""


@frozen(kw_only=True)
class Echo:
    """Text before an answer."""

    text: str
    logprobs: dict[str, Any] | None = None


async def read_echo(prompt: str | Sequence[int], tokens: Sequence[PromptToken], *, has_logprobs: bool) -> Echo:
    """Build the echo of a text, or of token ids, whose text is that of their tokens. Offsets count characters."""
    written = prompt.encode() if isinstance(prompt, str) else None
    bytes_of: list[bytes] = []
    place = 0
    for index, one in enumerate(tokens):
        if index % TOKENS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        content = _content(one.token, None if written is None else written[place : place + len(_own(one.token))])
        bytes_of.append(content)
        place += len(content)
    whole = b"".join(bytes_of)
    text = prompt if isinstance(prompt, str) else whole.decode(errors="replace")
    if not has_logprobs:
        return Echo(text=text)
    told: dict[str, list[Any]] = {name: [] for name in completion_logprobs(())}
    offset, utf8 = 0, codecs.getincrementaldecoder("utf-8")("replace")
    for begin in range(0, len(tokens), TOKENS_AT_ONCE):
        await trio.lowlevel.checkpoint()
        entries = []
        for one, content in zip(tokens[begin:][:TOKENS_AT_ONCE], bytes_of[begin:][:TOKENS_AT_ONCE], strict=True):
            top = [_described(*other) for other in one.top]
            own = _described(one.token_id, one.token, one.log_probability)
            entries.append({**own, "offset": offset, "top": top})
            # A character counts once its last byte has arrived.
            offset += len(utf8.decode(content))
        for name, values in completion_logprobs(entries).items():
            told[name] += values
    return Echo(text=text, logprobs=told)


def with_echo(choice: dict[str, Any], echo: Echo) -> dict[str, Any]:
    """Prepend the echo to a choice of a completion."""
    told = choice["logprobs"]
    if echo.logprobs is not None and told is not None:
        offsets = [one + len(echo.text) for one in told["text_offset"]]
        told = {name: [*echo.logprobs[name], *values] for name, values in {**told, "text_offset": offsets}.items()}
    return {**choice, "text": echo.text + choice["text"], "logprobs": told}


def behind_echo(chunk: dict[str, Any], echo: Echo) -> dict[str, Any]:
    """Shift the offsets of a streamed chunk by the echo sent before it."""
    (choice,) = chunk["choices"]
    if choice["logprobs"] is not None:
        choice["logprobs"]["text_offset"] = [one + len(echo.text) for one in choice["logprobs"]["text_offset"]]
    return chunk


def _own(token: OneToken) -> bytes:
    return token.name.encode() if token.content is None else token.content


def _content(token: OneToken, written: bytes | None) -> bytes:
    """Bytes of the prompt's text that a token stands for; none for tokens that the tokenizer adds to every text."""
    own = _own(token)
    if written is None or written == own:
        return own
    if not token.is_shown:
        return b""
    # SentencePiece adds a space before the first word, which is not part of the text.
    return own[1:] if own[:1] == b" " and written.startswith(own[1:]) else own


def _described(token_id: int, token: OneToken, log_probability: float | None) -> dict[str, Any]:
    return {"token": token.name, "token_id": token_id, "logprob": log_probability, "bytes": list(_own(token))}
