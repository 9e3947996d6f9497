"""What the assistant takes and tells. Other rooms import this file and nothing else of the room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.inference.messages import GenerationEvent, GenerationStarted
from actors.storage.messages import IdempotencyKey
from protocol.commands import Assist, Generate
from protocol.conversations import (
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
    "AnswerTurn",
    "AssistantRequest",
    "DeleteConversation",
    "GetConversation",
    "ListConversations",
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


CONVERSATION_REQUESTS: dict[type, type] = {
    ConversationList: ListConversations,
    ConversationGet: GetConversation,
    ConversationDelete: DeleteConversation,
}
"""Wire class → the request that the assistant is asked."""


AssistantRequest = (
    StartTurn | AnswerTurn | ListConversations | GetConversation | SearchConversations | DeleteConversation
)
"""All that others may ask of the assistant."""
