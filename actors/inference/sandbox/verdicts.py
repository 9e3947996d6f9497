"""Cache of verdicts on inputs, so that a harmful one costs its time only once. No I/O."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from attrs import frozen

__all__ = ["Refusal", "Verdicts", "digest"]

KEPT = 4096
"""Number of cached verdicts, evicted in LRU order. Each takes some 300 bytes."""


@frozen(kw_only=True)
class Refusal:
    """The reason for rejecting an input."""

    field: str
    """Field name as the client knows it, without the leading `data.`."""
    problem: str


class Verdicts:
    """Verdicts by hash of the input."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[bytes, Refusal | tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def is_known(self, key: bytes) -> bool:
        """True if there is a verdict."""
        return key in self._known

    def refusal(self, key: bytes) -> Refusal | None:
        """The rejection of a known input, or None for a good one."""
        self._known.move_to_end(key)
        known = self._known[key]
        return known if isinstance(known, Refusal) else None

    def left_out(self, key: bytes) -> tuple[str, ...]:
        """Parts of a known good schema that answers do not enforce."""
        known = self._known[key]
        return () if isinstance(known, Refusal) else known

    def note(self, key: bytes, refusal: Refusal | None, left_out: Iterable[str] = ()) -> None:
        """Stores a verdict; a ``refusal`` of None marks a good input."""
        self._known[key] = tuple(left_out) if refusal is None else refusal
        self._known.move_to_end(key)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)


def digest(parts: Iterable[bytes]) -> bytes:
    """SHA-256 over length-prefixed parts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
