"""A prompt that its asker already encoded. Internal, for transports that take token ids; others import it from `messages`."""

from __future__ import annotations

from attrs import field, frozen

from protocol.generation import Generate

__all__ = ["GenerateFromIds"]


@frozen(kw_only=True)
class GenerateFromIds(Generate):
    """Continues token ids as they stand: no template, and no special token is added. ``prompt`` only stands for them."""

    prompt_ids: list[int] = field(repr=False)
    """At least one, each at least 0; the vocabulary bounds them."""
