"""Storage of responses. Synchronous functions over a connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from attrs import field, frozen
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from actors.assistant.messages import (
    HOLD_CONVERSATION,
    RELEASE_CONVERSATION,
    HoldConversation,
    ReleaseConversation,
)
from actors.errors import CommandError
from actors.responses.messages import NewResponse, ResponseEnd, ResponseSnapshot
from actors.responses.stored_request import request_from_text, request_to_text
from actors.responses.tables import responses
from actors.storage.messages import FurtherWrite, Operation, Outcome, Query, Trigger, is_ours
from protocol.commands import Generate
from protocol.errors import ErrorCode, InvalidField

__all__ = [
    "BEGIN_RESPONSE",
    "DELETE_RESPONSE",
    "END_RESPONSE",
    "FIND_BEGUN",
    "OPERATIONS",
    "QUERIES",
    "READ_CHAIN",
    "READ_RESPONSE",
    "RUNNING_RESPONSES",
    "BeginResponse",
    "EndResponse",
    "Owned",
    "prune_responses",
]

KEPT_MILLISECONDS = 30 * 24 * 3600 * 1000
"""Retention after the end, as at OpenAI."""
MAXIMUM_RESPONSES = 10_000
"""Responses of one client; the oldest ended ones are deleted first."""
MAXIMUM_BYTES = 256 * 1024 * 1024
"""Total size of one client's responses."""
MAXIMUM_CHAIN = 1000
MAXIMUM_CHAIN_BYTES = 4 * 1024 * 1024
"""Total size of a response and those it continues: no model reads more, and a single reader must not block the
others.
"""
PRUNE_ROWS = 200
APPENDED = ("completed", "incomplete")
"""Outcomes that append a response to its conversation. Failed and cancelled responses leave it unchanged."""


@frozen(kw_only=True)
class Owned:
    """A response of one client."""

    client_id: str
    id: str


@frozen(kw_only=True)
class BeginResponse:
    """Stores an accepted response, with the data to generate it again."""

    response: NewResponse
    client_id: str
    domain: str
    generate: Generate = field(repr=False)
    """With its seed filled in."""


@frozen(kw_only=True)
class EndResponse:
    """Stores the end of a response."""

    id: str
    client_id: str
    text: str = field(repr=False)
    logprobs: tuple[dict[str, Any], ...] = field(repr=False)
    end: ResponseEnd
    output: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """Items for its conversation."""


@frozen(kw_only=True)
class LeftResponse:
    """A response that was running when the server or the service ended."""

    response: NewResponse
    client_id: str
    domain: str
    generate: Generate | None = field(repr=False)
    """None if it was written by a newer version in a form that this one cannot read."""


def _is(owned: Owned) -> Any:
    return and_(responses.c.id == owned.id, responses.c.client_id == owned.client_id)


def _find(connection: Connection, owned: Owned) -> Any:
    """Return its row. Raises `CommandError`; another client's response is reported as missing."""
    row = connection.execute(select(responses).where(_is(owned))).first()
    if row is None:
        raise CommandError(ErrorCode.NOT_FOUND, f"Response with id {owned.id!r} not found.", field="id")
    return row


def _begin(connection: Connection, command: BeginResponse) -> Outcome[str]:
    new = command.response
    response = json.dumps(attrs.asdict(new))
    restart = request_to_text(command.generate)
    _make_room(connection, command.client_id, len(response) + len(restart))
    connection.execute(
        insert(responses).values(
            id=new.id,
            client_id=command.client_id,
            domain=command.domain,
            previous_id=new.previous_id,
            conversation_id=new.conversation_id,
            created_ms=new.created_ms,
            response=response,
            restart=restart,
            bytes=len(response) + len(restart),
        )
    )
    return Outcome(value=new.id, further=_hold(command))


def _hold(command: BeginResponse) -> tuple[FurtherWrite, ...]:
    """The write that reserves its conversation."""
    new = command.response
    if new.conversation_id is None:
        return ()
    hold = HoldConversation(
        client_id=command.client_id,
        id=new.conversation_id,
        response_id=new.id,
        version=new.conversation_version,
        count=len(new.input),
        bytes=len(json.dumps(new.input)),
    )
    return (FurtherWrite(operation=HOLD_CONVERSATION, command=hold),)


def _release(
    client_id: str, response: NewResponse, output: Sequence[dict[str, Any]] = (), *, is_appended: bool = False
) -> tuple[FurtherWrite, ...]:
    """The write that releases its conversation and appends to it."""
    if response.conversation_id is None:
        return ()
    release = ReleaseConversation(
        client_id=client_id,
        id=response.conversation_id,
        response_id=response.id,
        parent=response.conversation_leaf,
        input=tuple(response.input) if is_appended else (),
        output=tuple(output) if is_appended else (),
    )
    return (FurtherWrite(operation=RELEASE_CONVERSATION, command=release),)


def _make_room(connection: Connection, client_id: str, size: int) -> None:
    """Delete the oldest ended responses to make space. Raises `CommandError` if too many are running."""
    mine = responses.c.client_id == client_id
    row = connection.execute(select(func.count(), func.coalesce(func.sum(responses.c.bytes), 0)).where(mine)).one()
    count, held = int(row[0]) + 1, int(row[1]) + size
    if count <= MAXIMUM_RESPONSES and held <= MAXIMUM_BYTES:
        return
    ended = connection.execute(
        select(responses.c.id, responses.c.bytes)
        .where(mine, responses.c.ended_ms.is_not(None))
        .order_by(responses.c.created_ms, responses.c.id)
    )
    gone: list[str] = []
    for one in ended:
        if count <= MAXIMUM_RESPONSES and held <= MAXIMUM_BYTES:
            break
        gone.append(one.id)
        count, held = count - 1, held - one.bytes
    ended.close()
    if count > MAXIMUM_RESPONSES or held > MAXIMUM_BYTES:
        raise CommandError(
            ErrorCode.OVERLOADED, "too many stored responses are in progress; cancel one first", retry_after_ms=5000
        )
    for at in range(0, len(gone), PRUNE_ROWS):
        connection.execute(delete(responses).where(responses.c.id.in_(gone[at : at + PRUNE_ROWS])))


def _end(connection: Connection, command: EndResponse) -> Outcome[bool]:
    """Store the end once. Returns False if the response was deleted or has ended before."""
    owned = Owned(client_id=command.client_id, id=command.id)
    row = connection.execute(select(responses).where(_is(owned))).first()
    if row is None or row.ended_ms is not None:
        return Outcome(value=False)
    text = json.dumps(command.text)
    logprobs = json.dumps(command.logprobs) if command.logprobs else None
    connection.execute(
        update(responses)
        .where(_is(owned))
        .values(
            ended_ms=command.end.ended_ms,
            ending=json.dumps(attrs.asdict(command.end)),
            text=text,
            logprobs=logprobs,
            restart=None,
            bytes=len(row.response) + len(text) + len(logprobs or ""),
        )
    )
    response = _response(row)
    is_appended = command.end.status in APPENDED
    further = _release(command.client_id, response, command.output, is_appended=is_appended)
    if not response.notifies:
        return Outcome(value=True, further=further)
    told = Trigger(
        kind="response_done",
        data={"title": response.title, "response_id": response.id, "status": command.end.status},
    )
    return Outcome(value=True, triggers=(told,), further=further)


def _delete(connection: Connection, owned: Owned) -> Outcome[bool]:
    row = _find(connection, owned)
    connection.execute(delete(responses).where(_is(owned)))
    # A running response will have no end that releases it.
    return Outcome(value=True, further=() if row.ended_ms is not None else _release(owned.client_id, _response(row)))


def _response(row: Any) -> NewResponse:
    return NewResponse(**json.loads(row.response))


def _snapshot(row: Any) -> ResponseSnapshot:
    return ResponseSnapshot(
        response=_response(row),
        text="" if row.text is None else json.loads(row.text),
        logprobs=() if row.logprobs is None else tuple(json.loads(row.logprobs)),
        end=None if row.ending is None else ResponseEnd(**json.loads(row.ending)),
    )


def _read(connection: Connection, owned: Owned) -> ResponseSnapshot:
    return _snapshot(_find(connection, owned))


def _chain(connection: Connection, owned: Owned) -> tuple[ResponseSnapshot, ...]:
    found: list[ResponseSnapshot] = []
    next_id: str | None = owned.id
    held = 0
    while next_id is not None:
        try:
            row = _find(connection, Owned(client_id=owned.client_id, id=next_id))
        except CommandError as refusal:
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"Previous response with id {next_id!r} not found.",
                field="body.previous_response_id",
            ) from refusal
        if row.ended_ms is None:
            raise CommandError(
                ErrorCode.CONFLICT, f"Response {next_id!r} is still in progress.", field="body.previous_response_id"
            )
        if row.conversation_id is not None:
            raise CommandError(
                ErrorCode.INVALID_FIELD,
                f"Response {next_id!r} belongs to a conversation: send conversation {row.conversation_id!r}.",
                field="body.previous_response_id",
            )
        held += row.bytes
        if held > MAXIMUM_CHAIN_BYTES or len(found) == MAXIMUM_CHAIN:
            raise CommandError(
                ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                "the chain of previous responses exceeds any model's context; start without previous_response_id",
                field="body.previous_response_id",
            )
        found.append(_snapshot(row))
        next_id = row.previous_id
    return tuple(reversed(found))


def _running(connection: Connection, _: None) -> tuple[LeftResponse, ...]:
    rows = connection.execute(
        select(responses)
        .where(responses.c.ended_ms.is_(None), is_ours(connection, responses.c.owner))
        .order_by(responses.c.created_ms, responses.c.id)
    )
    return tuple(
        LeftResponse(
            response=_response(row),
            client_id=row.client_id,
            domain=row.domain,
            generate=_request(row.restart),
        )
        for row in rows
    )


def _request(text: str) -> Generate | None:
    try:
        return request_from_text(text)
    except (InvalidField, KeyError, TypeError, ValueError):
        return None


def _find_begun(_: Connection, key: str) -> Outcome[str]:
    """Runs only if the key has no outcome, and stores none."""
    raise CommandError(ErrorCode.NOT_FOUND, f"the key {key!r} belongs to no response")


def prune_responses(connection: Connection, at_ms: int) -> int:
    """Delete responses that ended more than thirty days ago, at most `PRUNE_ROWS`. Returns their number.

    End times in the future come from a clock that was ahead; their thirty days begin now.
    """
    connection.execute(update(responses).where(responses.c.ended_ms > at_ms).values(ended_ms=at_ms))
    old = select(responses.c.id).where(responses.c.ended_ms <= at_ms - KEPT_MILLISECONDS).limit(PRUNE_ROWS)
    gone = connection.execute(old).scalars().all()
    if gone:
        connection.execute(delete(responses).where(responses.c.id.in_(gone)))
    return len(gone)


BEGIN_RESPONSE: Operation[BeginResponse, str] = Operation("begin_response", _begin, str, begins_client=True)
FIND_BEGUN: Operation[str, str] = Operation("find_begun_response", _find_begun, str)
END_RESPONSE: Operation[EndResponse, bool] = Operation("end_response", _end, bool)
DELETE_RESPONSE: Operation[Owned, bool] = Operation("delete_response", _delete, bool)
READ_RESPONSE: Query[Owned, ResponseSnapshot] = Query("read_response", _read)
READ_CHAIN: Query[Owned, tuple[ResponseSnapshot, ...]] = Query("read_response_chain", _chain)
RUNNING_RESPONSES: Query[None, tuple[LeftResponse, ...]] = Query("running_responses", _running)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    BEGIN_RESPONSE,
    FIND_BEGUN,
    END_RESPONSE,
    DELETE_RESPONSE,
)
QUERIES: tuple[Query[Any, Any], ...] = (READ_RESPONSE, READ_CHAIN, RUNNING_RESPONSES)
