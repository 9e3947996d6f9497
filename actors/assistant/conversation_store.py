"""Storage of conversations: read, list, search, select a branch, delete. Synchronous functions over a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, delete, select, update

from actors.assistant.item_forms import step_line
from actors.assistant.tables import assists, conversations, turns
from actors.assistant.turn_rows import changed, choose_leaf, find_conversation, is_conversation, tree_of, turns_of
from actors.assistant.turn_tree import SAID, TurnTree
from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.storage.messages import Operation, Outcome, Query
from protocol.codec import encode, wire_time
from protocol.conversations import (
    Change,
    Conversation,
    ConversationChoose,
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
    "CHOOSE_WAY",
    "DELETE_CONVERSATION",
    "GET_CONVERSATION",
    "LIST_CONVERSATIONS",
    "SEARCH_CONVERSATIONS",
    "Owned",
    "forget_conversation",
]

PAGE_BYTES = 512 * 1024
"""Maximum size of a page of turns, so that its frame fits."""
EXCERPT_CHARACTERS = 400


@frozen(kw_only=True)
class Owned:
    """A command about one client's conversations."""

    client_id: str
    data: Any


def _time(milliseconds: int) -> str:
    return wire_time(milliseconds / 1000)


def _described(row: Any) -> Conversation:
    return Conversation(
        conversation=row.name,
        created=_time(row.created_ms),
        updated=_time(row.updated_ms),
        turns=row.way_turns,
        forgotten_turns=row.first_turn - 1,
        bytes=row.bytes,
        running=row.running_command,
        other_turns=row.other_turns or None,
    )


def _list(connection: Connection, owned: Owned) -> ConversationPage:
    wanted: ConversationList = owned.data
    query = (
        select(conversations)
        .where(conversations.c.client_id == owned.client_id, conversations.c.deleted_ms.is_(None))
        .order_by(conversations.c.name)
        .limit(wanted.limit + 1)
    )
    if wanted.after is not None:
        query = query.where(conversations.c.name > wanted.after)
    rows = connection.execute(query).all()
    page = [_described(row) for row in rows[: wanted.limit]]
    return ConversationPage(
        conversations=page, next=page[-1].conversation if len(rows) > wanted.limit and page else None
    )


def _get(connection: Connection, owned: Owned) -> ConversationTurns:
    wanted: ConversationGet = owned.data
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    tree = tree_of(connection, owned.client_id, wanted.conversation)
    way = tree.way_to(row.leaf)
    listed = sorted(tree.nodes) if wanted.all_ways else way
    said = [one for one in listed if tree.nodes[one].is_said]
    if wanted.before is None:
        numbers = [one for one in said if one > wanted.after][: wanted.limit]
    else:
        numbers = [one for one in said if one < wanted.before][-wanted.limit :]
    page = _page(connection, owned, tree, way, numbers, from_end=wanted.before is not None)
    conversation = _described(row)
    if wanted.before is not None:
        older = sum(one < (page[0].number if page else wanted.before) for one in said)
        previous = page[0].number if page and older else None
        return ConversationTurns(conversation=conversation, turns=page, previous=previous, older=older)
    following = page[-1].number if page and page[-1].number < said[-1] else None
    return ConversationTurns(conversation=conversation, turns=page, next=following)


def _page(
    connection: Connection, owned: Owned, tree: TurnTree, way: Sequence[int], numbers: Sequence[int], *, from_end: bool
) -> list[Turn]:
    """Return these turns, oldest first. If they are too long for a page, keep the first ones, or ``from_end`` the
    last.
    """
    if not numbers:
        return []
    mine = turns_of(owned.client_id, owned.data.conversation)
    steps = _steps(connection, mine, tree, way, numbers)
    on_way = frozenset(way)
    order = turns.c.number.desc() if from_end else turns.c.number
    rows = connection.execute(
        select(turns).where(mine, turns.c.number >= numbers[0], turns.c.number <= numbers[-1]).order_by(order)
    )
    wanted = frozenset(numbers)
    page: list[Turn] = []
    size = 0
    for one in rows:
        if one.number not in wanted:
            continue
        # As JSON, because escaped characters take up to six bytes.
        size += len(encode([one.content]))
        if page and size > PAGE_BYTES:
            break
        beside = tree.beside(one.number)
        page.append(
            Turn(
                number=one.number,
                role=Speaker(one.role),
                content=one.content,
                time=_time(one.time_ms),
                intent=one.intent,
                is_partial=one.is_partial,
                parent=one.parent or None,
                ways=beside if len(beside) > 1 else None,
                is_beside=None if one.number in on_way else True,
                steps=steps.get(one.number),
            )
        )
    rows.close()
    return page[::-1] if from_end else page


def _steps(
    connection: Connection, mine: Any, tree: TurnTree, way: Sequence[int], numbers: Sequence[int]
) -> dict[int, list[str]]:
    """Return the steps that follow each of these turns on the active branch, by the turn's number."""
    behind: dict[int, int] = {}
    last = 0
    for one in way:
        if tree.nodes[one].is_said:
            last = one
        elif numbers[0] <= last <= numbers[-1]:
            behind[one] = last
    found: dict[int, list[str]] = {}
    unsaid = sorted(behind)
    for at in range(0, len(unsaid), 500):
        rows = connection.execute(
            select(turns.c.number, turns.c.role, turns.c.content)
            .where(mine, turns.c.number.in_(unsaid[at : at + 500]))
            .order_by(turns.c.number)
        )
        for row in rows:
            found.setdefault(behind[row.number], []).append(step_line(row.role, row.content))
    return found


def _search(connection: Connection, owned: Owned) -> ConversationHits:
    wanted: ConversationSearch = owned.data
    rows = connection.execute(
        select(turns)
        .where(
            turns.c.client_id == owned.client_id,
            turns.c.role.in_(SAID),
            turns.c.content.icontains(wanted.text, autoescape=True),
        )
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
    # If only the database folds the case, the beginning is shown.
    place = max(0, content.lower().find(text.lower()))
    start = max(0, place - (EXCERPT_CHARACTERS - len(text)) // 2)
    return content[start : start + EXCERPT_CHARACTERS]


def _delete(connection: Connection, owned: Owned) -> Outcome[ConversationDeleted]:
    wanted: ConversationDelete = owned.data
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    if row.running_command is not None:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"conversation {wanted.conversation!r} is being answered",
            field="data.conversation",
            current={"command": row.running_command},
        )
    gone = forget_conversation(connection, owned.client_id, wanted.conversation)
    return Outcome(
        value=ConversationDeleted(conversation=wanted.conversation, turns=gone),
        events=(changed(wanted.conversation, Change.DELETED),),
    )


def forget_conversation(connection: Connection, client_id: str, name: str) -> int:
    """Delete a conversation except for the record that its name was used. Returns its number of turns."""
    gone = connection.execute(delete(turns).where(turns_of(client_id, name))).rowcount
    connection.execute(
        update(conversations)
        .where(is_conversation(client_id, name))
        .values(
            deleted_ms=now_milliseconds(),
            bytes=0,
            leaf=0,
            way_turns=0,
            other_turns=0,
            metadata="{}",
            running_command=None,
            running_stream=None,
        )
    )
    connection.execute(delete(assists).where(assists.c.client_id == client_id, assists.c.conversation == name))
    return gone


def _choose(connection: Connection, owned: Owned) -> Outcome[Conversation]:
    """Select a branch. A running answer continues on the branch where it was requested."""
    wanted: ConversationChoose = owned.data
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    tree = tree_of(connection, owned.client_id, wanted.conversation)
    if wanted.turn not in tree.nodes:
        raise CommandError(
            ErrorCode.NOT_FOUND, f"conversation {wanted.conversation!r} has no turn {wanted.turn}", field="data.turn"
        )
    if wanted.turn in tree.way_to(row.leaf):
        return Outcome(value=_described(row))
    choose_leaf(connection, owned.client_id, wanted.conversation, tree.newest_end(wanted.turn), is_other_way=True)
    row = find_conversation(connection, owned.client_id, wanted.conversation)
    return Outcome(value=_described(row), events=(changed(wanted.conversation, Change.WAY),))


LIST_CONVERSATIONS: Query[Owned, ConversationPage] = Query("list_conversations", _list)
SEARCH_CONVERSATIONS: Query[Owned, ConversationHits] = Query("search_conversations", _search)
GET_CONVERSATION: Query[Owned, ConversationTurns] = Query("get_conversation", _get)
DELETE_CONVERSATION: Operation[Owned, ConversationDeleted] = Operation(
    "delete_conversation", _delete, ConversationDeleted
)
CHOOSE_WAY: Operation[Owned, Conversation] = Operation("choose_conversation_way", _choose, Conversation)
