"""The `generate` command: a chat or a text to continue. In a module of its own, so that workers need not import the other commands."""

from __future__ import annotations

import enum
import json
from typing import Any

from attrs import Attribute, field, frozen

from protocol.command_type import KIBIBYTE, MAXIMUM_FRAME_BYTES
from protocol.validation import FieldFault, between, client_name, each, length

__all__ = ["ChatMessage", "Generate", "OnDisconnect", "Role", "check_place"]


class Role(enum.Enum):
    """The author of a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@frozen
class ChatMessage:
    """One message of a chat."""

    role: Role
    content: str


class OnDisconnect(enum.Enum):
    """Fate of a generation when its last subscriber disconnects."""

    CANCEL = "cancel"
    DETACH = "detach"


def _not_empty(one: Any) -> str | None:
    return None if one else "must not be empty"


def _token_biases(_: object, attribute: Attribute[Any], value: dict[str, float] | None) -> None:
    for token, bias in (value or {}).items():
        if not (token.isascii() and token.isdigit() and len(token) <= 9 and token == str(int(token))):
            raise FieldFault(
                f"{attribute.name}.{token[:20]}", "must be a token id in decimal digits without leading zeros, as 100"
            )
        if not -100 <= bias <= 100:
            raise FieldFault(f"{attribute.name}.{token}", f"must be between -100 and 100, not {bias:g}")


def _small_schema(_: object, attribute: Attribute[Any], value: dict[str, Any] | None) -> None:
    if value is not None and len(json.dumps(value)) > 64 * KIBIBYTE:
        raise FieldFault(attribute.name, "must be at most 64 KiB of JSON")


def check_place(conversation: str | None, parent: int | None, answers: int | None) -> None:
    """Raises `FieldFault` for a place in a conversation without a conversation, or for two places."""
    for name, given in (("parent", parent), ("answers", answers)):
        if given is not None and conversation is None:
            raise FieldFault(name, "may only be given with conversation")
    if parent is not None and answers is not None:
        raise FieldFault("parent", "cannot be combined with answers, which determines the place")


@frozen(kw_only=True)
class Generate:
    """Continues a chat or a text. Answered by `accepted` and a stream of `token`, then `done`."""

    messages: list[ChatMessage] | None = field(default=None, validator=length(1, 1024, "entries"))
    """A chat, rendered with the model's own template. Either this or `prompt`."""
    prompt: str | None = field(default=None, validator=length(1, MAXIMUM_FRAME_BYTES, "characters"))
    """A text that the model continues verbatim."""
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    """Most tokens to emit; by default the server's setting, or the rest of the context if that is less."""
    max_tokens_if_room: int | None = field(default=None, validator=between(1, 2**31))
    """Without `max_tokens`: the longest answer, shortened if the context has less space."""
    temperature: float = field(default=0.0, validator=between(0, 5))
    """0 always takes the likeliest token."""
    top_p: float = field(default=1.0, validator=between(1e-6, 1))
    """Keeps the likeliest tokens that together have this probability."""
    top_k: int | None = field(default=None, validator=between(1, 2**31))
    """Keeps this many of the likeliest tokens; at most the vocabulary."""
    min_p: float = field(default=0.0, validator=between(0, 1))
    """Keeps tokens at least this likely, relative to the likeliest."""
    repetition_penalty: float = field(default=1.0, validator=between(0.1, 10))
    """Divides the scores of tokens seen in prompt or answer; 1 is off."""
    presence_penalty: float = field(default=0.0, validator=between(-2, 2))
    """Subtracted once from the scores of tokens that the answer already has."""
    frequency_penalty: float = field(default=0.0, validator=between(-2, 2))
    """Subtracted from a token's score for each time it occurs in the answer."""
    logit_bias: dict[str, float] | None = field(default=None, validator=[length(0, 1024, "entries"), _token_biases])
    """Added to the scores of these token ids."""
    seed: int | None = field(default=None, validator=between(0, 2**53))
    """The same seed, request and model give the same answer. By default the server draws one."""
    stop: list[str] = field(factory=list, validator=[length(0, 16, "entries"), each(_not_empty)])
    """The answer ends just before the first of these texts."""
    logprobs: int | None = field(default=None, validator=between(0, 20))
    """Reports log-probabilities of emitted tokens and of this many alternatives."""
    response_schema: dict[str, Any] | None = field(default=None, validator=_small_schema)
    """A JSON Schema that constrains the answer."""
    deadline_ms: int | None = field(default=None, validator=between(1, 86_400_000))
    """Gives up after this time, whatever the state of the request."""
    conversation: str | None = field(default=None, validator=client_name)
    """Continues a stored conversation."""
    parent: int | None = field(default=None, validator=between(0, 2**53))
    """Adds the message after that turn of the conversation, as another branch, which becomes the chosen one; 0 is before the
    first turn. By default it follows the last turn of the chosen branch."""
    answers: int | None = field(default=None, validator=between(1, 2**53))
    """Answers that user turn again; its existing answers remain as alternatives. Instead of a user message."""
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL

    def __attrs_post_init__(self) -> None:
        if self.answers is not None and self.prompt is not None:
            raise FieldFault("prompt", "may not be given with answers")
        if self.answers is None and (self.messages is None) == (self.prompt is None):
            raise FieldFault("messages", "or prompt must be given, and not both")
        check_place(self.conversation, self.parent, self.answers)
