"""Separates user text from template text: no text of a message becomes a special token.

A tokenizer recognises special tokens in any text, so a message containing `<|im_end|>` would end its own turn and start
another in a role of its choosing. If a message contains the text of a special token, a *guard*, a character that occurs
nowhere in the request, is inserted into that text before rendering. The template's own marks are then the only ones
that a tokenizer can recognise, and the text between two of them is encoded separately: without its guards, by a copy of
the tokenizer that recognises no special tokens. Prompts without such a text are encoded as usual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

__all__ = ["Guard", "PromptTokenizer", "SpecialTextRefused"]

GUARDS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Unicode's noncharacters, which should not occur in any text."""


class SpecialTextRefused(ValueError):
    """A message contains the text of a special token in a way that cannot be separated."""


@frozen
class Guard:
    """Marks the places where one request's text reads like special tokens."""

    character: str
    """Occurs in none of the request's texts."""
    pattern: re.Pattern[str]
    """Matches the first character of each special token's text."""

    def applied(self, value: Any) -> Any:
        """Inserts a guard after each such character, in strings at any depth including keys of objects."""
        if isinstance(value, str):
            return self.pattern.sub(lambda found: found[0] + self.character, value)
        if isinstance(value, Mapping):
            return {self.applied(key): self.applied(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.applied(one) for one in value]
        return value

    def removed(self, text: str) -> str:
        """Removes all guards, including those that a template wrote as ASCII JSON."""
        return text.replace(self.character, "").replace(self._escaped, "")

    def is_in(self, text: str) -> bool:
        """True if a piece of the rendered prompt contains a guard."""
        return self.character in text or self._escaped in text

    @property
    def _escaped(self) -> str:
        return json.dumps(self.character)[1:-1]


@frozen
class _Added:
    """Relevant properties of an added token: whether it absorbs the white space next to it."""

    strips_left: bool
    strips_right: bool


class PromptTokenizer:
    """Encodes prompts of one model."""

    def __init__(self, tokenizer: Any, content: Mapping[str, Any], special_texts: Iterable[str]) -> None:
        """``tokenizer`` was made from ``content``, a `tokenizer.json`; ``special_texts`` are the texts that messages
        may not write."""
        self._tokenizer = tokenizer
        self._content = content
        self._special_texts = sorted(set(special_texts), key=len, reverse=True)
        listed = [one for one in content.get("added_tokens") or () if one.get("content")]
        self._added = {one["content"]: _Added(bool(one.get("lstrip")), bool(one.get("rstrip"))) for one in listed}
        normalized = {one["content"] for one in listed if one.get("normalized")}
        self._normalized_texts = normalized.intersection(self._special_texts)
        self._plain: Any = None

    def guard_for(self, *data: Any) -> Guard | None:
        """Guard for this data; None if nothing in it reads like a special token.

        Raises `SpecialTextRefused` for text that becomes a special token only in the tokenizer's normalizer, or that
        contains every possible guard character.
        """
        texts = [text for one in data for text in _texts(one)]
        found = [special for special in self._special_texts if any(special in text for text in texts)]
        self._refuse_normalized(texts, found)
        if not found:
            return None
        character = next((one for one in GUARDS if not any(one in text for text in texts)), None)
        if character is None:
            raise SpecialTextRefused("the messages contain all of Unicode's noncharacters from U+FDD0 to U+FDEF")
        starts = "|".join(re.escape(special) for special in found)
        return Guard(character=character, pattern=re.compile(f"(?=(?:{starts})).", re.DOTALL))

    def encode(self, text: str, guard: Guard | None, *, adds_special: bool) -> list[int]:
        """Encodes text to token ids. Blocking."""
        if guard is None or not guard.is_in(text):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=adds_special).ids
            return ids
        return [one for piece in self._encoded_pieces(text, guard) for one in piece]

    def _encoded_pieces(self, text: str, guard: Guard) -> Iterator[list[int]]:
        """Added tokens cut a text into pieces that a tokenizer treats separately, so they can be encoded separately
        too."""
        pieces = self._cut(text)
        waiting = ""
        for place, piece in enumerate(pieces):
            if not guard.is_in(piece):
                waiting += piece
                continue
            if waiting:
                yield self._tokenizer.encode(waiting, add_special_tokens=False).ids
                waiting = ""
            # Some marks absorb the white space next to them.
            before = self._added.get(pieces[place - 1]) if place else None
            after = self._added.get(pieces[place + 1]) if place + 1 < len(pieces) else None
            if before is not None and before.strips_right:
                piece = piece.lstrip()  # noqa: PLW2901  the same piece, shorter
            if after is not None and after.strips_left:
                piece = piece.rstrip()  # noqa: PLW2901
            yield self._plain_tokenizer().encode(guard.removed(piece), add_special_tokens=False).ids
        if waiting:
            yield self._tokenizer.encode(waiting, add_special_tokens=False).ids

    def _cut(self, text: str) -> list[str]:
        present = sorted((one for one in self._added if one in text), key=len, reverse=True)
        if not present:
            return [text]
        return [one for one in re.split(f"({'|'.join(re.escape(one) for one in present)})", text) if one]

    def _plain_tokenizer(self) -> Any:
        """A copy that reads special tokens as text; made on first use, which is rare."""
        if self._plain is None:
            import tokenizers

            special = frozenset(self._special_texts)
            added = [
                {**one, "special": one.get("special") or one.get("content") in special}
                for one in self._content.get("added_tokens") or ()
            ]
            self._plain = tokenizers.Tokenizer.from_str(json.dumps({**self._content, "added_tokens": added}))
            self._plain.encode_special_tokens = True
        return self._plain

    def _refuse_normalized(self, texts: Sequence[str], found: Sequence[str]) -> None:
        """Refuses text that normalizes to a special token; guards are inserted before normalization and could not
        prevent it."""
        normalizer = self._tokenizer.normalizer
        if normalizer is None or not self._normalized_texts:
            return
        for text in texts:
            changed = normalizer.normalize_str(text)
            for special in sorted(self._normalized_texts.difference(found)):
                if special in changed:
                    raise SpecialTextRefused(
                        f"a message contains a text that this model's tokenizer takes for {special}"
                    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
