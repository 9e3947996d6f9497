"""A prompt given as token ids. Not part of the wire protocol; other services import it from `messages`."""

from __future__ import annotations

from attrs import field, frozen

from protocol.generation import Generate

__all__ = ["GenerateFromIds"]


@frozen(kw_only=True)
class GenerateFromIds(Generate):
    """Continues token ids as they are, without template or special tokens. ``prompt`` is only a placeholder."""

    prompt_ids: list[int] = field(repr=False)
    """At least one, each at least 0 and within the vocabulary."""
