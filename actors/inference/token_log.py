"""What an answer's tokens were, with their log-probabilities, told no sooner than the text that they made. Pure.

Text is held back while it may be the beginning of a stop text. Tokens are held back with it, and what a stop text cut off is
cut off them: the bytes of all tokens that are told are the answer's text.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen

from actors.inference.text.token_bytes import OneToken, name_of

__all__ = ["TokenLog"]


def _utf8_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


@frozen
class _Made:
    entry: dict[str, Any]
    begin: int
    """Characters of the answer that were complete before it."""
    end: int
    """The same with it."""


@define
class TokenLog:
    """Of one answer."""

    _made: deque[_Made] = field(init=False, factory=deque)
    _utf8: codecs.IncrementalDecoder = field(init=False, factory=_utf8_decoder)
    _characters: int = field(init=False, default=0)
    """Complete ones, of all tokens so far."""
    _told: int = field(init=False, default=0)
    _has_begun: bool = field(init=False, default=False)
    """Whether a token had bytes of text."""

    def skip(self, piece: str) -> None:
        """A token that made this text was told before."""
        self._characters += len(piece)
        self._has_begun = True

    def skip_told(self, text: str) -> None:
        """This much was told before."""
        self._told += len(text)

    def take(
        self,
        token_id: int,
        log_probability: float,
        alternatives: Sequence[tuple[int, float]],
        piece: str,
        text_of: Callable[[int], OneToken],
    ) -> None:
        """A token that completed ``piece`` of the text, perhaps nothing."""
        token = text_of(token_id)
        content = self._content(token, piece)
        own = {**_described(token_id, log_probability, token), "bytes": list(content)}
        if token.is_shown:
            own["token"] = name_of(content)
        top = [own if one == token_id else _described(one, value, text_of(one)) for one, value in alternatives]
        top = [{**one, "logprob": value} for one, (_, value) in zip(top, alternatives, strict=True)]
        begin = self._characters
        self._characters += len(self._utf8.decode(content))
        self._made.append(_Made({**own, "offset": begin, "top": top}, begin, self._characters))

    def tell(self, text: str, *, is_last: bool, was_cut: bool) -> list[dict[str, Any]]:
        """The tokens that are told with ``text``; ``was_cut`` where a stop text ended the answer."""
        self._told += len(text)
        told: list[dict[str, Any]] = []
        while self._made and (is_last or self._made[0].end <= self._told):
            made = self._made.popleft()
            if was_cut and made.begin >= self._told:
                continue
            told.append(
                _shortened(made.entry, made.end - self._told) if was_cut and made.end > self._told else made.entry
            )
        return told

    @property
    def has_untold_text(self) -> bool:
        """Whether a token is waiting of which some text was told."""
        return bool(self._made) and self._made[0].begin < self._told

    def _content(self, token: OneToken, piece: str) -> bytes:
        """What a token's bytes are in this answer: special tokens are left out, as a space before the first word may be."""
        if token.content is None:
            return piece.encode()
        content = token.content if token.is_shown else b""
        is_first, self._has_begun = not self._has_begun, self._has_begun or bool(content)
        return content[1:] if is_first and content == b" " + piece.encode() else content


def _shortened(entry: dict[str, Any], characters: int) -> dict[str, Any]:
    """An entry without so many characters at its end."""
    content = bytes(entry["bytes"])
    text = content.decode(errors="replace")
    content = content[: len(content) - len(text[-characters:].encode())]
    return {**entry, "token": name_of(content), "bytes": list(content)}


def _described(token_id: int, log_probability: float, token: OneToken) -> dict[str, Any]:
    content = list(token.name.encode() if token.content is None else token.content)
    return {"token": token.name, "token_id": token_id, "logprob": log_probability, "bytes": content}
