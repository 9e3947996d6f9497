"""Messages of the assistant. Other services import nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.inference.messages import GenerationEvent, GenerationStarted
from actors.storage.messages import IdempotencyKey
from protocol.commands import Assist, Generate
from protocol.conversations import (
    Conversation,
    ConversationChoose,
    ConversationDelete,
    ConversationDeleted,
    ConversationGet,
    ConversationHits,
    ConversationList,
    ConversationPage,
    ConversationSearch,
    ConversationTurns,
)
from protocol.events import Done
from runtime import ActorRef, Request

__all__ = [
    "CONVERSATION_REQUESTS",
    "HOLD_CONVERSATION",
    "RELEASE_CONVERSATION",
    "AddItems",
    "AnswerTurn",
    "AssistantRequest",
    "BeginItems",
    "ChooseWay",
    "DeleteConversation",
    "DeleteItem",
    "ForgetItems",
    "GetConversation",
    "HoldConversation",
    "ItemConversation",
    "ItemPage",
    "LabelItems",
    "ListConversations",
    "ListItems",
    "OwnedItem",
    "OwnedItems",
    "ReadItem",
    "ReadItemContext",
    "ReadItems",
    "ReleaseConversation",
    "SearchConversations",
    "StartTurn",
    "TurnAnswer",
]


@frozen(kw_only=True)
class StartTurn(Request[GenerationStarted]):
    """Start to answer `assist`, or `generate` with a conversation, and send the events to ``subscriber``.

    The user's turn is stored when this returns. If refused with `CommandError`, nothing is stored.
    """

    client_id: str
    device_id: str
    stream: str
    """Unique name chosen by the caller."""
    data: Assist | Generate = field(repr=False)
    key: IdempotencyKey
    """Also identifies the command to the client's other devices."""
    domain: str = ""
    """Security domain: only requests of one domain share cached keys and values."""
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class TurnAnswer:
    """A complete answer, already stored and sent to the client's devices."""

    text: str = field(repr=False)
    done: Done
    fields: Mapping[str, Any]
    """Additional fields of `done`: intent, suggestions and so on, JSON values."""


@frozen(kw_only=True)
class AnswerTurn(Request[TurnAnswer]):
    """Answer in one piece. Cancelling the request cancels the answer. Refused with `CommandError`."""

    client_id: str
    data: Assist | Generate = field(repr=False)
    max_tokens: int | None = None
    """For an `Assist`, which has no such field itself."""
    domain: str = ""
    caller: str = ""
    """Tells apart the programs that share a client id."""


@frozen(kw_only=True)
class ListConversations(Request[ConversationPage]):
    """List the client's conversations."""

    client_id: str
    device_id: str
    data: ConversationList
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class GetConversation(Request[ConversationTurns]):
    """Read one conversation with its turns. Refused with `CommandError`: `not_found`."""

    client_id: str
    device_id: str
    data: ConversationGet
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class SearchConversations(Request[ConversationHits]):
    """Find turns of the client that contain a text."""

    client_id: str
    data: ConversationSearch


@frozen(kw_only=True)
class DeleteConversation(Request[ConversationDeleted]):
    """Delete a conversation. Refused with `CommandError`: `not_found`, or `conflict` while it is being answered."""

    client_id: str
    device_id: str
    data: ConversationDelete
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ChooseWay(Request[Conversation]):
    """Select another branch of a conversation. Refused with `CommandError`: `not_found`."""

    client_id: str
    device_id: str
    data: ConversationChoose
    key: IdempotencyKey | None = None


CONVERSATION_REQUESTS: dict[type, type] = {
    ConversationList: ListConversations,
    ConversationGet: GetConversation,
    ConversationChoose: ChooseWay,
    ConversationDelete: DeleteConversation,
}
"""The assistant's request for each wire class."""


# --- conversations as OpenAI's API has them: items --------------------------------------------------------


@frozen(kw_only=True)
class ItemConversation:
    """A conversation, with or without its items."""

    id: str
    """Its name."""
    created_ms: int
    """POSIX milliseconds."""
    metadata: dict[str, Any]
    version: int = 0
    """Incremented with every change of its items."""
    leaf: int = 0
    """Number of the last turn of its active branch."""
    items: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """Items of its active branch, oldest first, if requested."""


@frozen(kw_only=True)
class ItemPage:
    """A page of a conversation's items."""

    items: tuple[dict[str, Any], ...] = field(repr=False)
    has_more: bool


@frozen(kw_only=True)
class BeginItems(Request[ItemConversation]):
    """Create a conversation that keeps all of its items.

    Refused with `CommandError`: `conflict` if the client has too many; then nothing is stored.
    """

    client_id: str
    conversation: ItemConversation
    items: tuple[dict[str, Any], ...] = field(repr=False)
    """Its first items, each with an id."""
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class OwnedItems:
    """A conversation of one client. Refused with `not_found` if it belongs to another."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ReadItems(OwnedItems, Request[ItemConversation]):
    """Read a conversation without its items."""


@frozen(kw_only=True)
class ReadItemContext(OwnedItems, Request[ItemConversation]):
    """Read a conversation with the items of its active branch, to continue it. Also refused with `conflict` while it
    is being answered.
    """


@frozen(kw_only=True)
class ForgetItems(OwnedItems, Request[bool]):
    """Delete a conversation, even while a response is made in it. Also refused with `conflict` while another command
    is answered in it.
    """


@frozen(kw_only=True)
class LabelItems(OwnedItems, Request[ItemConversation]):
    """Replace a conversation's metadata."""

    metadata: dict[str, Any]


@frozen(kw_only=True)
class AddItems(OwnedItems, Request[list[dict[str, Any]]]):
    """Append items to the active branch; returns them with their ids here. Also refused with `conflict` while it is
    being answered.
    """

    items: tuple[dict[str, Any], ...] = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ListItems(OwnedItems, Request[ItemPage]):
    """Read a page of items. Also refused with `invalid_field` if ``after`` is not an item of the active branch."""

    after: str | None
    limit: int
    is_ascending: bool


@frozen(kw_only=True)
class OwnedItem(OwnedItems):
    """An item of a conversation; refused with `not_found`."""

    item_id: str


@frozen(kw_only=True)
class ReadItem(OwnedItem, Request[dict[str, Any]]):
    """Read one item."""


@frozen(kw_only=True)
class DeleteItem(OwnedItem, Request[ItemConversation]):
    """Delete one item, keeping those that follow it. Also refused with `conflict` while the conversation is being
    answered.
    """


HOLD_CONVERSATION = "hold_conversation"
RELEASE_CONVERSATION = "release_conversation"
"""Names of two writes that the responses service combines with its own (`FurtherWrite`)."""


@frozen(kw_only=True)
class HoldConversation:
    """Reserve a conversation for a response. Refused with `CommandError` if it is being answered or has changed."""

    client_id: str
    id: str
    response_id: str
    version: int
    """Version of the history that the prompt was built from."""
    count: int
    bytes: int
    """Size of its input."""


@frozen(kw_only=True)
class ReleaseConversation:
    """Release a conversation at the end of a response, adding its input and output if there are any."""

    client_id: str
    id: str
    response_id: str
    parent: int | None
    """Number of the turn that it follows; None is the end of the active branch."""
    input: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    output: tuple[dict[str, Any], ...] = field(default=(), repr=False)


AssistantRequest = (
    StartTurn
    | AnswerTurn
    | ListConversations
    | GetConversation
    | SearchConversations
    | ChooseWay
    | DeleteConversation
    | BeginItems
    | ReadItems
    | ReadItemContext
    | ForgetItems
    | LabelItems
    | AddItems
    | ListItems
    | ReadItem
    | DeleteItem
)
"""Requests that other services may send to the assistant."""
