"""What crosses the wire about conversations: one attrs class per thing and per command.

A conversation belongs to a client id and is called by a name that the client chose in `assist` or `generate`. Its turns
are numbered from 1; the oldest are forgotten when it grows beyond its bounds.

A turn that is said again, or answered again, begins another way: each turn names the one that it follows, and every way stays.
One of them is the chosen way. It is what a conversation is to whoever asks for no other: a plain list of turns.
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
    """Who says a turn."""

    USER = "user"
    ASSISTANT = "assistant"


@frozen(kw_only=True)
class Turn:
    """One thing that was said."""

    number: int
    """From 1, rising; a turn keeps its number when older ones are forgotten."""
    role: Speaker
    content: str = field(repr=False)
    """As it was said; what was sent to the model with it is not kept."""
    time: str
    """RFC 3339 in UTC."""
    intent: str | None = None
    """Of a turn of `assist`."""
    is_partial: bool = False
    """True of an answer that was cancelled or failed after it had begun."""
    parent: int | None = None
    """What it follows: number of a turn, perhaps one that is forgotten or of a kind that is not listed; none of a first one."""
    ways: list[int] | None = None
    """Numbers of all turns that stand in this place, this one among them, rising; only where there are several."""
    is_beside: bool | None = None
    """True of a turn that is not on the chosen way; such turns are listed only with `all_ways`."""
    steps: list[str] | None = None
    """What came behind this turn that nobody said, a line each: calls of functions, their results, instructions."""


@frozen(kw_only=True)
class Conversation:
    """What is known of a conversation without its turns."""

    conversation: str
    """Its name."""
    created: str
    """RFC 3339 in UTC, as all times here."""
    updated: str
    turns: int
    """How many the chosen way has."""
    forgotten_turns: int
    """How many older ones are not kept any more."""
    bytes: int
    """Of the kept turns, UTF-8."""
    running: str | None = None
    """Id of the command that is being answered."""
    other_turns: int | None = None
    """Turns of other ways than the chosen one, which are kept beside it; only where there are some."""


@frozen(kw_only=True)
class ConversationList:
    """The client's conversations by name."""

    after: str | None = field(default=None, validator=client_name)
    """Those behind this name: `next` of the page before."""
    limit: int = field(default=PAGE_ENTRIES, validator=between(1, PAGE_ENTRIES))


@frozen(kw_only=True)
class ConversationPage:
    """A part of the list."""

    conversations: list[Conversation]
    next: str | None = None
    """Where the next page begins; none after the last."""


@frozen(kw_only=True)
class ConversationGet:
    """A conversation with its turns, oldest first."""

    conversation: str = field(validator=client_name)
    after: int = field(default=0, validator=between(0, 2**53))
    """Turns with a higher number: `next` of the page before."""
    before: int | None = field(default=None, validator=between(1, 2**53))
    """The last turns with a lower number, instead of the first with a higher one: `previous` of a later page."""
    all_ways: bool = False
    """The turns of every way, by number, and not of the chosen one alone."""
    limit: int = field(default=PAGE_ENTRIES, validator=between(1, PAGE_ENTRIES))


@frozen(kw_only=True)
class ConversationTurns:
    """A conversation and a part of its turns: at most 512 KiB of them as JSON, or one that is larger."""

    conversation: Conversation
    turns: list[Turn]
    next: int | None = None
    """Number that the next page begins behind; none after the last."""
    previous: int | None = None
    """With `before`: number that the page of older turns ends before; none where there are no older ones."""
    older: int | None = None
    """With `before`: how many turns come before these."""


@frozen(kw_only=True)
class ConversationChoose:
    """Choose the way that goes through this turn, to its newest end. Answered by `Conversation`."""

    conversation: str = field(validator=client_name)
    turn: int = field(validator=between(1, 2**53))
    """Its number: one of the `ways` of a turn."""


class Change(enum.Enum):
    """What became of a conversation."""

    BEGUN = "begun"
    TURNS = "turns"
    """It has other turns, or its answer has ended without a whole text."""
    WAY = "way"
    """Another way was chosen."""
    DELETED = "deleted"


@frozen(kw_only=True)
class ConversationChanged:
    """A conversation is not as it was, and no `ai_response` tells of that."""

    event_id: str
    """The same for an event that comes twice."""
    channel: str
    """`ai`."""
    priority: Priority
    """How much it matters."""
    conversation: str
    change: Change
    id: str | None = None
    """The command whose answer ended early, so that a device that read it knows of it already."""


@frozen(kw_only=True)
class ConversationSearch:
    """Find turns that contain a text, newest first. Over MCP alone. Answered by `ConversationHits`."""

    text: str = field(validator=[length(1, 200, "characters"), readable_text])
    """What a turn contains; the case of ASCII letters does not matter."""
    limit: int = field(default=20, validator=between(1, 50))
    """Most turns that are found."""


@frozen(kw_only=True)
class ConversationFound:
    """A turn that contains the text."""

    conversation: str
    number: int
    """Of the turn in its conversation."""
    role: Speaker
    excerpt: str
    """What stands around the text, at most 400 characters."""
    time: str
    """RFC 3339 in UTC."""


@frozen(kw_only=True)
class ConversationHits:
    """What was found."""

    hits: list[ConversationFound]


@frozen(kw_only=True)
class ConversationDelete:
    """Forget a conversation for good; its name cannot be used again."""

    conversation: str = field(validator=client_name)


@frozen(kw_only=True)
class ConversationDeleted:
    """It is gone."""

    conversation: str
    turns: int
    """How many were deleted with it."""


CONVERSATION_COMMANDS: dict[str, CommandType] = {
    "conversation_list": CommandType(ConversationList, result=ConversationPage),
    "conversation_get": CommandType(ConversationGet, result=ConversationTurns),
    "conversation_choose": CommandType(ConversationChoose, writes=True, result=Conversation),
    "conversation_delete": CommandType(ConversationDelete, writes=True, result=ConversationDeleted),
}
"""Commands about conversations by their wire names."""
