"""Storage of commands: the user's turn when it is accepted, the answer with its `ai_response` at the end."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import field, frozen
from sqlalchemy import Connection, delete, insert, select, update

from actors.assistant.completion import CompletionRule, cut_analysis
from actors.assistant.conversation_rules import AskedTurn, StoredTurn, check_capacity
from actors.assistant.tables import assists, conversations, turns
from actors.assistant.turn_rows import (
    add_turn,
    changed,
    choose_leaf,
    find_conversation,
    forget_old_turns,
    is_conversation,
    make_conversation,
    refuse_running,
    tree_of,
    turns_of,
)
from actors.assistant.turn_tree import TurnTree
from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.storage.messages import LogEvent, Operation, Outcome, Query, is_ours
from protocol.codec import encode, structure, unstructure
from protocol.commands import Generate, Role
from protocol.conversations import Change
from protocol.errors import ErrorCode

__all__ = [
    "BEGIN_ASSIST",
    "END_ASSIST",
    "READ_WINDOW",
    "RUNNING_ASSISTS",
    "BeginAssist",
    "BegunAssist",
    "ConversationWindow",
    "EndAssist",
    "Restart",
    "RunningAssist",
    "WindowQuery",
    "ai_response",
]


@frozen(kw_only=True)
class WindowQuery:
    """The conversation and position that a prompt is built for."""

    client_id: str
    name: str
    command_id: str
    """The command itself: a retry is not another turn."""
    parent: int | None = None
    """The turn to continue from; None is the end of the active branch."""
    answers: int | None = None
    """The user's turn to answer again."""


@frozen(kw_only=True)
class ConversationWindow:
    """The part of a conversation that the model may be shown, and its position."""

    turns: tuple[StoredTurn, ...]
    """From the window's start, oldest first."""
    last_turn: int
    """0 if the conversation does not exist yet."""
    leaf: int = 0
    """Last turn of the active branch."""
    turns_before: int
    """Number of older turns."""
    asked: AskedTurn | None = None
    """The turn that is answered again; it follows ``turns``."""


@frozen(kw_only=True)
class Restart:
    """Data to generate an answer again: the same request and seed, and the rule for its last event."""

    generate: Generate = field(repr=False)
    rule: CompletionRule = field(repr=False)


@frozen(kw_only=True)
class BegunAssist:
    """The outcome of a command, returned again to a retry."""

    stream: str
    seed: int
    prompt_tokens: int


@frozen(kw_only=True)
class BeginAssist:
    """Stores an accepted command."""

    begun: BegunAssist
    client_id: str
    domain: str
    command_id: str
    intent: str | None
    conversation: str | None = None
    expected_last_turn: int = 0
    """The last turn when the prompt was built. A later turn is a conflict, unless this command starts another branch.
    """
    expected_leaf: int | None = None
    """Likewise, the last turn of the active branch; None if it was not read."""
    parent: int | None = None
    """As in `WindowQuery`."""
    answers: int | None = None
    """As in `WindowQuery`."""
    window_start: int = 1
    """First turn in the prompt."""
    content: str = field(default="", repr=False)
    prompt: str | None = field(default=None, repr=False)
    restart: Restart | None = field(default=None, repr=False)
    """Set for a detached command: the data to generate it again."""


@frozen(kw_only=True)
class EndAssist:
    """Stores the end of a command, and its answer if there is one."""

    stream: str
    text: str = field(repr=False)
    is_complete: bool


@frozen(kw_only=True)
class RunningAssist:
    """A command that was running when the server or the service ended."""

    stream: str
    client_id: str
    domain: str
    conversation: str | None
    restart: Restart | None = field(repr=False)
    """Data to generate it again; None if the command was to end with its connection."""


def _window(connection: Connection, wanted: WindowQuery) -> ConversationWindow:
    row = connection.execute(select(conversations).where(is_conversation(wanted.client_id, wanted.name))).first()
    if row is None:
        if wanted.parent or wanted.answers is not None:
            find_conversation(connection, wanted.client_id, wanted.name)
        return ConversationWindow(turns=(), last_turn=0, turns_before=0)
    find_conversation(connection, wanted.client_id, wanted.name)
    if row.running_command != wanted.command_id:
        refuse_running(row)
    tree = tree_of(connection, wanted.client_id, wanted.name)
    mine = turns_of(wanted.client_id, wanted.name)
    asked = None
    if wanted.answers is not None:
        _check_answered(tree, wanted.answers)
        one = connection.execute(select(turns).where(mine, turns.c.number == wanted.answers)).one()
        asked = AskedTurn(number=one.number, content=one.content, prompt=one.prompt, intent=one.intent)
        end = int(one.parent)
    elif wanted.parent is not None:
        _check_parent(tree, wanted.parent)
        end = wanted.parent
    else:
        end = int(row.leaf)
    way = [one for one in tree.way_to(end) if tree.nodes[one].is_said]
    # The window belongs to the active branch; from elsewhere, as much is shown as fits.
    start = row.window_start if end >= row.window_start and end in tree.way_to(row.leaf) else 0
    shown = frozenset(one for one in way if one >= start)
    found = connection.execute(select(turns).where(mine, turns.c.number >= start).order_by(turns.c.number)).all()
    return ConversationWindow(
        turns=tuple(
            StoredTurn(
                number=one.number,
                role=Role(one.role),
                text=one.content if one.prompt is None else one.prompt,
                bytes=one.bytes,
            )
            for one in found
            if one.number in shown
        ),
        last_turn=row.last_turn,
        leaf=row.leaf,
        turns_before=row.first_turn - 1 + len(way) - len(shown),
        asked=asked,
    )


def _check_parent(tree: TurnTree, parent: int) -> None:
    if not tree.is_place(parent):
        raise CommandError(ErrorCode.NOT_FOUND, f"turn {parent} to continue from does not exist", field="data.parent")


def _check_answered(tree: TurnTree, number: int) -> None:
    node = tree.nodes.get(number)
    if node is None:
        raise CommandError(ErrorCode.NOT_FOUND, f"turn {number} to answer does not exist", field="data.answers")
    if node.role != Role.USER.value:
        raise CommandError(
            ErrorCode.INVALID_FIELD, f"turn {number} is an answer; name the turn before it", field="data.answers"
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
    """Store the user's turn, and return its number. Only one command at a time may add turns."""
    name, client_id = command.conversation, command.client_id
    assert name is not None
    row = connection.execute(select(conversations).where(is_conversation(client_id, name))).first()
    if row is None:
        make_conversation(connection, client_id, name, now_milliseconds())
    row = find_conversation(connection, client_id, name)
    refuse_running(row)
    tree = tree_of(connection, client_id, name)
    parent = int(row.leaf) if command.parent is None else command.parent
    if command.answers is not None:
        _check_answered(tree, command.answers)
        number = command.answers
    else:
        if command.parent is not None:
            _check_parent(tree, command.parent)
        elif row.last_turn != command.expected_last_turn or command.expected_leaf not in (None, row.leaf):
            raise CommandError(
                ErrorCode.CONFLICT,
                f"conversation {name!r} has changed meanwhile",
                field="data.conversation",
                current={"last_turn": row.last_turn},
            )
        check_capacity(row, len(tree.nodes), 1, len(command.content.encode()), "data.content")
        number = int(row.last_turn) + 1
        add_turn(
            connection,
            client_id,
            name,
            number,
            parent,
            Role.USER.value,
            command.content,
            prompt=command.prompt,
            intent=command.intent,
        )
    choose_leaf(connection, client_id, name, number)
    connection.execute(
        update(conversations)
        .where(is_conversation(client_id, name))
        .values(
            window_start=command.window_start,
            running_command=command.command_id,
            running_stream=command.begun.stream,
        )
    )
    return number


def _end(connection: Connection, command: EndAssist) -> Outcome[bool]:
    """Store an answer and publish it, once. Returns False if the command has ended before."""
    row = connection.execute(select(assists).where(assists.c.stream == command.stream)).first()
    if row is None:
        return Outcome(value=False)
    connection.execute(delete(assists).where(assists.c.stream == command.stream))
    if row.conversation is not None:
        _end_turn(connection, command, row)
    if not command.is_complete:
        # Other devices saw the answer begin and wait for it.
        told = () if row.conversation is None else (changed(row.conversation, Change.TURNS, command_id=row.command_id),)
        return Outcome(value=True, events=told)
    return Outcome(value=True, events=(ai_response(row.command_id, row.intent, row.conversation, command.text),))


def _end_turn(connection: Connection, command: EndAssist, assist: Any) -> None:
    """Add the answer's turn, if there is one. A branch that was activated meanwhile stays active."""
    client_id, name = assist.client_id, assist.conversation
    row = find_conversation(connection, client_id, name)
    leaf = int(row.leaf)
    if command.text:
        number = int(row.last_turn) + 1
        add_turn(
            connection,
            client_id,
            name,
            number,
            int(assist.turn),
            Role.ASSISTANT.value,
            command.text,
            intent=assist.intent,
            is_partial=not command.is_complete,
        )
        leaf = number if leaf == assist.turn else leaf
    elif leaf == assist.turn:
        # The earlier answer becomes active again.
        leaf = tree_of(connection, client_id, name).newest_end(leaf)
    choose_leaf(connection, client_id, name, leaf)
    connection.execute(
        update(conversations).where(is_conversation(client_id, name)).values(running_command=None, running_stream=None)
    )
    forget_old_turns(connection, client_id, name)


def ai_response(
    command_id: str, intent: str | None, conversation: str | None, text: str, *, command: str | None = None
) -> LogEvent:
    """Build the event that sends an answer to every device. ``command`` names the command if neither `assist` nor `generate`."""
    analysis, is_cut = cut_analysis(text)
    data: dict[str, Any] = {
        "command": command or ("generate" if intent is None else "assist"),
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
    rows = connection.execute(
        select(assists).where(is_ours(connection, assists.c.owner)).order_by(assists.c.started_ms, assists.c.stream)
    )
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


READ_WINDOW: Query[WindowQuery, ConversationWindow] = Query("read_conversation_window", _window)
RUNNING_ASSISTS: Query[None, tuple[RunningAssist, ...]] = Query("running_assists", _running)
BEGIN_ASSIST: Operation[BeginAssist, BegunAssist] = Operation("begin_assist", _begin, BegunAssist, begins_client=True)
END_ASSIST: Operation[EndAssist, bool] = Operation("end_assist", _end, bool)
