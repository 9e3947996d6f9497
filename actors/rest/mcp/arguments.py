"""Arguments of tools that no other API takes, each an attrs class that the codec checks and schemas are made of."""

from __future__ import annotations

from attrs import field, frozen

from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.events import Priority
from protocol.task_model import printed_text
from protocol.validation import between, client_name, length, plain_text, readable_text

__all__ = ["Ask", "Nothing", "Notify"]


@frozen(kw_only=True)
class Ask:
    """A question to the model that this server runs."""

    prompt: str = field(validator=[length(1, MAXIMUM_FRAME_BYTES, "characters"), readable_text], repr=False)
    """What is asked."""
    conversation: str | None = field(default=None, validator=client_name)
    """Continue a stored conversation, or begin one of this name; without it nothing is stored."""
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    """Most tokens of the answer."""


@frozen(kw_only=True)
class Notify:
    """A message to the client's devices."""

    title: str = field(validator=[length(1, 255, "characters"), printed_text])
    """At most 255 characters."""
    body: str = field(validator=[length(1, 1000, "characters"), plain_text])
    """At most 1,000 characters."""
    priority: Priority | None = None
    """`medium` by default."""


@frozen(kw_only=True)
class Nothing:
    """No arguments."""
