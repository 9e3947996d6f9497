"""Storage of conversations in the form of OpenAI's API, in the same tables. Synchronous functions over a connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import evolve
from sqlalchemy import Connection, delete, select, update

from actors.assistant.assist_store import ai_response
from actors.assistant.conversation_rules import check_capacity
from actors.assistant.conversation_store import forget_conversation
from actors.assistant.item_forms import as_item, as_turn, number_in
from actors.assistant.messages import (
    HOLD_CONVERSATION,
    RELEASE_CONVERSATION,
    AddItems,
    BeginItems,
    DeleteItem,
    ForgetItems,
    HoldConversation,
    ItemConversation,
    ItemPage,
    LabelItems,
    ListItems,
    OwnedItem,
    ReadItem,
    ReadItemContext,
    ReadItems,
    ReleaseConversation,
)
from actors.assistant.tables import conversations, turns
from actors.assistant.turn_rows import (
    add_turn,
    changed,
    choose_leaf,
    forget_old_turns,
    is_conversation,
    make_conversation,
    tree_of,
    turns_of,
)
from actors.errors import CommandError
from actors.storage.messages import LogEvent, Operation, Outcome, Query
from protocol.conversations import Change
from protocol.errors import ErrorCode

__all__ = ["OPERATIONS", "QUERIES", "READS", "WRITES"]


def _find(connection: Connection, client_id: str, name: str, field: str = "id") -> Any:
    """Return its row. Raises `CommandError`; deleted conversations, and those of other clients, are reported as
    missing.
    """
    row = connection.execute(select(conversations).where(is_conversation(client_id, name))).first()
    if row is None or row.deleted_ms is not None:
        message = f"Conversation with id {name!r} not found."
        raise CommandError(ErrorCode.NOT_FOUND, message, field=field)
    return row


def _find_unlocked(connection: Connection, client_id: str, name: str, field: str = "conversation_id") -> Any:
    """Return its row if nothing is being answered in it. Raises `CommandError`."""
    row = _find(connection, client_id, name, "id" if field == "conversation_id" else field)
    if row.running_command is not None:
        message = f"Conversation {name!r} is being answered: wait for that response, or cancel it."
        raise CommandError(ErrorCode.CONFLICT, message, field=field)
    return row


def _described(row: Any) -> ItemConversation:
    return ItemConversation(
        id=row.name,
        created_ms=row.created_ms,
        metadata=json.loads(row.metadata),
        version=row.version,
        leaf=row.leaf,
    )


def _begin(connection: Connection, command: BeginItems) -> Outcome[ItemConversation]:
    made = command.conversation
    metadata = json.dumps(made.metadata)
    make_conversation(
        connection, command.client_id, made.id, made.created_ms, metadata=metadata, keeps_all=True, field=None
    )
    _append(connection, _find(connection, command.client_id, made.id), command.items, field="body.items")
    return Outcome(value=made, events=(changed(made.id, Change.BEGUN),))


def _label(connection: Connection, command: LabelItems) -> Outcome[ItemConversation]:
    row = _find(connection, command.client_id, command.id)
    connection.execute(
        update(conversations)
        .where(is_conversation(command.client_id, command.id))
        .values(metadata=json.dumps(command.metadata))
    )
    return Outcome(value=evolve(_described(row), metadata=command.metadata))


def _forget(connection: Connection, owned: ForgetItems) -> Outcome[bool]:
    """Delete a conversation with its items. A running response continues and is not added; an answer of `chat` is
    waited for.
    """
    row = _find(connection, owned.client_id, owned.id)
    if row.running_command is not None and not row.running_command.startswith("resp_"):
        _find_unlocked(connection, owned.client_id, owned.id)
    forget_conversation(connection, owned.client_id, owned.id)
    return Outcome(value=True, events=(changed(owned.id, Change.DELETED),))


def _add(connection: Connection, command: AddItems) -> Outcome[list[dict[str, Any]]]:
    row = _find_unlocked(connection, command.client_id, command.id)
    stored = _append(connection, row, command.items, field="body.items")
    forget_old_turns(connection, command.client_id, command.id)
    return Outcome(value=stored, events=(changed(command.id, Change.TURNS),))


def _append(
    connection: Connection,
    row: Any,
    items: Sequence[dict[str, Any]],
    *,
    field: str | None,
    parent: int | None = None,
) -> list[dict[str, Any]]:
    """Store items after ``parent``, by default the end of the active branch. Returns them with their ids here.

    Extends the active branch if that ended there. Raises `CommandError` if they are too many, except without a
    ``field``: a completed response is always added.
    """
    client_id, name = row.client_id, row.name
    if field is not None:
        held = len(tree_of(connection, client_id, name).nodes)
        check_capacity(row, held, len(items), sum(len(json.dumps(one)) for one in items), field)
    mine = turns_of(client_id, name)
    found = select(turns.c.item_id).where(mine, turns.c.item_id.in_([one["id"] for one in items]))
    taken = set(connection.execute(found).scalars())
    stored: list[dict[str, Any]] = []
    behind = int(row.leaf) if parent is None else parent
    is_chosen = behind == row.leaf
    for number, one in enumerate(items, int(row.last_turn) + 1):
        # An item sent again is another item, and needs an id of its own.
        is_known = one["id"] in taken or number_in(one["id"]) is not None
        item = {**one, "id": f"item_{name.removeprefix('conv_')[:64]}_{number}"} if is_known else one
        taken.add(item["id"])
        stored.append(item)
        turn = as_turn(item)
        add_turn(
            connection,
            client_id,
            name,
            number,
            behind,
            turn.role,
            turn.content,
            is_partial=turn.is_partial,
            item_id=item["id"],
            item=turn.item,
        )
        behind = number
    if stored:
        choose_leaf(connection, client_id, name, behind if is_chosen else int(row.leaf))
    return stored


def _delete_item(connection: Connection, command: DeleteItem) -> Outcome[ItemConversation]:
    """Delete an item, and attach its successors to its predecessor."""
    row = _find_unlocked(connection, command.client_id, command.id)
    found = _find_item(connection, command)
    mine = turns_of(command.client_id, command.id)
    connection.execute(delete(turns).where(mine, turns.c.number == found.number))
    connection.execute(update(turns).where(mine, turns.c.parent == found.number).values(parent=found.parent))
    connection.execute(
        update(conversations)
        .where(is_conversation(command.client_id, command.id))
        .values(version=row.version + 1, bytes=max(0, row.bytes - found.bytes))
    )
    leaf = found.parent if row.leaf == found.number else row.leaf
    choose_leaf(connection, command.client_id, command.id, leaf)
    described = evolve(_described(row), version=row.version + 1, leaf=leaf)
    return Outcome(value=described, events=(changed(command.id, Change.TURNS),))


def _find_item(connection: Connection, owned: OwnedItem) -> Any:
    mine = turns_of(owned.client_id, owned.id)
    number = number_in(owned.item_id)
    is_it = (
        turns.c.item_id == owned.item_id if number is None else (turns.c.number == number) & turns.c.item_id.is_(None)
    )
    row = connection.execute(select(turns).where(mine, is_it)).first()
    if row is None:
        message = f"Item with id {owned.item_id!r} not found."
        raise CommandError(ErrorCode.NOT_FOUND, message, field="item_id")
    return row


def _read(connection: Connection, owned: ReadItems) -> ItemConversation:
    return _described(_find(connection, owned.client_id, owned.id))


def _read_item(connection: Connection, owned: ReadItem) -> dict[str, Any]:
    _find(connection, owned.client_id, owned.id)
    return as_item(_find_item(connection, owned))


def _list(connection: Connection, wanted: ListItems) -> ItemPage:
    """List the items of the active branch."""
    row = _find(connection, wanted.client_id, wanted.id)
    numbers = tree_of(connection, wanted.client_id, wanted.id).way_to(row.leaf)
    if not wanted.is_ascending:
        numbers.reverse()
    if wanted.after is not None:
        try:
            after = int(
                _find_item(connection, OwnedItem(client_id=row.client_id, id=row.name, item_id=wanted.after)).number
            )
            numbers = numbers[numbers.index(after) + 1 :]
        except (CommandError, ValueError):
            message = "after must be the id of an item of this conversation"
            raise CommandError(ErrorCode.INVALID_FIELD, message, field="after") from None
    page = numbers[: wanted.limit]
    rows = connection.execute(select(turns).where(turns_of(row.client_id, row.name), turns.c.number.in_(page))).all()
    items = {one.number: as_item(one) for one in rows}
    return ItemPage(items=tuple(items[one] for one in page), has_more=len(numbers) > len(page))


def _context(connection: Connection, owned: ReadItemContext) -> ItemConversation:
    """Return the conversation with the items of its active branch, for a new response in it."""
    row = _find_unlocked(connection, owned.client_id, owned.id, "body.conversation")
    tree = tree_of(connection, owned.client_id, owned.id)
    check_capacity(row, len(tree.nodes), 0, 0, "body.conversation")
    on_way = frozenset(tree.way_to(row.leaf))
    rows = connection.execute(select(turns).where(turns_of(owned.client_id, owned.id)).order_by(turns.c.number))
    items = tuple(as_item(one, text=one.prompt) for one in rows if one.number in on_way)
    return evolve(_described(row), items=items)


def _hold(connection: Connection, command: HoldConversation) -> Outcome[bool]:
    row = _find_unlocked(connection, command.client_id, command.id, "body.conversation")
    if row.version != command.version:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"Conversation {command.id!r} has changed while this response started; send the request again.",
            field="body.conversation",
        )
    held = len(tree_of(connection, command.client_id, command.id).nodes)
    check_capacity(row, held, command.count, command.bytes, "body.input")
    connection.execute(
        update(conversations)
        .where(is_conversation(command.client_id, command.id))
        .values(running_command=command.response_id, running_stream=command.response_id)
    )
    return Outcome(value=True)


def _release(connection: Connection, command: ReleaseConversation) -> Outcome[bool]:
    """Add the response's items once. Does nothing if the conversation was deleted, or is not held by this response
    any more.
    """
    row = connection.execute(select(conversations).where(is_conversation(command.client_id, command.id))).first()
    if row is None or row.deleted_ms is not None or row.running_command != command.response_id:
        return Outcome(value=False)
    connection.execute(
        update(conversations)
        .where(is_conversation(command.client_id, command.id))
        .values(running_command=None, running_stream=None)
    )
    if items := (*command.input, *command.output):
        _append(connection, row, items, field=None, parent=command.parent)
        forget_old_turns(connection, command.client_id, command.id)
    return Outcome(value=True, events=(_told(command),))


def _told(command: ReleaseConversation) -> LogEvent:
    """Build the event for the client's devices: the answer, or a change without one."""
    said = [as_turn(one) for one in command.output]
    text = "\n\n".join(one.content for one in said if one.role == "assistant")
    if not text:
        return changed(command.id, Change.TURNS)
    return ai_response(command.response_id, None, command.id, text, command="response")


WRITES: dict[type, Operation[Any, Any]] = {
    BeginItems: Operation("begin_items", _begin, ItemConversation, begins_client=True),
    LabelItems: Operation("label_items", _label, ItemConversation),
    ForgetItems: Operation("forget_items", _forget, bool),
    AddItems: Operation("add_items", _add, list[dict[str, Any]]),
    DeleteItem: Operation("delete_item", _delete_item, ItemConversation),
}
"""Write operations by request."""
READS: dict[type, Query[Any, Any]] = {
    ReadItems: Query("read_items", _read),
    ReadItemContext: Query("read_item_context", _context),
    ReadItem: Query("read_item", _read_item),
    ListItems: Query("list_items", _list),
}
"""Queries by request."""

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *WRITES.values(),
    Operation(HOLD_CONVERSATION, _hold, bool),
    Operation(RELEASE_CONVERSATION, _release, bool),
)
QUERIES: tuple[Query[Any, Any], ...] = tuple(READS.values())
