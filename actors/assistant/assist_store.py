"""Beginning and ending a command on disk: the user's turn with `accepted`, the answer with its `ai_response`."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import field, frozen
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from actors.assistant.completion import CompletionRule, cut_analysis
from actors.assistant.conversation_rules import MAXIMUM_CONVERSATIONS, StoredTurn, first_kept
from actors.assistant.conversation_store import (
    DELETE_CONVERSATION,
    GET_CONVERSATION,
    LIST_CONVERSATIONS,
    SEARCH_CONVERSATIONS,
    find_conversation,
    is_conversation,
)
from actors.assistant.tables import assists, conversations, turns
from actors.clock import now_milliseconds
from actors.refusals import CommandRefused
from actors.storage.messages import LogEvent, Operation, Outcome, Query
from protocol.codec import encode, structure, unstructure
from protocol.commands import Generate, Role
from protocol.errors import ErrorCode

__all__ = [
    "BEGIN_ASSIST",
    "END_ASSIST",
    "OPERATIONS",
    "QUERIES",
    "READ_WINDOW",
    "RUNNING_ASSISTS",
    "BeginAssist",
    "BegunAssist",
    "ConversationWindow",
    "EndAssist",
    "Restart",
    "RunningAssist",
    "WindowQuery",
]


@frozen(kw_only=True)
class WindowQuery:
    """Which conversation a prompt is made of."""

    client_id: str
    name: str
    command_id: str
    """Who asks; the same command again is not one more turn."""


@frozen(kw_only=True)
class ConversationWindow:
    """What the model may be shown of a conversation, and where it stands."""

    turns: tuple[StoredTurn, ...]
    """From the window's start, oldest first."""
    last_turn: int
    """0 for one that does not exist yet."""
    turns_before: int
    """How many older turns there were."""


@frozen(kw_only=True)
class Restart:
    """What starts an answer again: the same request, the same seed, the same rule for its last event."""

    generate: Generate = field(repr=False)
    rule: CompletionRule = field(repr=False)


@frozen(kw_only=True)
class BegunAssist:
    """The outcome of a command, as the same command gets it again."""

    stream: str
    seed: int
    prompt_tokens: int


@frozen(kw_only=True)
class BeginAssist:
    """A command was accepted: keep what must outlive this moment."""

    begun: BegunAssist
    client_id: str
    domain: str
    command_id: str
    intent: str | None
    conversation: str | None = None
    expected_last_turn: int = 0
    """What the prompt was made of; another turn since then is a conflict."""
    window_start: int = 1
    """First turn that the prompt has."""
    content: str = field(default="", repr=False)
    prompt: str | None = field(default=None, repr=False)
    restart: Restart | None = field(default=None, repr=False)
    """Of a detached one: what starts it again."""


@frozen(kw_only=True)
class EndAssist:
    """A command is over: its answer, if there is one."""

    stream: str
    text: str = field(repr=False)
    is_complete: bool


@frozen(kw_only=True)
class RunningAssist:
    """A command that was being answered when the server or the room ended."""

    stream: str
    client_id: str
    domain: str
    conversation: str | None
    restart: Restart | None = field(repr=False)
    """What starts it again; None where its end was the client's leaving."""


def _window(connection: Connection, wanted: WindowQuery) -> ConversationWindow:
    row = connection.execute(select(conversations).where(is_conversation(wanted.client_id, wanted.name))).first()
    if row is None:
        return ConversationWindow(turns=(), last_turn=0, turns_before=0)
    find_conversation(connection, wanted.client_id, wanted.name)
    if row.running_command != wanted.command_id:
        _refuse_running(row)
    rows = connection.execute(
        select(turns)
        .where(_turns_of(wanted.client_id, wanted.name), turns.c.number >= row.window_start)
        .order_by(turns.c.number)
    ).all()
    return ConversationWindow(
        turns=tuple(
            StoredTurn(
                number=one.number,
                role=Role(one.role),
                text=one.content if one.prompt is None else one.prompt,
                bytes=one.bytes,
            )
            for one in rows
        ),
        last_turn=row.last_turn,
        turns_before=row.window_start - 1,
    )


def _begin(connection: Connection, command: BeginAssist) -> Outcome[BegunAssist]:
    number = None
    if command.conversation is not None:
        number = _take_turn(connection, command)
    connection.execute(
        insert(assists).values(
            stream=command.begun.stream,
            client_id=command.client_id,
            domain=command.domain,
            command_id=command.command_id,
            conversation=command.conversation,
            turn=number,
            intent=command.intent,
            restart=None if command.restart is None else encode(unstructure(command.restart)).decode(),
            started_ms=now_milliseconds(),
        )
    )
    return Outcome(value=command.begun)


def _take_turn(connection: Connection, command: BeginAssist) -> int:
    """Store what the user said; only one command at a time may. Returns the turn's number."""
    name, time_ms = command.conversation, now_milliseconds()
    assert name is not None
    row = connection.execute(select(conversations).where(is_conversation(command.client_id, name))).first()
    if row is None:
        _make_room(connection, command.client_id)
        connection.execute(
            insert(conversations).values(
                client_id=command.client_id,
                name=name,
                created_ms=time_ms,
                updated_ms=time_ms,
                last_turn=0,
                first_turn=1,
                window_start=1,
                bytes=0,
            )
        )
    row = find_conversation(connection, command.client_id, name)
    _refuse_running(row)
    if row.last_turn != command.expected_last_turn:
        raise CommandRefused(
            ErrorCode.CONFLICT,
            f"conversation {name!r} has gone on meanwhile",
            field="data.conversation",
            current={"last_turn": row.last_turn},
        )
    number = int(row.last_turn) + 1
    _add_turn(connection, command.client_id, name, number, Role.USER, command.content, command.prompt, command.intent)
    connection.execute(
        update(conversations)
        .where(is_conversation(command.client_id, name))
        .values(
            updated_ms=time_ms,
            last_turn=number,
            window_start=command.window_start,
            running_command=command.command_id,
            running_stream=command.begun.stream,
        )
    )
    return number


def _end(connection: Connection, command: EndAssist) -> Outcome[bool]:
    """Store an answer and tell it, once; False where nobody waits for it any more."""
    row = connection.execute(select(assists).where(assists.c.stream == command.stream)).first()
    if row is None:
        return Outcome(value=False)
    connection.execute(delete(assists).where(assists.c.stream == command.stream))
    if row.conversation is not None:
        values: dict[str, Any] = {"running_command": None, "running_stream": None, "updated_ms": now_milliseconds()}
        if command.text:
            number = row.turn + 1
            _add_turn(
                connection,
                row.client_id,
                row.conversation,
                number,
                Role.ASSISTANT,
                command.text,
                intent=row.intent,
                is_partial=not command.is_complete,
            )
            values["last_turn"] = number
        connection.execute(
            update(conversations).where(is_conversation(row.client_id, row.conversation)).values(**values)
        )
        _forget_old_turns(connection, row.client_id, row.conversation)
    if not command.is_complete:
        return Outcome(value=True)
    return Outcome(value=True, events=(_ai_response(row.command_id, row.intent, row.conversation, command.text),))


def _ai_response(command_id: str, intent: str | None, conversation: str | None, text: str) -> LogEvent:
    analysis, is_cut = cut_analysis(text)
    data: dict[str, Any] = {
        "command": "generate" if intent is None else "assist",
        "id": command_id,
        "analysis": analysis,
    }
    if intent is not None:
        data["intent"] = intent
    if conversation is not None:
        data["conversation"] = conversation
    if is_cut:
        data["truncated"] = True
    return LogEvent(type="ai_response", channel="ai", data=data)


def _running(connection: Connection, _: None) -> tuple[RunningAssist, ...]:
    rows = connection.execute(select(assists).order_by(assists.c.started_ms, assists.c.stream))
    return tuple(
        RunningAssist(
            stream=row.stream,
            client_id=row.client_id,
            domain=row.domain,
            conversation=row.conversation,
            restart=None
            if row.restart is None
            else structure(msgspec.json.decode(row.restart), Restart, prefix="restart"),
        )
        for row in rows
    )


def _refuse_running(row: Any) -> None:
    if row.running_command is not None:
        raise CommandRefused(
            ErrorCode.CONFLICT,
            f"conversation {row.name!r} is being answered; one turn at a time",
            field="data.conversation",
            current={"command": row.running_command},
        )


def _make_room(connection: Connection, client_id: str) -> None:
    """One more conversation: the mark of a deleted one goes for it; without any the client must delete one."""
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
        raise CommandRefused(
            ErrorCode.CONFLICT,
            f"there are {MAXIMUM_CONVERSATIONS} conversations already; delete one first",
            field="data.conversation",
        )
    connection.execute(delete(conversations).where(is_conversation(client_id, oldest)))


def _add_turn(
    connection: Connection,
    client_id: str,
    name: str,
    number: int,
    role: Role,
    content: str,
    prompt: str | None = None,
    intent: str | None = None,
    *,
    is_partial: bool = False,
) -> None:
    size = len(content.encode()) + (0 if prompt is None else len(prompt.encode()))
    connection.execute(
        insert(turns).values(
            client_id=client_id,
            name=name,
            number=number,
            role=role.value,
            content=content,
            prompt=prompt,
            intent=intent,
            is_partial=is_partial,
            bytes=size,
            time_ms=now_milliseconds(),
        )
    )
    connection.execute(
        update(conversations).where(is_conversation(client_id, name)).values(bytes=conversations.c.bytes + size)
    )


def _forget_old_turns(connection: Connection, client_id: str, name: str) -> None:
    mine = _turns_of(client_id, name)
    kept = [
        (row.number, row.bytes)
        for row in connection.execute(select(turns.c.number, turns.c.bytes).where(mine).order_by(turns.c.number))
    ]
    first = first_kept(kept)
    if first is None:
        return
    connection.execute(delete(turns).where(mine, turns.c.number < first))
    row = find_conversation(connection, client_id, name)
    connection.execute(
        update(conversations)
        .where(is_conversation(client_id, name))
        .values(
            first_turn=first,
            window_start=max(first, row.window_start),
            bytes=sum(size for number, size in kept if number >= first),
        )
    )


def _turns_of(client_id: str, name: str) -> Any:
    return and_(turns.c.client_id == client_id, turns.c.name == name)


READ_WINDOW: Query[WindowQuery, ConversationWindow] = Query("read_conversation_window", _window)
RUNNING_ASSISTS: Query[None, tuple[RunningAssist, ...]] = Query("running_assists", _running)
BEGIN_ASSIST: Operation[BeginAssist, BegunAssist] = Operation("begin_assist", _begin, BegunAssist, begins_client=True)
END_ASSIST: Operation[EndAssist, bool] = Operation("end_assist", _end, bool)

OPERATIONS: tuple[Operation[Any, Any], ...] = (BEGIN_ASSIST, END_ASSIST, DELETE_CONVERSATION)
QUERIES: tuple[Query[Any, Any], ...] = (
    READ_WINDOW,
    RUNNING_ASSISTS,
    LIST_CONVERSATIONS,
    GET_CONVERSATION,
    SEARCH_CONVERSATIONS,
)
