"""Keeps what people write apart from what a template writes: no text of a message becomes a special token.

A tokenizer finds its special tokens in any text, so a message that says `<|im_end|>` would end its own turn and begin
another one in a role of its choosing. Where a message holds the text of a special token, a *guard*, a character that
occurs nowhere in the request, is put into that text before the template sees it. The template's own marks are then the
only ones that a tokenizer can find, and what lies between two of them is encoded apart: with its guards taken out, by a
copy of the tokenizer that finds no special tokens. Prompts without such a text are encoded as they always were.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

__all__ = ["Guard", "PromptTokenizer", "SpecialTextRefused"]

GUARDS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Unicode's noncharacters, which no text of anybody should hold."""


class SpecialTextRefused(ValueError):
    """A message holds the text of a special token in a way that cannot be kept apart."""


@frozen
class Guard:
    """Where one request's texts read like special tokens."""

    character: str
    """Occurs in none of them."""
    pattern: re.Pattern[str]
    """Matches the first character of each special token's text."""

    def applied(self, value: Any) -> Any:
        """The same data with a guard behind each such character, in texts at any depth; keys of objects included."""
        if isinstance(value, str):
            return self.pattern.sub(lambda found: found[0] + self.character, value)
        if isinstance(value, Mapping):
            return {self.applied(key): self.applied(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.applied(one) for one in value]
        return value

    def removed(self, text: str) -> str:
        """The text without guards, also where a template wrote them as JSON in ASCII."""
        return text.replace(self.character, "").replace(self._escaped, "")

    def is_in(self, text: str) -> bool:
        """Whether a guard is left in a piece of the rendered prompt."""
        return self.character in text or self._escaped in text

    @property
    def _escaped(self) -> str:
        return json.dumps(self.character)[1:-1]


@frozen
class _Added:
    """What counts here of an added token: whether white space beside it belongs to it."""

    strips_left: bool
    strips_right: bool


class PromptTokenizer:
    """Encodes prompts of one model."""

    def __init__(self, tokenizer: Any, content: Mapping[str, Any], special_texts: Iterable[str]) -> None:
        """``tokenizer`` was made of ``content``, a `tokenizer.json`; ``special_texts`` are those that nobody may write."""
        self._tokenizer = tokenizer
        self._content = content
        self._special_texts = sorted(set(special_texts), key=len, reverse=True)
        listed = [one for one in content.get("added_tokens") or () if one.get("content")]
        self._added = {one["content"]: _Added(bool(one.get("lstrip")), bool(one.get("rstrip"))) for one in listed}
        normalized = {one["content"] for one in listed if one.get("normalized")}
        self._normalized_texts = normalized.intersection(self._special_texts)
        self._plain: Any = None

    def guard_for(self, *data: Any) -> Guard | None:
        """What keeps the texts of this data apart; None where none reads like a special token.

        Raises `SpecialTextRefused` for texts that only become a special token's in the tokenizer's normalizer, or that
        hold every character a guard could be.
        """
        texts = [text for one in data for text in _texts(one)]
        found = [special for special in self._special_texts if any(special in text for text in texts)]
        self._refuse_normalized(texts, found)
        if not found:
            return None
        character = next((one for one in GUARDS if not any(one in text for text in texts)), None)
        if character is None:
            raise SpecialTextRefused("the messages hold all of Unicode's noncharacters from U+FDD0 to U+FDEF")
        starts = "|".join(re.escape(special) for special in found)
        return Guard(character=character, pattern=re.compile(f"(?=(?:{starts})).", re.DOTALL))

    def encode(self, text: str, guard: Guard | None, *, adds_special: bool) -> list[int]:
        """Token ids. Blocking."""
        if guard is None or not guard.is_in(text):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=adds_special).ids
            return ids
        return [one for piece in self._encoded_pieces(text, guard) for one in piece]

    def _encoded_pieces(self, text: str, guard: Guard) -> Iterator[list[int]]:
        """Added tokens cut a text into pieces that a tokenizer treats apart, so they can be encoded apart too."""
        pieces = self._cut(text)
        waiting = ""
        for place, piece in enumerate(pieces):
            if not guard.is_in(piece):
                waiting += piece
                continue
            if waiting:
                yield self._tokenizer.encode(waiting, add_special_tokens=False).ids
                waiting = ""
            # Some marks take the white space beside them along.
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
        """A copy that reads special tokens as text; made when it is first wanted, since few ever want it."""
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
        """Some tokenizers look for a special token in the normalized text, where a guard would come too late."""
        normalizer = self._tokenizer.normalizer
        if normalizer is None or not self._normalized_texts:
            return
        for text in texts:
            changed = normalizer.normalize_str(text)
            for special in sorted(self._normalized_texts.difference(found)):
                if special in changed:
                    raise SpecialTextRefused(f"a message holds a text that this model's tokenizer takes for {special}")


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
