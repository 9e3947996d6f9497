"""Commits a batch of writes as one transaction, each in its own savepoint. Synchronous.

Writes that wait while another is being synced are committed together (group commit), so that twenty clients cost
little more disk time than one. An exception in one of them undoes that one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, frozen
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from actors.clock import now_milliseconds
from actors.storage.client_locks import lock_clients
from actors.storage.clocks import KeyClock
from actors.storage.guard import broken_by
from actors.storage.idempotency import find_outcome, keep_outcome
from actors.storage.log import append_events, begin_client
from actors.storage.messages import Committed, Operation, Outcome, StoredEvent, Transact, TriggerHook

__all__ = ["BatchResult", "WriteResult", "carry_out_batch"]


@frozen
class WriteResult:
    """Outcome of one write; exactly one of the two is set."""

    committed: Committed[Any] | None = None
    error: Exception | None = None


@define
class BatchResult:
    """Outcomes of a batch, and the events it committed."""

    writes: list[WriteResult]
    events: list[StoredEvent]
    has_triggers: bool = False


def carry_out_batch(
    engine: Engine,
    operations: Mapping[str, Operation[Any, Any]],
    hook: TriggerHook | None,
    batch: Sequence[Transact],
    *,
    key_clock: KeyClock,
    now_ms: Callable[[], int] = now_milliseconds,
    is_shared: bool = False,
) -> BatchResult:
    """Run the writes in order and commit. Blocking.

    ``is_shared`` says that other nodes of a cluster write to the database too.

    Raises `SQLAlchemyError` if the transaction failed, in which case nothing was committed.
    """
    result = BatchResult([], [])
    with engine.connect() as connection, connection.begin() as transaction:
        if is_shared:
            lock_clients(connection, {one.client_id for one in batch})
        for one in batch:
            # Alone it needs no savepoint: what undoes the transaction undoes it.
            extent = connection.begin_nested() if len(batch) > 1 else transaction
            try:
                committed, events, has_triggers = _carry_out(connection, operations, hook, one, now_ms(), key_clock)
                extent.commit()
            except Exception as error:
                # Isolation border: what one write raises is its outcome alone.
                if isinstance(error, OperationalError) or broken_by(error) is not None:
                    # The database itself is in trouble (full, gone, locked, damaged), and may have undone everything.
                    raise
                extent.rollback()
                result.writes.append(WriteResult(error=error))
            else:
                result.writes.append(WriteResult(committed=committed))
                result.events.extend(events)
                result.has_triggers = result.has_triggers or has_triggers
    return result


def _carry_out(
    connection: Connection,
    operations: Mapping[str, Operation[Any, Any]],
    hook: TriggerHook | None,
    write: Transact,
    now_ms: int,
    key_clock: KeyClock,
) -> tuple[Committed[Any], tuple[StoredEvent, ...], bool]:
    """Run one write with everything that belongs to it."""
    operation = operations[write.operation]
    if write.key is not None:
        repeat = find_outcome(connection, write.key, operation.result, key_clock.now_ms(connection))
        if repeat is not None:
            return repeat, (), False
    outcome: Outcome[Any] = operation.function(connection, write.command)
    if operation.begins_client and not outcome.keeps_nothing:
        begin_client(connection, write.client_id)
    wanted = outcome.events
    for one in outcome.further:
        also: Outcome[Any] = operations[one.operation].function(connection, one.command)
        assert not also.further
        assert not also.triggers
        wanted += also.events
    if outcome.triggers and hook is not None:
        wanted += hook(connection, write.client_id, outcome.triggers)
    events = append_events(connection, write.client_id, wanted, now_ms)
    head = events[-1].seq if events else None
    if write.key is not None:
        keep_outcome(connection, write.key, outcome.value, head, key_clock.now_ms(connection))
    return Committed(value=outcome.value, head=head), events, bool(outcome.triggers)
