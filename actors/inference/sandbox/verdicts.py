"""What is known of inputs that were tried before, so that none costs twice. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from attrs import frozen

__all__ = ["Refusal", "Verdicts", "digest"]

KEPT = 4096
"""Verdicts; the one that was not asked for longest is forgotten. Each takes some 300 bytes."""


@frozen(kw_only=True)
class Refusal:
    """Why an input is not taken."""

    field: str
    """What the asker calls it, without the `data.` before it."""
    problem: str


class Verdicts:
    """By a hash of the input. None means that it was found good."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[bytes, Refusal | tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def is_known(self, key: bytes) -> bool:
        """Whether there is a verdict."""
        return key in self._known

    def refusal(self, key: bytes) -> Refusal | None:
        """Of a known input: why it is refused, or None for a good one."""
        self._known.move_to_end(key)
        known = self._known[key]
        return known if isinstance(known, Refusal) else None

    def left_out(self, key: bytes) -> tuple[str, ...]:
        """Of a known good input: what of it answers leave out."""
        known = self._known[key]
        return () if isinstance(known, Refusal) else known

    def note(self, key: bytes, refusal: Refusal | None, left_out: Iterable[str] = ()) -> None:
        """Remember."""
        self._known[key] = tuple(left_out) if refusal is None else refusal
        self._known.move_to_end(key)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)


def digest(parts: Iterable[bytes]) -> bytes:
    """SHA-256 over parts whose borders count."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
