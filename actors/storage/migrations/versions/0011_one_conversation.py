"""Merge the conversations of OpenAI's API with all others, and add branches."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_OF_CONVERSATION = (
    "client_id",
    "name",
    "created_ms",
    "updated_ms",
    "deleted_ms",
    "last_turn",
    "first_turn",
    "window_start",
)
conversations = sa.table(
    "conversations",
    *(sa.column(name) for name in _OF_CONVERSATION),
    *(sa.column(name) for name in ("bytes", "running_command", "running_stream", "leaf", "way_turns", "other_turns")),
    *(sa.column(name) for name in ("metadata", "version")),
    sa.column("keeps_all", sa.Boolean),
)
turns = sa.table(
    "turns",
    *(sa.column(name) for name in ("client_id", "name", "number", "role", "content", "prompt", "intent")),
    sa.column("is_partial", sa.Boolean),
    *(sa.column(name) for name in ("bytes", "time_ms", "parent", "item_id", "item")),
)
old_conversations = sa.table(
    "response_conversations",
    *(
        sa.column(name)
        for name in ("id", "client_id", "created_ms", "metadata", "version", "last_position", "items", "bytes")
    ),
)
old_items = sa.table("conversation_items", *(sa.column(name) for name in ("conversation_id", "position", "id", "item")))
responses = sa.table(
    "responses", *(sa.column(name) for name in ("id", "client_id", "conversation_id", "ended_ms", "created_ms"))
)


def upgrade() -> None:
    """Move each item to a turn whose parent is the turn before it."""
    for name in ("leaf", "way_turns", "other_turns", "version"):
        op.add_column("conversations", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("conversations", sa.Column("metadata", sa.Text, nullable=False, server_default="{}"))
    op.add_column("conversations", sa.Column("keeps_all", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("turns", sa.Column("parent", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("turns", sa.Column("item_id", sa.String(256)))
    op.add_column("turns", sa.Column("item", sa.Text))
    op.create_index("turns_by_item", "turns", ["client_id", "name", "item_id"], unique=True)
    connection = op.get_bind()
    connection.execute(turns.update().values(parent=turns.c.number - 1))
    here = sa.and_(turns.c.client_id == conversations.c.client_id, turns.c.name == conversations.c.name)
    count = sa.select(sa.func.count()).select_from(turns).where(here).scalar_subquery()
    last = sa.select(sa.func.coalesce(sa.func.max(turns.c.number), 0)).where(here).scalar_subquery()
    connection.execute(conversations.update().values(way_turns=count, leaf=last))
    for row in connection.execute(sa.select(old_conversations).order_by(old_conversations.c.id)).all():
        _move(connection, row)
    op.drop_table("conversation_items")
    op.drop_table("response_conversations")


def _move(connection: sa.Connection, row: Any) -> None:
    where = (conversations.c.client_id == row.client_id, conversations.c.name == row.id)
    there = connection.execute(sa.select(conversations).where(*where)).first()
    # Somebody may have named a conversation of `chat` so; then the items come behind its turns.
    number = 0 if there is None else there.last_turn
    parent = 0 if there is None else there.leaf
    said = 0 if there is None else there.way_turns
    size = 0 if there is None else there.bytes
    items = connection.execute(
        sa.select(old_items).where(old_items.c.conversation_id == row.id).order_by(old_items.c.position)
    ).all()
    for one in items:
        number += 1
        role, content, is_partial = _turn(json.loads(one.item))
        connection.execute(
            turns.insert().values(
                client_id=row.client_id,
                name=row.id,
                number=number,
                role=role,
                content=content,
                is_partial=is_partial,
                bytes=len(one.item),
                time_ms=row.created_ms,
                parent=parent,
                item_id=one.id,
                item=one.item,
            )
        )
        parent = number
        said += role in ("user", "assistant")
        size += len(one.item)
    of_it = (responses.c.conversation_id == row.id, responses.c.client_id == row.client_id)
    running = connection.execute(
        sa.select(responses.c.id).where(*of_it, responses.c.ended_ms.is_(None)).limit(1)
    ).scalar()
    ended = connection.execute(sa.select(sa.func.max(responses.c.ended_ms)).where(*of_it)).scalar()
    values = {
        "updated_ms": max(row.created_ms, ended or 0),
        "deleted_ms": None,
        "last_turn": number,
        "bytes": size,
        "running_command": running,
        "running_stream": running,
        "leaf": parent,
        "way_turns": said,
        "metadata": row.metadata,
        "version": row.version,
        "keeps_all": True,
    }
    if there is None:
        made = {
            "client_id": row.client_id,
            "name": row.id,
            "created_ms": row.created_ms,
            "first_turn": 1,
            "window_start": 1,
        }
        connection.execute(conversations.insert().values(**made, **values, other_turns=0))
    else:
        connection.execute(conversations.update().where(*where).values(**values))


def _turn(item: dict[str, Any]) -> tuple[str, str, bool]:
    """Return role and text of an item as of revision 0011, and whether it was truncated."""
    kind = item["type"]
    if kind == "message":
        role = item["role"] if item["role"] in ("user", "assistant") else "system"
        text = "".join(one.get("text", "") for one in item["content"])
        return role, _plain(text), item.get("status") == "incomplete"
    if kind.endswith("_output"):
        return "result", _plain(item["output"]), False
    if kind == "reasoning":
        return "reasoning", _plain("".join(one.get("text", "") for one in item.get("content") or ())), False
    given = item["arguments"] if kind == "function_call" else item["input"]
    return "call", _plain(f"{item['name']}({given})"), False


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def downgrade() -> None:
    """Move the items back. The older program knows a single branch, the selected one."""
    op.create_table(
        "response_conversations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("response_conversations_by_client", "response_conversations", ["client_id", "created_ms"])
    op.create_table(
        "conversation_items",
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("item", sa.Text, nullable=False),
    )
    op.create_index("conversation_items_by_id", "conversation_items", ["conversation_id", "id"], unique=True)
    connection = op.get_bind()
    for row in connection.execute(sa.select(conversations)).all():
        _move_back(connection, row)
    op.drop_index("turns_by_item", "turns")
    for name in ("item", "item_id", "parent"):
        op.drop_column("turns", name)
    for name in ("keeps_all", "metadata", "version", "other_turns", "way_turns", "leaf"):
        op.drop_column("conversations", name)


def _move_back(connection: sa.Connection, row: Any) -> None:
    mine = (turns.c.client_id == row.client_id, turns.c.name == row.name)
    parents = dict(connection.execute(sa.select(turns.c.number, turns.c.parent).where(*mine)).tuples().all())
    way: list[int] = []
    leaf = row.leaf
    while leaf in parents:
        way.insert(0, leaf)
        leaf = parents[leaf]
    kept = [one for one in connection.execute(sa.select(turns).where(*mine)).all() if one.number in way]
    connection.execute(turns.delete().where(*mine))
    if row.keeps_all:
        connection.execute(
            conversations.delete().where(conversations.c.client_id == row.client_id, conversations.c.name == row.name)
        )
        if row.deleted_ms is not None:
            return
        kept.sort(key=lambda one: int(one.number))
        texts = [one.item or json.dumps(_item(one)) for one in kept]
        connection.execute(
            old_conversations.insert().values(
                id=row.name,
                client_id=row.client_id,
                created_ms=row.created_ms,
                metadata=row.metadata,
                version=row.version,
                last_position=row.last_turn,
                items=len(texts),
                bytes=sum(map(len, texts)),
            )
        )
        for one, text in zip(kept, texts, strict=True):
            connection.execute(
                old_items.insert().values(
                    conversation_id=row.name, position=one.number, id=json.loads(text)["id"], item=text
                )
            )
        return
    for one in kept:
        if one.role in ("user", "assistant"):
            connection.execute(turns.insert().values(**one._mapping))


def _item(row: Any) -> dict[str, Any]:
    part = {"type": "output_text" if row.role == "assistant" else "input_text", "text": row.content}
    return {
        "id": f"msg_turn_{row.number}",
        "type": "message",
        "status": "incomplete" if row.is_partial else "completed",
        "role": row.role,
        "content": [part],
    }
