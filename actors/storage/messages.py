"""Messages of storage. A service defines plain functions over a connection, and storage runs them.

A service's `store.py` defines `Operation`s (writes) and `Query`s (reads); `database_operations.py` passes them all to
storage, and the service calls them by these objects through a `Storage`. An operation runs in one write transaction
with everything that its `Outcome` names: events of the client's log, triggers of notifications, and the record that
makes the same command idempotent. `events` and `client_logs` are the log's tables, for operations of others that read them: storage
alone writes them, and knows the sequence number that an event got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import field, frozen
from sqlalchemy import Connection

from actors.storage.ownership import LEASE_MILLISECONDS, is_ours
from actors.storage.tables import client_logs, events
from actors.tracing.tracer import Tracer
from protocol.events import Priority
from runtime import ActorRef, Request

__all__ = [
    "LEASE_MILLISECONDS",
    "SHARE_EPOCHS_NAME",
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
    "is_ours",
]

Command = TypeVar("Command")
Reply = TypeVar("Reply")

SHARE_EPOCHS_NAME = "share_epochs"
"""Further write of a node that joins its cluster: epochs of logs that have not begun are the same at every node."""
TRANSACT_SECONDS = 5.0
READ_SECONDS = 5.0


@frozen(kw_only=True)
class LogEvent:
    """One event to append to a client's log in the transaction that causes it."""

    type: str
    """Wire type, such as `task_created`."""
    channel: str
    """Channel that subscriptions select by: `tasks`, `ai`, `notifications`, `system`."""
    priority: Priority = Priority.MEDIUM
    data: dict[str, Any]
    """JSON values, at most 32 KiB encoded; storage adds `event_id`, `channel` and `priority`."""


@frozen(kw_only=True)
class Trigger:
    """An occurrence that may deserve a notification; the notifications service decides in the same transaction."""

    kind: str
    """Such as `task_blocked`, `approval_needed`, `analysis_done`."""
    priority: Priority = Priority.MEDIUM
    data: dict[str, Any]
    """Typed fields that the kind's template needs, JSON values."""
    is_own_action: bool = False
    """True for the client's own action, whose notification is read from the beginning."""


@frozen(kw_only=True)
class FurtherWrite:
    """A write that one service requests of another in the same transaction. If it is refused, so is the whole."""

    operation: str
    """Name of the other service's operation, from its `messages.py`. It may not request further writes."""
    command: Any = field(repr=False)
    """Its command. Its reply is ignored."""


@frozen(kw_only=True)
class Outcome(Generic[Reply]):
    """Result of an operation: its reply and what must be committed with it."""

    value: Reply
    events: tuple[LogEvent, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    further: tuple[FurtherWrite, ...] = ()
    """Writes of other services, committed together with this one."""
    keeps_nothing: bool = False
    """True if this call left no row, so that it does not make the client count (`begins_client`)."""


TriggerHook = Callable[[Connection, str, tuple[Trigger, ...]], tuple[LogEvent, ...]]
"""(connection, client id, triggers) → further events to append. The notifications service registers the only one."""


@frozen
class Operation(Generic[Command, Reply]):
    """A named write. Its function raises `CommandError` to roll back and refuse."""

    name: str
    function: Callable[[Connection, Command], Outcome[Reply]]
    result: Any
    """Class of the reply (anything the protocol's codec structures), decoded when a command is repeated."""
    begins_client: bool = False
    """True if it stores durable rows without an event, which makes the client count towards the limit."""


@frozen
class Query(Generic[Command, Reply]):
    """A named read. It may run concurrently with others, on a connection that sees only committed data."""

    name: str
    function: Callable[[Connection, Command], Reply]


@frozen(kw_only=True)
class IdempotencyKey:
    """Identifies a command of a device, so that it runs once. Stored for ten minutes."""

    client_id: str
    device_id: str
    """The device; REST's `Idempotency-Key` uses `:rest`, which is not a valid device id."""
    command_id: str
    digest: str
    """SHA-256 of type and data, hexadecimal."""
    must_be_known: bool = field(default=False, eq=False)
    """Only look up the command's outcome; refused with `conflict` if it is unknown."""


@frozen(kw_only=True)
class StoredEvent:
    """An event as stored in the log."""

    client_id: str
    seq: int
    type: str
    channel: str
    priority: Priority
    time_ms: int
    """POSIX milliseconds."""
    data: bytes = field(repr=False)
    """Encoded JSON object, including `event_id`, `channel` and `priority`."""


@frozen(kw_only=True)
class Committed(Generic[Reply]):
    """Reply to a write that is on disk."""

    value: Reply
    is_repeat: bool = False
    """True if the command ran before and this is its first outcome."""
    head: int | None = None
    """Last sequence number of the client's log, if the write appended to it."""


@frozen(kw_only=True)
class Transact(Request[Committed[Any]]):
    """Run an operation in a write transaction. Refused with `CommandError`.

    If the deadline passes, it is unknown whether it ran; the key tells.
    """

    operation: str
    client_id: str
    """Client whose log receives the events."""
    command: Any = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class Read(Request[Any]):
    """Run a query on a reader's connection. Refused with `CommandError`."""

    query: str
    command: Any = field(repr=False)


@frozen(kw_only=True)
class LogPage:
    """A part of a client's log, and the state of the log."""

    epoch: str
    head: int
    oldest: int
    """First sequence number that is still stored; head + 1 if the log is empty."""
    events: tuple[StoredEvent, ...]


@frozen
class CommitPublished:
    """Tells the relay that events are committed."""

    events: tuple[StoredEvent, ...]
    has_triggers: bool
    has_gap: bool = False
    """True if earlier commits could not be reported."""


@frozen
class TriggersCommitted:
    """Tells the notification dispatcher that there may be something to deliver."""


@frozen
class PublishEvents:
    """Sent by the relay to the connection registry: committed events in commit order, possibly repeated."""

    events: tuple[StoredEvent, ...]


@frozen
class LogsAdvanced:
    """Sent by the relay to the connection registry: events may have been missed, so each connection must read its log."""

    client_id: str | None = None
    """Of this client alone; None of all."""


@frozen(kw_only=True)
class StorageHealth:
    """Measured state of storage."""

    kind: str
    """`sqlite` or `postgresql`."""
    is_writable: bool
    """False after a write failed because of the disk or the database, until one succeeds."""
    problem: str | None
    transactions: int
    waiting: int
    """Number of writes that wait for the writer."""


@frozen
class DescribeStorage(Request[StorageHealth]):
    """Ask for the state of the database."""


@frozen
class ReadAgain:
    """Tells the readers, once the database is writable again, to end so that their successors open it as changing."""


@frozen
class Storage:
    """Typed calls of storage, passed to each service."""

    writer: ActorRef[Transact | DescribeStorage]
    readers: ActorRef[Read | ReadAgain]
    tracer: Tracer = field(factory=Tracer, eq=False, repr=False)
    """Receives a span per call of a traced request, from the ask to the reply, including the wait for other writes."""

    async def transact(
        self,
        operation: Operation[Command, Reply],
        command: Command,
        *,
        client_id: str,
        key: IdempotencyKey | None = None,
        timeout: float = TRANSACT_SECONDS,  # noqa: ASYNC109  a deadline of the ask, as `ask` itself has it
    ) -> Committed[Reply]:
        """Run a write. Raises `CommandError`, `AskDeadline` (outcome unknown), `ActorDead`."""
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
        """Run a query. Raises `CommandError`, `AskDeadline`, `ActorDead`."""
        with self.tracer.span_below(f"storage {query.name}", attributes={"leanvibe.storage.access": "read"}):
            reply: Reply = await self.readers.ask(Read(query=query.name, command=command), timeout=timeout)
        return reply
