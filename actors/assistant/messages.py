"""What the assistant takes and tells. Other rooms import this file and nothing else of the room."""

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
    """Begin to answer `assist`, or `generate` with a conversation; its events are told to ``follower``.

    What the user said is on disk when this is answered. Refused with `CommandRefused`; then nothing is stored.
    """

    client_id: str
    device_id: str
    stream: str
    """Unique name chosen by the asker."""
    data: Assist | Generate = field(repr=False)
    key: IdempotencyKey
    """Also names the command to the client's other devices."""
    domain: str = ""
    """Security domain: only requests of one domain share kept keys and values."""
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class TurnAnswer:
    """A whole answer, already on disk and told to the client's devices."""

    text: str = field(repr=False)
    done: Done
    fields: Mapping[str, Any]
    """What `done` has besides: intent, suggestions and so on, JSON values."""


@frozen(kw_only=True)
class AnswerTurn(Request[TurnAnswer]):
    """Answer whole. Cancelling the ask cancels the answer. Refused with `CommandRefused`."""

    client_id: str
    data: Assist | Generate = field(repr=False)
    max_tokens: int | None = None
    """For an `Assist`, which names none itself."""
    domain: str = ""
    caller: str = ""
    """Which of those who share the client id asks."""


@frozen(kw_only=True)
class ListConversations(Request[ConversationPage]):
    """The client's conversations."""

    client_id: str
    device_id: str
    data: ConversationList
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class GetConversation(Request[ConversationTurns]):
    """One conversation with its turns. Refused with `CommandRefused`: `not_found`."""

    client_id: str
    device_id: str
    data: ConversationGet
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class SearchConversations(Request[ConversationHits]):
    """Turns of the client that contain a text."""

    client_id: str
    data: ConversationSearch


@frozen(kw_only=True)
class DeleteConversation(Request[ConversationDeleted]):
    """Forget a conversation. Refused with `CommandRefused`: `not_found`, or `conflict` while it is answered."""

    client_id: str
    device_id: str
    data: ConversationDelete
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ChooseWay(Request[Conversation]):
    """Choose another way of a conversation. Refused with `CommandRefused`: `not_found`."""

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
"""Wire class → the request that the assistant is asked."""


# --- conversations as OpenAI's API has them: items --------------------------------------------------------


@frozen(kw_only=True)
class ItemConversation:
    """A conversation without its turns, or with its items."""

    id: str
    """Its name."""
    created_ms: int
    """POSIX milliseconds."""
    metadata: dict[str, Any]
    version: int = 0
    """Counts every change of its items."""
    leaf: int = 0
    """Number of the last turn of its chosen way."""
    items: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """Those of its chosen way, oldest first, where they were asked for."""


@frozen(kw_only=True)
class ItemPage:
    """Some items of a conversation."""

    items: tuple[dict[str, Any], ...] = field(repr=False)
    has_more: bool


@frozen(kw_only=True)
class BeginItems(Request[ItemConversation]):
    """Begin a conversation that forgets nothing.

    Refused with `CommandRefused`: `conflict` where the client has too many; then nothing is stored.
    """

    client_id: str
    conversation: ItemConversation
    items: tuple[dict[str, Any], ...] = field(repr=False)
    """What it begins with, each with an id."""
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class OwnedItems:
    """One client's conversation; another's is refused with `not_found`, as if there were none."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ReadItems(OwnedItems, Request[ItemConversation]):
    """The conversation without its items."""


@frozen(kw_only=True)
class ReadItemContext(OwnedItems, Request[ItemConversation]):
    """With the items of its chosen way, for a response that goes on from them. Refused too: `conflict` while it is answered."""


@frozen(kw_only=True)
class ForgetItems(OwnedItems, Request[bool]):
    """Forget it for good, also while a response is made in it. Refused too: `conflict` while another command is answered in it."""


@frozen(kw_only=True)
class LabelItems(OwnedItems, Request[ItemConversation]):
    """Replace its metadata."""

    metadata: dict[str, Any]


@frozen(kw_only=True)
class AddItems(OwnedItems, Request[list[dict[str, Any]]]):
    """Add items behind its chosen way; answers them with the ids that they have here. Refused too: `conflict` while it is answered."""

    items: tuple[dict[str, Any], ...] = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ListItems(OwnedItems, Request[ItemPage]):
    """A page of its items. Refused too: `invalid_field` for an ``after`` that is no item of its chosen way."""

    after: str | None
    limit: int
    is_ascending: bool


@frozen(kw_only=True)
class OwnedItem(OwnedItems):
    """One item of it; refused with `not_found`."""

    item_id: str


@frozen(kw_only=True)
class ReadItem(OwnedItem, Request[dict[str, Any]]):
    """One item."""


@frozen(kw_only=True)
class DeleteItem(OwnedItem, Request[ItemConversation]):
    """Forget one item; what followed it stays. Refused too: `conflict` while the conversation is answered."""


HOLD_CONVERSATION = "hold_conversation"
RELEASE_CONVERSATION = "release_conversation"
"""Names of two writes that the responses service has carried out with its own (`FurtherWrite`)."""


@frozen(kw_only=True)
class HoldConversation:
    """A response begins in a conversation. Refused with `CommandRefused` where that is answered, or not as it was read."""

    client_id: str
    id: str
    response_id: str
    version: int
    """Of the history that the response is made of."""
    count: int
    bytes: int
    """Of its input."""


@frozen(kw_only=True)
class ReleaseConversation:
    """That response has ended: its input and output are added, or nothing, and the conversation is open again."""

    client_id: str
    id: str
    response_id: str
    parent: int | None
    """Number of the turn that it was made behind; None is the end of the chosen way."""
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
"""All that others may ask of the assistant."""
