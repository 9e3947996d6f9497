"""Rows of conversations and turns, shared by everything that reads or writes them. Synchronous functions over a
connection.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from actors.assistant.conversation_rules import MAXIMUM_CONVERSATIONS
from actors.assistant.tables import conversations, turns
from actors.assistant.turn_tree import TurnNode, TurnTree
from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.storage.messages import LogEvent
from protocol.conversations import Change
from protocol.errors import ErrorCode
from protocol.events import Priority

__all__ = [
    "add_turn",
    "changed",
    "choose_leaf",
    "find_conversation",
    "forget_old_turns",
    "is_conversation",
    "make_conversation",
    "refuse_running",
    "tree_of",
    "turns_of",
]


def is_conversation(client_id: str, name: str) -> Any:
    """The condition that selects one conversation."""
    return and_(conversations.c.client_id == client_id, conversations.c.name == name)


def turns_of(client_id: str, name: str) -> Any:
    """The condition that selects its turns."""
    return and_(turns.c.client_id == client_id, turns.c.name == name)


def find_conversation(connection: Connection, client_id: str, name: str) -> Any:
    """Return its row. Raises `CommandError` if it does not exist or was deleted."""
    row = connection.execute(select(conversations).where(is_conversation(client_id, name))).first()
    if row is None or row.deleted_ms is not None:
        problem = "was deleted" if row is not None else "does not exist"
        raise CommandError(ErrorCode.NOT_FOUND, f"conversation {name!r} {problem}", field="data.conversation")
    return row


def refuse_running(row: Any) -> None:
    """Raise `CommandError` if the conversation is being answered."""
    if row.running_command is not None:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"conversation {row.name!r} is being answered; one turn at a time",
            field="data.conversation",
            current={"command": row.running_command},
        )


def make_conversation(
    connection: Connection,
    client_id: str,
    name: str,
    time_ms: int,
    *,
    metadata: str = "{}",
    keeps_all: bool = False,
    field: str | None = "data.conversation",
) -> None:
    """Create an empty conversation. Raises `CommandError` about ``field`` if the client has too many."""
    _make_room(connection, client_id, field)
    connection.execute(
        insert(conversations).values(
            client_id=client_id,
            name=name,
            created_ms=time_ms,
            updated_ms=time_ms,
            last_turn=0,
            first_turn=1,
            window_start=1,
            bytes=0,
            leaf=0,
            way_turns=0,
            other_turns=0,
            metadata=metadata,
            version=0,
            keeps_all=keeps_all,
        )
    )


def _make_room(connection: Connection, client_id: str, field: str | None) -> None:
    """Make space for a conversation by removing the record of a deleted one. Otherwise the client must delete one."""
    mine = conversations.c.client_id == client_id
    count = connection.execute(select(func.count()).select_from(conversations).where(mine)).scalar_one()
    if count < MAXIMUM_CONVERSATIONS:
        return
    oldest = connection.execute(
        select(conversations.c.name)
        .where(mine, conversations.c.deleted_ms.is_not(None))
        .order_by(conversations.c.deleted_ms, conversations.c.name)
        .limit(1)
    ).scalar()
    if oldest is None:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"there are {MAXIMUM_CONVERSATIONS} conversations already; delete one first",
            field=field,
        )
    connection.execute(delete(conversations).where(is_conversation(client_id, oldest)))


def tree_of(connection: Connection, client_id: str, name: str) -> TurnTree:
    """Return the tree of its turns, without their content."""
    rows = connection.execute(
        select(turns.c.number, turns.c.parent, turns.c.role, turns.c.bytes).where(turns_of(client_id, name))
    )
    return TurnTree.of(TurnNode(row.number, row.parent, row.role, row.bytes) for row in rows)


def add_turn(
    connection: Connection,
    client_id: str,
    name: str,
    number: int,
    parent: int,
    role: str,
    content: str,
    *,
    prompt: str | None = None,
    intent: str | None = None,
    is_partial: bool = False,
    item_id: str | None = None,
    item: str | None = None,
) -> None:
    """Store a turn with the highest number. The active branch does not change."""
    size = len(content.encode()) + (0 if prompt is None else len(prompt.encode())) if item is None else len(item)
    connection.execute(
        insert(turns).values(
            client_id=client_id,
            name=name,
            number=number,
            parent=parent,
            role=role,
            content=content,
            prompt=prompt,
            intent=intent,
            is_partial=is_partial,
            bytes=size,
            time_ms=now_milliseconds(),
            item_id=item_id,
            item=item,
        )
    )
    connection.execute(
        update(conversations)
        .where(is_conversation(client_id, name))
        .values(bytes=conversations.c.bytes + size, last_turn=number, version=conversations.c.version + 1)
    )


def choose_leaf(
    connection: Connection, client_id: str, name: str, leaf: int, *, is_other_way: bool = False
) -> TurnTree:
    """Activate the branch that ends with this turn, and count messages on and off it. A newly selected branch is
    shown to the model in full.
    """
    tree = tree_of(connection, client_id, name)
    on_way = sum(tree.nodes[one].is_said for one in tree.way_to(leaf))
    said = sum(one.is_said for one in tree.nodes.values())
    values: dict[str, Any] = {
        "leaf": leaf,
        "way_turns": on_way,
        "other_turns": said - on_way,
        "updated_ms": now_milliseconds(),
    }
    if is_other_way:
        values |= {"window_start": 1, "version": conversations.c.version + 1}
    connection.execute(update(conversations).where(is_conversation(client_id, name)).values(**values))
    return tree


def forget_old_turns(connection: Connection, client_id: str, name: str) -> None:
    """Delete turns over the limits, unless the conversation keeps all."""
    row = find_conversation(connection, client_id, name)
    if row.keeps_all:
        return
    tree = tree_of(connection, client_id, name)
    gone = tree.outgrown(tree.way_to(row.leaf))
    if not gone:
        return
    forgotten = sorted(gone)
    for at in range(0, len(forgotten), 500):
        connection.execute(delete(turns).where(turns_of(client_id, name), turns.c.number.in_(forgotten[at : at + 500])))
    first = min((one for one in tree.nodes if one not in gone), default=1)
    connection.execute(
        update(conversations)
        .where(is_conversation(client_id, name))
        .values(
            first_turn=row.first_turn + sum(tree.nodes[one].is_said for one in gone),
            window_start=max(first, row.window_start),
            bytes=row.bytes - sum(tree.nodes[one].bytes for one in gone),
        )
    )
    choose_leaf(connection, client_id, name, row.leaf)


def changed(name: str, change: Change, *, command_id: str | None = None) -> LogEvent:
    """Build the event for the client's devices. With ``command_id``, the answer to that command ended early."""
    data = {"conversation": name, "change": change.value}
    if command_id is not None:
        data["id"] = command_id
    return LogEvent(type="conversation_changed", channel="ai", priority=Priority.LOW, data=data)
