"""Storage of generations: the command's outcome for all, and for detached ones the data to restart them."""

from __future__ import annotations

import enum
from typing import Any

import attrs
import msgspec
from attrs import field, frozen
from sqlalchemy import Connection, delete, insert, select, update

from actors.clock import now_milliseconds
from actors.inference.messages import GenerationCancelled, GenerationDone, GenerationEvent, GenerationFailed
from actors.inference.tables import generations
from actors.storage.messages import IdempotencyKey, Operation, Outcome, Query, is_ours
from protocol.codec import encode, structure, unstructure
from protocol.commands import Generate
from protocol.errors import ErrorCode
from protocol.events import Done

__all__ = [
    "END_GENERATION",
    "OPERATIONS",
    "QUERIES",
    "RECORD_GENERATION",
    "STORED_GENERATIONS",
    "EndGeneration",
    "RecordGeneration",
    "RecordedGeneration",
    "StoredGeneration",
    "prune_generations",
]

KEPT_MILLISECONDS = 5 * 60 * 1000
"""Retention of a generation after its end."""
PRUNE_ROWS = 200


@frozen(kw_only=True)
class RecordedGeneration:
    """Outcome of a streaming command, returned again if the command is repeated."""

    stream: str
    seed: int
    prompt_tokens: int


@frozen(kw_only=True)
class RecordGeneration:
    """Stores a command's outcome and, with ``generate``, the data to restart it."""

    recorded: RecordedGeneration
    client_id: str
    domain: str = ""
    key: IdempotencyKey | None = None
    generate: Generate | None = field(default=None, repr=False)
    """Set for a detached generation, with its seed filled in."""


@frozen(kw_only=True)
class EndGeneration:
    """Marks a stored generation as ended."""

    stream: str
    text: str = field(repr=False)
    last: GenerationEvent


@frozen(kw_only=True)
class StoredGeneration:
    """A generation as stored."""

    recorded: RecordedGeneration
    client_id: str
    domain: str
    key: IdempotencyKey | None
    generate: Generate = field(repr=False)
    started_ms: int
    """Time of storage, milliseconds since 1970."""
    text: str | None = field(repr=False)
    """None until it has ended."""
    last: GenerationEvent | None
    """None until it has ended; its sequence number is 0."""


def _record(connection: Connection, command: RecordGeneration) -> Outcome[RecordedGeneration]:
    if command.generate is not None:
        key = command.key
        connection.execute(
            insert(generations).values(
                stream=command.recorded.stream,
                client_id=command.client_id,
                device_id=None if key is None else key.device_id,
                command_id=None if key is None else key.command_id,
                digest=None if key is None else key.digest,
                domain=command.domain,
                request=encode(unstructure(command.generate)).decode(),
                prompt_tokens=command.recorded.prompt_tokens,
                started_ms=now_milliseconds(),
            )
        )
    return Outcome(value=command.recorded)


def _end(connection: Connection, command: EndGeneration) -> Outcome[None]:
    connection.execute(
        update(generations)
        .where(generations.c.stream == command.stream)
        .values(ended_ms=now_milliseconds(), text=command.text, last=encode(_event_as_json(command.last)).decode())
    )
    return Outcome(value=None)


def _stored(connection: Connection, _: None) -> tuple[StoredGeneration, ...]:
    rows = connection.execute(
        select(generations)
        .where(
            (generations.c.ended_ms.is_(None) & is_ours(connection, generations.c.owner))
            | (generations.c.ended_ms > now_milliseconds() - KEPT_MILLISECONDS)
        )
        .order_by(generations.c.started_ms, generations.c.stream)
    )
    return tuple(_from_row(row) for row in rows)


def _from_row(row: Any) -> StoredGeneration:
    generate: Generate = structure(msgspec.json.decode(row.request), Generate, prefix="request")
    assert generate.seed is not None
    key = None
    if row.command_id is not None:
        key = IdempotencyKey(
            client_id=row.client_id, device_id=row.device_id, command_id=row.command_id, digest=row.digest
        )
    return StoredGeneration(
        recorded=RecordedGeneration(stream=row.stream, seed=generate.seed, prompt_tokens=row.prompt_tokens),
        client_id=row.client_id,
        domain=row.domain,
        key=key,
        generate=generate,
        started_ms=row.started_ms,
        text=row.text,
        last=None if row.last is None else _event_from_json(row.stream, msgspec.json.decode(row.last)),
    )


def _event_as_json(event: GenerationEvent) -> dict[str, Any]:
    match event:
        case GenerationDone(done=done, fields=fields):
            # Complete, including fields that are None: `structure` requires all of them.
            return {"type": "done", "done": attrs.asdict(done, value_serializer=_enum_as_text), "fields": dict(fields)}
        case GenerationCancelled(reason=reason):
            return {"type": "cancelled", "reason": reason}
        case GenerationFailed(code=code, message=message):
            return {"type": "failed", "code": code.value, "message": message}
    raise TypeError(f"{type(event).__name__} ends no stream")


def _enum_as_text(_: object, __: object, value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _event_from_json(stream: str, data: dict[str, Any]) -> GenerationEvent:
    match data["type"]:
        case "done":
            done: Done = structure(data["done"], Done, prefix="done")
            return GenerationDone(stream=stream, seq=0, done=done, fields=data["fields"])
        case "cancelled":
            return GenerationCancelled(stream=stream, seq=0, reason=data["reason"])
        case _:
            return GenerationFailed(stream=stream, seq=0, code=ErrorCode(data["code"]), message=data["message"])


def prune_generations(connection: Connection, now_ms: int) -> int:
    """Deletes generations that ended over five minutes ago, at most `PRUNE_ROWS`. Returns their number.

    An end in the future was recorded by a clock that ran ahead; it is set to now.
    """
    connection.execute(update(generations).where(generations.c.ended_ms > now_ms).values(ended_ms=now_ms))
    rows = (
        connection.execute(
            select(generations.c.stream).where(generations.c.ended_ms <= now_ms - KEPT_MILLISECONDS).limit(PRUNE_ROWS)
        )
        .scalars()
        .all()
    )
    if rows:
        connection.execute(delete(generations).where(generations.c.stream.in_(rows)))
    return len(rows)


RECORD_GENERATION: Operation[RecordGeneration, RecordedGeneration] = Operation(
    "record_generation", _record, RecordedGeneration
)
END_GENERATION: Operation[EndGeneration, None] = Operation("end_generation", _end, type(None))
STORED_GENERATIONS: Query[None, tuple[StoredGeneration, ...]] = Query("stored_generations", _stored)
"""Running generations, and those that ended recently; the command is None."""

OPERATIONS: tuple[Operation[Any, Any], ...] = (RECORD_GENERATION, END_GENERATION)
QUERIES: tuple[Query[Any, Any], ...] = (STORED_GENERATIONS,)
