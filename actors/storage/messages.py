"""What rooms and storage say to each other. A room writes plain functions over a connection; storage runs them.

A room's `store.py` holds `Operation`s (they write) and `Query`s (they read); `database_operations.py` hands them all to
storage, and the room calls them by these objects through a `Storage`. An operation runs in one write transaction
with everything that its `Outcome` names: events of the client's log, triggers of notifications, and the record that
makes the same command idempotent. `events` and `client_logs` are the log's tables, for operations of others that read them: storage
alone writes them, and knows the sequence number that an event got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import field, frozen
from sqlalchemy import Connection

from actors.storage.tables import client_logs, events
from actors.tracing.tracer import Tracer
from protocol.events import Priority
from runtime import ActorRef, Request

__all__ = [
    "CommitPublished",
    "Committed",
    "DescribeStorage",
    "IdempotencyKey",
    "LogEvent",
    "LogPage",
    "LogsAdvanced",
    "Operation",
    "Outcome",
    "PublishEvents",
    "Query",
    "Read",
    "ReadAgain",
    "Storage",
    "StorageHealth",
    "StoredEvent",
    "Transact",
    "Trigger",
    "TriggerHook",
    "TriggersCommitted",
    "client_logs",
    "events",
]

Command = TypeVar("Command")
Reply = TypeVar("Reply")

TRANSACT_SECONDS = 5.0
READ_SECONDS = 5.0


@frozen(kw_only=True)
class LogEvent:
    """One event to append to a client's log in the transaction that causes it."""

    type: str
    """Wire type, as `task_created`."""
    channel: str
    """What a subscription chooses by: `tasks`, `ai`, `notifications`, `system`."""
    priority: Priority = Priority.MEDIUM
    data: dict[str, Any]
    """JSON values, at most 32 KiB encoded; storage adds `event_id`, `channel` and `priority`."""


@frozen(kw_only=True)
class Trigger:
    """Something that may be worth a notification; the notifications room decides, in the same transaction."""

    kind: str
    """As `task_blocked`, `approval_needed`, `analysis_done`."""
    priority: Priority = Priority.MEDIUM
    data: dict[str, Any]
    """Typed fields that the kind's template needs, JSON values."""
    is_own_action: bool = False
    """It reports what the client itself has just done, so its notification is read from the beginning."""


@frozen(kw_only=True)
class FurtherWrite:
    """What one service's write asks of another service, in the same transaction. What refuses it refuses both."""

    operation: str
    """Name of the other service's operation, as its `messages.py` has it; that one asks for nothing further."""
    command: Any = field(repr=False)
    """What it takes; its answer is not read."""


@frozen(kw_only=True)
class Outcome(Generic[Reply]):
    """What an operation did: its answer and what must be committed with it."""

    value: Reply
    events: tuple[LogEvent, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    further: tuple[FurtherWrite, ...] = ()
    """Writes of other services that are carried out with this one, or neither is."""
    keeps_nothing: bool = False
    """This time the operation left no row behind, so that it is no reason to count its client (`begins_client`)."""


TriggerHook = Callable[[Connection, str, tuple[Trigger, ...]], tuple[LogEvent, ...]]
"""(connection, client id, triggers) → events to append as well. One is registered: the notifications room's."""


@frozen
class Operation(Generic[Command, Reply]):
    """A named write. Its function raises `CommandRefused` to roll back and answer so."""

    name: str
    function: Callable[[Connection, Command], Outcome[Reply]]
    result: Any
    """Class of the answer (anything the protocol's codec structures), read back when a command comes again."""
    begins_client: bool = False
    """It keeps something for good that no event tells of, so the client counts as one of which something is kept."""


@frozen
class Query(Generic[Command, Reply]):
    """A named read; it may run beside others, on a connection that sees only what is committed."""

    name: str
    function: Callable[[Connection, Command], Reply]


@frozen(kw_only=True)
class IdempotencyKey:
    """Names one command of one device, so that it is carried out once. Kept for ten minutes."""

    client_id: str
    device_id: str
    """The device; REST's `Idempotency-Key` uses `:rest`, which no device can be called."""
    command_id: str
    digest: str
    """SHA-256 of type and data, hexadecimal."""
    must_be_known: bool = field(default=False, eq=False)
    """Asks what became of the command: refused with `conflict` where nobody remembers it."""


@frozen(kw_only=True)
class StoredEvent:
    """One event as the log has it."""

    client_id: str
    seq: int
    type: str
    channel: str
    priority: Priority
    time_ms: int
    """POSIX milliseconds."""
    data: bytes = field(repr=False)
    """Encoded JSON object, `event_id`, `channel` and `priority` in it."""


@frozen(kw_only=True)
class Committed(Generic[Reply]):
    """A write is on disk."""

    value: Reply
    is_repeat: bool = False
    """True when the same command had been carried out before and this is its first outcome."""
    head: int | None = None
    """Last sequence number of the client's log, where the write appended to it."""


@frozen(kw_only=True)
class Transact(Request[Committed[Any]]):
    """Run an operation in a write transaction. Refused with `CommandRefused`.

    When the deadline passes, whether it was carried out is unknown; the key tells.
    """

    operation: str
    client_id: str
    """Whose log gets the events."""
    command: Any = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class Read(Request[Any]):
    """Run a query on a reader's connection. Refused with `CommandRefused`."""

    query: str
    command: Any = field(repr=False)


@frozen(kw_only=True)
class LogPage:
    """Part of a client's log, and where the log stands."""

    epoch: str
    head: int
    oldest: int
    """First sequence number that is still kept; head + 1 where nothing is."""
    events: tuple[StoredEvent, ...]


@frozen
class CommitPublished:
    """To the relay: these events are committed."""

    events: tuple[StoredEvent, ...]
    has_triggers: bool
    has_gap: bool = False
    """True when commits before this one could not be told."""


@frozen
class TriggersCommitted:
    """To the planner of notifications: there may be something to deliver."""


@frozen
class PublishEvents:
    """From the relay to the directory of connections: committed events, in commit order; some may come twice."""

    events: tuple[StoredEvent, ...]


@frozen
class LogsAdvanced:
    """From the relay to the directory: something may have been missed; let each connection look at its log."""


@frozen(kw_only=True)
class StorageHealth:
    """How storage is, as measured."""

    kind: str
    """`sqlite` or `postgresql`."""
    is_writable: bool
    """False from a write that failed for lack of disk or of the database, until one succeeds."""
    problem: str | None
    transactions: int
    waiting: int
    """Writes that wait for the writer."""


@frozen
class DescribeStorage(Request[StorageHealth]):
    """How the database is."""


@frozen
class ReadAgain:
    """To the readers, once the database is written again: end, and let your successor open it as one that changes."""


@frozen
class Storage:
    """Typed calls of the storage room; a room is given one."""

    writer: ActorRef[Transact | DescribeStorage]
    readers: ActorRef[Read | ReadAgain]
    tracer: Tracer = field(factory=Tracer, eq=False, repr=False)
    """Gets a span for each call of a request that is traced: from the ask to the answer, the wait for others' writes too."""

    async def transact(
        self,
        operation: Operation[Command, Reply],
        command: Command,
        *,
        client_id: str,
        key: IdempotencyKey | None = None,
        timeout: float = TRANSACT_SECONDS,  # noqa: ASYNC109  a deadline of the ask, as `ask` itself has it
    ) -> Committed[Reply]:
        """Carry out a write. Raises `CommandRefused`, `AskDeadline` (outcome unknown), `ActorDead`."""
        request = Transact(operation=operation.name, client_id=client_id, command=command, key=key)
        with self.tracer.span_below(f"storage {operation.name}", attributes={"leanvibe.storage.access": "write"}):
            return await self.writer.ask(request, timeout=timeout)

    async def read(
        self,
        query: Query[Command, Reply],
        command: Command,
        *,
        timeout: float = READ_SECONDS,  # noqa: ASYNC109
    ) -> Reply:
        """Run a query. Raises `CommandRefused`, `AskDeadline`, `ActorDead`."""
        with self.tracer.span_below(f"storage {query.name}", attributes={"leanvibe.storage.access": "read"}):
            reply: Reply = await self.readers.ask(Read(query=query.name, command=command), timeout=timeout)
        return reply
