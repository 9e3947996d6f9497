"""Reading, listing and deleting conversations: plain synchronous functions over a connection."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from sqlalchemy import Connection, and_, delete, func, select, update

from actors.assistant.tables import assists, conversations, turns
from actors.clock import now_milliseconds
from actors.refusals import CommandRefused
from actors.storage.messages import Operation, Outcome, Query
from protocol.codec import encode, wire_time
from protocol.conversations import (
    Conversation,
    ConversationDelete,
    ConversationDeleted,
    ConversationFound,
    ConversationGet,
    ConversationHits,
    ConversationList,
    ConversationPage,
    ConversationSearch,
    ConversationTurns,
    Speaker,
    Turn,
)
from protocol.errors import ErrorCode

__all__ = [
    "DELETE_CONVERSATION",
    "GET_CONVERSATION",
    "LIST_CONVERSATIONS",
    "SEARCH_CONVERSATIONS",
    "Owned",
    "find_conversation",
    "is_conversation",
]

PAGE_BYTES = 512 * 1024
"""A page of turns has no more than this, so that its frame fits."""
EXCERPT_CHARACTERS = 400


@frozen(kw_only=True)
class Owned:
    """A command about one client's conversations."""

    client_id: str
    data: Any


def is_conversation(client_id: str, name: str) -> Any:
    """The condition that names one conversation."""
    return and_(conversations.c.client_id == client_id, conversations.c.name == name)


def find_conversation(connection: Connection, client_id: str, name: str) -> Any:
    """Its row. Raises `CommandRefused` where there is none, or none any more."""
    row = connection.execute(select(conversations).where(is_conversation(client_id, name))).first()
    if row is None or row.deleted_ms is not None:
        problem = "was deleted" if row is not None else "does not exist"
        raise CommandRefused(ErrorCode.NOT_FOUND, f"conversation {name!r} {problem}", field="data.conversation")
    return row


def _time(milliseconds: int) -> str:
    return wire_time(milliseconds / 1000)


def _described(row: Any, count: int) -> Conversation:
    return Conversation(
        conversation=row.name,
        created=_time(row.created_ms),
        updated=_time(row.updated_ms),
        turns=count,
        forgotten_turns=row.first_turn - 1,
        bytes=row.bytes,
        running=row.running_command,
    )


def _list(connection: Connection, owned: Owned) -> ConversationPage:
    wanted: ConversationList = owned.data
    counted = (
        select(turns.c.name, func.count().label("turns"))
        .where(turns.c.client_id == owned.client_id)
        .group_by(turns.c.name)
        .subquery()
    )
    query = (
        select(conversations, func.coalesce(counted.c.turns, 0).label("turns"))
        .outerjoin(counted, counted.c.name == conversations.c.name)
        .where(conversations.c.client_id == owned.client_id, conversations.c.deleted_ms.is_(None))
        .order_by(conversations.c.name)
        .limit(wanted.limit + 1)
    )
    if wanted.after is not None:
        query = query.where(conversations.c.name > wanted.after)
    rows = connection.execute(query).all()
    page = [_described(row, row.turns) for row in rows[: wanted.limit]]
    return ConversationPage(
        conversations=page, next=page[-1].conversation if len(rows) > wanted.limit and page else None
    )


def _get(connection: Connection, owned: Owned) -> ConversationTurns:
    wanted: ConversationGet = owned.data
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    mine = and_(turns.c.client_id == owned.client_id, turns.c.name == wanted.conversation)
    count = connection.execute(select(func.count()).select_from(turns).where(mine)).scalar_one()
    page: list[Turn] = []
    size = 0
    following: int | None = None
    rows = connection.execute(
        select(turns).where(mine, turns.c.number > wanted.after).order_by(turns.c.number).limit(wanted.limit + 1)
    )
    for one in rows:
        # As JSON: what has to be escaped takes up to six times its bytes.
        size += len(encode([one.content]))
        if len(page) == wanted.limit or (page and size > PAGE_BYTES):
            following = page[-1].number
            break
        page.append(
            Turn(
                number=one.number,
                role=Speaker(one.role),
                content=one.content,
                time=_time(one.time_ms),
                intent=one.intent,
                is_partial=one.is_partial,
            )
        )
    return ConversationTurns(conversation=_described(row, count), turns=page, next=following)


def _search(connection: Connection, owned: Owned) -> ConversationHits:
    wanted: ConversationSearch = owned.data
    rows = connection.execute(
        select(turns)
        .where(turns.c.client_id == owned.client_id, turns.c.content.icontains(wanted.text, autoescape=True))
        .order_by(turns.c.time_ms.desc(), turns.c.name, turns.c.number.desc())
        .limit(wanted.limit)
    )
    return ConversationHits(
        hits=[
            ConversationFound(
                conversation=one.name,
                number=one.number,
                role=Speaker(one.role),
                excerpt=_excerpt(one.content, wanted.text),
                time=_time(one.time_ms),
            )
            for one in rows
        ]
    )


def _excerpt(content: str, text: str) -> str:
    # Of a case that only the database folds, the beginning is shown.
    place = max(0, content.lower().find(text.lower()))
    start = max(0, place - (EXCERPT_CHARACTERS - len(text)) // 2)
    return content[start : start + EXCERPT_CHARACTERS]


def _delete(connection: Connection, owned: Owned) -> Outcome[ConversationDeleted]:
    wanted: ConversationDelete = owned.data
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    if row.running_command is not None:
        raise CommandRefused(
            ErrorCode.CONFLICT,
            f"conversation {wanted.conversation!r} is being answered",
            field="data.conversation",
            current={"command": row.running_command},
        )
    gone = connection.execute(
        delete(turns).where(turns.c.client_id == owned.client_id, turns.c.name == wanted.conversation)
    ).rowcount
    connection.execute(
        update(conversations)
        .where(is_conversation(owned.client_id, wanted.conversation))
        .values(deleted_ms=now_milliseconds(), bytes=0)
    )
    connection.execute(
        delete(assists).where(assists.c.client_id == owned.client_id, assists.c.conversation == wanted.conversation)
    )
    return Outcome(value=ConversationDeleted(conversation=wanted.conversation, turns=gone))


LIST_CONVERSATIONS: Query[Owned, ConversationPage] = Query("list_conversations", _list)
SEARCH_CONVERSATIONS: Query[Owned, ConversationHits] = Query("search_conversations", _search)
GET_CONVERSATION: Query[Owned, ConversationTurns] = Query("get_conversation", _get)
DELETE_CONVERSATION: Operation[Owned, ConversationDeleted] = Operation(
    "delete_conversation", _delete, ConversationDeleted
)
