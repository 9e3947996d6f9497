"""Conversations of the Responses API on disk: plain synchronous functions over a connection.

Their items are whole and have ids, calls and results among them, which the turns of `chat` do not; so they have tables of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update

from actors.refusals import CommandRefused
from actors.responses.messages import (
    AddItems,
    CreateConversation,
    DeleteConversation,
    DeleteItem,
    ItemPage,
    ListItems,
    OwnedConversation,
    OwnedItem,
    ReadContext,
    ReadConversation,
    ReadItem,
    StoredConversation,
    UpdateConversation,
)
from actors.responses.tables import conversation_items, response_conversations, responses
from actors.storage.messages import Operation, Outcome, Query
from protocol.errors import ErrorCode

__all__ = ["OPERATIONS", "QUERIES", "READS", "WRITES", "Membership", "append_ended", "check_conversation"]

MAXIMUM_CONVERSATIONS = 1000
"""Of one client."""
MAXIMUM_ITEMS = 4096
"""Of one conversation."""
MAXIMUM_BYTES = 4 * 1024 * 1024
"""Of one conversation's items: no model reads more, and one reader must not hold up the others."""

_TABLE = response_conversations


def _is(conversation_id: str, client_id: str) -> Any:
    return and_(_TABLE.c.id == conversation_id, _TABLE.c.client_id == client_id)


def _find(connection: Connection, conversation_id: str, client_id: str, field: str = "id") -> Any:
    """Its row. Raises `CommandRefused`; another client's is not told from one that never was."""
    row = connection.execute(select(_TABLE).where(_is(conversation_id, client_id))).first()
    if row is None:
        message = f"Conversation with id {conversation_id!r} not found."
        raise CommandRefused(ErrorCode.NOT_FOUND, message, field=field)
    return row


def _find_unlocked(connection: Connection, conversation_id: str, client_id: str, field: str) -> Any:
    """Its row, where no response is being made in it. Raises `CommandRefused`."""
    row = _find(connection, conversation_id, client_id, field)
    field = "conversation_id" if field == "id" else field
    is_open = and_(responses.c.conversation_id == conversation_id, responses.c.ended_ms.is_(None))
    if connection.execute(select(exists().where(is_open))).scalar():
        raise _locked(conversation_id, field)
    return row


def _locked(conversation_id: str, field: str) -> CommandRefused:
    message = f"Conversation {conversation_id!r} is being answered: wait for that response, or cancel it."
    return CommandRefused(ErrorCode.CONFLICT, message, field=field)


def _described(row: Any) -> StoredConversation:
    return StoredConversation(
        id=row.id, created_ms=row.created_ms, metadata=json.loads(row.metadata), version=row.version
    )


def _create(connection: Connection, command: CreateConversation) -> Outcome[StoredConversation]:
    mine = _TABLE.c.client_id == command.client_id
    count = connection.execute(select(func.count()).select_from(_TABLE).where(mine)).scalar_one()
    if count >= MAXIMUM_CONVERSATIONS:
        message = f"there are {MAXIMUM_CONVERSATIONS} conversations already; delete one first"
        raise CommandRefused(ErrorCode.CONFLICT, message)
    made = command.conversation
    connection.execute(
        insert(_TABLE).values(
            id=made.id,
            client_id=command.client_id,
            created_ms=made.created_ms,
            metadata=json.dumps(made.metadata),
            version=0,
            last_position=0,
            items=0,
            bytes=0,
        )
    )
    _append(connection, _find(connection, made.id, command.client_id), command.items, "body.items")
    return Outcome(value=made)


def _update(connection: Connection, command: UpdateConversation) -> Outcome[StoredConversation]:
    row = _find(connection, command.id, command.client_id)
    connection.execute(
        update(_TABLE).where(_is(command.id, command.client_id)).values(metadata=json.dumps(command.metadata))
    )
    return Outcome(value=evolve(_described(row), metadata=command.metadata))


def _delete(connection: Connection, owned: OwnedConversation) -> Outcome[bool]:
    """Its items go with it. A response that is being made in it goes on, and is appended nowhere."""
    _find(connection, owned.id, owned.client_id)
    connection.execute(delete(conversation_items).where(conversation_items.c.conversation_id == owned.id))
    connection.execute(delete(_TABLE).where(_is(owned.id, owned.client_id)))
    return Outcome(value=True)


def _add(connection: Connection, command: AddItems) -> Outcome[list[dict[str, Any]]]:
    row = _find_unlocked(connection, command.id, command.client_id, "id")
    return Outcome(value=_append(connection, row, command.items, "body.items"))


def _append(
    connection: Connection, row: Any, items: Sequence[dict[str, Any]], field: str | None
) -> list[dict[str, Any]]:
    """Store items behind all others; returns them with the ids that they have here.

    Raises `CommandRefused` where they are too many, but not without a ``field``: what has ended is appended whatever it takes.
    """
    texts = [json.dumps(one) for one in items]
    size = sum(map(len, texts))
    if field is not None:
        check_room(row, len(items), size, field)
    taken = set(
        connection.execute(
            select(conversation_items.c.id).where(
                conversation_items.c.conversation_id == row.id,
                conversation_items.c.id.in_([one["id"] for one in items]),
            )
        ).scalars()
    )
    stored: list[dict[str, Any]] = []
    for position, one in enumerate(items, row.last_position + 1):
        # The same item sent again is one more item, and needs another name to be told from the first.
        item = one if one["id"] not in taken else {**one, "id": f"item_{row.id.removeprefix('conv_')}_{position}"}
        taken.add(item["id"])
        stored.append(item)
    if stored:
        connection.execute(
            insert(conversation_items),
            [
                {"conversation_id": row.id, "position": position, "id": one["id"], "item": json.dumps(one)}
                for position, one in enumerate(stored, row.last_position + 1)
            ],
        )
        connection.execute(
            update(_TABLE)
            .where(_TABLE.c.id == row.id)
            .values(
                version=row.version + 1,
                last_position=row.last_position + len(stored),
                items=row.items + len(stored),
                bytes=row.bytes + size,
            )
        )
    return stored


def check_room(row: Any, count: int, size: int, field: str) -> None:
    """Raises `CommandRefused` where so many items more are too many for one conversation."""
    if row.items + count > MAXIMUM_ITEMS or row.bytes + size > MAXIMUM_BYTES:
        message = (
            f"this conversation has {row.items} items and {row.bytes} bytes, of {MAXIMUM_ITEMS} and {MAXIMUM_BYTES} at most; "
            "begin another one"
        )
        raise CommandRefused(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, field=field)


def _delete_item(connection: Connection, command: DeleteItem) -> Outcome[StoredConversation]:
    row = _find_unlocked(connection, command.id, command.client_id, "id")
    found = _find_item(connection, command)
    connection.execute(
        delete(conversation_items).where(
            conversation_items.c.conversation_id == command.id, conversation_items.c.position == found.position
        )
    )
    connection.execute(
        update(_TABLE)
        .where(_is(command.id, command.client_id))
        .values(version=row.version + 1, items=row.items - 1, bytes=max(0, row.bytes - len(found.item)))
    )
    return Outcome(value=evolve(_described(row), version=row.version + 1))


def _find_item(connection: Connection, owned: OwnedItem) -> Any:
    row = connection.execute(
        select(conversation_items).where(
            conversation_items.c.conversation_id == owned.id, conversation_items.c.id == owned.item_id
        )
    ).first()
    if row is None:
        message = f"Item with id {owned.item_id!r} not found."
        raise CommandRefused(ErrorCode.NOT_FOUND, message, field="item_id")
    return row


def _read(connection: Connection, owned: OwnedConversation) -> StoredConversation:
    return _described(_find(connection, owned.id, owned.client_id))


def _read_item(connection: Connection, owned: OwnedItem) -> dict[str, Any]:
    _find(connection, owned.id, owned.client_id)
    item: dict[str, Any] = json.loads(_find_item(connection, owned).item)
    return item


def _list(connection: Connection, wanted: ListItems) -> ItemPage:
    _find(connection, wanted.id, wanted.client_id)
    place = conversation_items.c.position
    query = select(conversation_items.c.item).where(conversation_items.c.conversation_id == wanted.id)
    if wanted.after is not None:
        after = connection.execute(
            select(place).where(
                conversation_items.c.conversation_id == wanted.id, conversation_items.c.id == wanted.after
            )
        ).scalar()
        if after is None:
            message = "after must be the id of an item of this conversation"
            raise CommandRefused(ErrorCode.INVALID_FIELD, message, field="after")
        query = query.where(place > after if wanted.is_ascending else place < after)
    query = query.order_by(place if wanted.is_ascending else place.desc()).limit(wanted.limit + 1)
    texts = connection.execute(query).scalars().all()
    return ItemPage(items=tuple(json.loads(one) for one in texts[: wanted.limit]), has_more=len(texts) > wanted.limit)


def _context(connection: Connection, owned: OwnedConversation) -> StoredConversation:
    """With all its items, for a response that is about to be made in it."""
    row = _find_unlocked(connection, owned.id, owned.client_id, "body.conversation")
    check_room(row, 0, 0, "body.conversation")
    texts = connection.execute(
        select(conversation_items.c.item)
        .where(conversation_items.c.conversation_id == owned.id)
        .order_by(conversation_items.c.position)
    ).scalars()
    return evolve(_described(row), items=tuple(json.loads(one) for one in texts))


@frozen(kw_only=True)
class Membership:
    """A response that begins in a conversation."""

    client_id: str
    id: str
    version: int
    """Of the history that it was made of."""
    count: int
    bytes: int
    """Of its input."""


def check_conversation(connection: Connection, wanted: Membership) -> None:
    """Raises `CommandRefused` where another response is being made in it, or it is not as it was when this one read it."""
    row = _find_unlocked(connection, wanted.id, wanted.client_id, "body.conversation")
    if row.version != wanted.version:
        raise CommandRefused(
            ErrorCode.CONFLICT,
            f"Conversation {wanted.id!r} has changed while this response began; send it again.",
            field="body.conversation",
        )
    check_room(row, wanted.count, wanted.bytes, "body.input")


def append_ended(connection: Connection, client_id: str, conversation_id: str, items: Sequence[dict[str, Any]]) -> None:
    """Append a response's input and output, in the transaction of its end; nothing where the conversation was deleted."""
    row = connection.execute(select(_TABLE).where(_is(conversation_id, client_id))).first()
    if row is not None:
        _append(connection, row, items, None)


WRITES: dict[type, Operation[Any, Any]] = {
    CreateConversation: Operation("create_response_conversation", _create, StoredConversation, begins_client=True),
    UpdateConversation: Operation("update_response_conversation", _update, StoredConversation),
    DeleteConversation: Operation("delete_response_conversation", _delete, bool),
    AddItems: Operation("add_conversation_items", _add, list[dict[str, Any]]),
    DeleteItem: Operation("delete_conversation_item", _delete_item, StoredConversation),
}
"""Request → what it writes."""
READS: dict[type, Query[Any, Any]] = {
    ReadConversation: Query("read_response_conversation", _read),
    ReadContext: Query("read_conversation_context", _context),
    ReadItem: Query("read_conversation_item", _read_item),
    ListItems: Query("list_conversation_items", _list),
}
"""Request → what it reads."""

OPERATIONS: tuple[Operation[Any, Any], ...] = tuple(WRITES.values())
QUERIES: tuple[Query[Any, Any], ...] = tuple(READS.values())
