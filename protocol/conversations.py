"""Conversations on the wire: one attrs class per object and per command.

A conversation belongs to a client id and has a name that the client chose in `assist` or `generate`. Its turns
are numbered from 1; the oldest are deleted when it exceeds its limits.

Saying or answering a turn again starts a branch ("way"): each turn names its parent, and all branches are kept.
One branch is the chosen one. Clients that do not ask for others see the conversation as a plain list of its turns.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

from protocol.command_type import CommandType
from protocol.events import Priority
from protocol.validation import between, client_name, length, readable_text

__all__ = [
    "CONVERSATION_COMMANDS",
    "Change",
    "Conversation",
    "ConversationChanged",
    "ConversationChoose",
    "ConversationDelete",
    "ConversationDeleted",
    "ConversationFound",
    "ConversationGet",
    "ConversationHits",
    "ConversationList",
    "ConversationPage",
    "ConversationSearch",
    "ConversationTurns",
    "Speaker",
    "Turn",
]

PAGE_ENTRIES = 100


class Speaker(enum.Enum):
    """The speaker of a turn."""

    USER = "user"
    ASSISTANT = "assistant"


@frozen(kw_only=True)
class Turn:
    """One turn of a conversation."""

    number: int
    """Counts from 1; a turn keeps its number when older ones are deleted."""
    role: Speaker
    content: str = field(repr=False)
    """Text of the turn; the context sent to the model with it is not stored."""
    time: str
    """RFC 3339 in UTC."""
    intent: str | None = None
    """Intent of an `assist`."""
    is_partial: bool = False
    """True for an answer that was cancelled or failed after it had begun."""
    parent: int | None = None
    """Number of the preceding turn, possibly one that was deleted or is of a kind that is not listed; absent for a first turn."""
    ways: list[int] | None = None
    """Numbers of all alternatives to this turn, itself included, in ascending order; only if there are several."""
    is_beside: bool | None = None
    """True for a turn that is not on the chosen branch; such turns are listed only with `all_ways`."""
    steps: list[str] | None = None
    """Steps after this turn that are not turns, one line each: function calls, their results, instructions."""


@frozen(kw_only=True)
class Conversation:
    """Description of a conversation, without its turns."""

    conversation: str
    """Its name."""
    created: str
    """RFC 3339 in UTC, as all times here."""
    updated: str
    turns: int
    """Number of turns on the chosen branch."""
    forgotten_turns: int
    """Number of older turns that were deleted."""
    bytes: int
    """Size of the stored turns, UTF-8."""
    running: str | None = None
    """Id of the command being answered."""
    other_turns: int | None = None
    """Number of turns on other branches than the chosen one; only if there are any."""


@frozen(kw_only=True)
class ConversationList:
    """Lists the client's conversations by name."""

    after: str | None = field(default=None, validator=client_name)
    """Only names after this one: `next` of the previous page."""
    limit: int = field(default=PAGE_ENTRIES, validator=between(1, PAGE_ENTRIES))


@frozen(kw_only=True)
class ConversationPage:
    """One page of the list."""

    conversations: list[Conversation]
    next: str | None = None
    """Start of the next page; absent on the last."""


@frozen(kw_only=True)
class ConversationGet:
    """Gets a conversation with its turns, oldest first."""

    conversation: str = field(validator=client_name)
    after: int = field(default=0, validator=between(0, 2**53))
    """Only turns with a higher number: `next` of the previous page."""
    before: int | None = field(default=None, validator=between(1, 2**53))
    """The last turns with a lower number, instead of the first with a higher one: `previous` of a later page."""
    all_ways: bool = False
    """Includes the turns of every branch, by number, instead of the chosen one alone."""
    limit: int = field(default=PAGE_ENTRIES, validator=between(1, PAGE_ENTRIES))


@frozen(kw_only=True)
class ConversationTurns:
    """A conversation and one page of its turns: at most 512 KiB as JSON, or a single larger turn."""

    conversation: Conversation
    turns: list[Turn]
    next: int | None = None
    """Number of the turn before the next page; absent on the last page."""
    previous: int | None = None
    """With `before`: number of the turn after the page of older turns; absent if there are none."""
    older: int | None = None
    """With `before`: number of turns before these."""


@frozen(kw_only=True)
class ConversationChoose:
    """Chooses the branch through this turn, up to its newest end. Answered by `Conversation`."""

    conversation: str = field(validator=client_name)
    turn: int = field(validator=between(1, 2**53))
    """Number of the turn: one of the `ways` of a turn."""


class Change(enum.Enum):
    """Kind of change to a conversation."""

    BEGUN = "begun"
    TURNS = "turns"
    """Its turns have changed, or its answer has ended without a complete text."""
    WAY = "way"
    """Another branch was chosen."""
    DELETED = "deleted"


@frozen(kw_only=True)
class ConversationChanged:
    """A conversation has changed in a way that no `ai_response` reports."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`ai`."""
    priority: Priority
    """Priority of the event."""
    conversation: str
    change: Change
    id: str | None = None
    """The command whose answer ended early, so that a device that read its stream can ignore the event."""


@frozen(kw_only=True)
class ConversationSearch:
    """Finds turns that contain a text, newest first. Over MCP only. Answered by `ConversationHits`."""

    text: str = field(validator=[length(1, 200, "characters"), readable_text])
    """Text to find; the case of ASCII letters does not matter."""
    limit: int = field(default=20, validator=between(1, 50))
    """Most turns to return."""


@frozen(kw_only=True)
class ConversationFound:
    """A turn that contains the text."""

    conversation: str
    number: int
    """Number of the turn in its conversation."""
    role: Speaker
    excerpt: str
    """Text around the match, at most 400 characters."""
    time: str
    """RFC 3339 in UTC."""


@frozen(kw_only=True)
class ConversationHits:
    """Result of the search."""

    hits: list[ConversationFound]


@frozen(kw_only=True)
class ConversationDelete:
    """Deletes a conversation permanently; its name cannot be used again."""

    conversation: str = field(validator=client_name)


@frozen(kw_only=True)
class ConversationDeleted:
    """A conversation was deleted."""

    conversation: str
    turns: int
    """Number of turns deleted with it."""


CONVERSATION_COMMANDS: dict[str, CommandType] = {
    "conversation_list": CommandType(ConversationList, result=ConversationPage),
    "conversation_get": CommandType(ConversationGet, result=ConversationTurns),
    "conversation_choose": CommandType(ConversationChoose, writes=True, result=Conversation),
    "conversation_delete": CommandType(ConversationDelete, writes=True, result=ConversationDeleted),
}
"""Commands about conversations by their wire names."""
