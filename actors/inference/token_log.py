"""Log-probabilities of an answer's tokens, reported no earlier than the text of those tokens. No I/O.

Text is held back while it may be the beginning of a stop text. Its tokens are held back with it, and a stop text is cut
off from them too: the bytes of all reported tokens are the answer's text.
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
    """Characters that are complete with it."""


@define
class TokenLog:
    """Log of one answer."""

    _made: deque[_Made] = field(init=False, factory=deque)
    _utf8: codecs.IncrementalDecoder = field(init=False, factory=_utf8_decoder)
    _characters: int = field(init=False, default=0)
    """Complete characters of all tokens so far."""
    _told: int = field(init=False, default=0)
    _has_begun: bool = field(init=False, default=False)
    """True once a token had bytes of text."""

    def skip(self, piece: str) -> None:
        """Skips a token that was reported before; ``piece`` is its text."""
        self._characters += len(piece)
        self._has_begun = True

    def skip_told(self, text: str) -> None:
        """Counts text that was sent before."""
        self._told += len(text)

    def take(
        self,
        token_id: int,
        log_probability: float,
        alternatives: Sequence[tuple[int, float]],
        piece: str,
        text_of: Callable[[int], OneToken],
    ) -> None:
        """Takes a token that completed ``piece`` of the text, possibly empty."""
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
        """Returns the tokens to report with ``text``; ``was_cut`` if a stop text ended the answer."""
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
        """True if part of the text of an unreported token has been sent."""
        return bool(self._made) and self._made[0].begin < self._told

    def _content(self, token: OneToken, piece: str) -> bytes:
        """Bytes of a token within this answer: special tokens have none, and a space before the first word may be
        dropped."""
        if token.content is None:
            return piece.encode()
        content = token.content if token.is_shown else b""
        is_first, self._has_begun = not self._has_begun, self._has_begun or bool(content)
        return content[1:] if is_first and content == b" " + piece.encode() else content


def _shortened(entry: dict[str, Any], characters: int) -> dict[str, Any]:
    """An entry shortened by this many characters at its end."""
    content = bytes(entry["bytes"])
    text = content.decode(errors="replace")
    content = content[: len(content) - len(text[-characters:].encode())]
    return {**entry, "token": name_of(content), "bytes": list(content)}


def _described(token_id: int, log_probability: float, token: OneToken) -> dict[str, Any]:
    content = list(token.name.encode() if token.content is None else token.content)
    return {"token": token.name, "token_id": token_id, "logprob": log_probability, "bytes": content}
