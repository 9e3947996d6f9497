"""The writer: the only actor that changes the database, in one thread, with many waiting writes per commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import structlog
import trio
from attrs import field, frozen
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from actors.errors import CommandError
from actors.storage.client_locks import lock_everything
from actors.storage.clocks import KeyClock, RetentionClock
from actors.storage.database import dispose_at_end, open_engine
from actors.storage.guard import DatabaseGuard, broken_by, was_written
from actors.storage.idempotency import prune_outcomes
from actors.storage.log import prune_log
from actors.storage.messages import CommitPublished, DescribeStorage, Operation, StorageHealth, Transact, TriggerHook
from actors.storage.read_only import problem_of_writing
from actors.storage.transaction import BatchResult, carry_out_batch
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, HandlerFailed, Refused, SendFault, reject
from runtime.asking import ReplyPort

__all__ = ["Prune", "RetryRelay", "Writer", "WriterSettings"]

_log = structlog.get_logger("storage")

WAITING_WRITES = 1024
BATCH_WRITES = 64
PRUNE_SECONDS = 60.0
PRUNE_ROUNDS = 20
RELAY_RETRY_SECONDS = 0.25
LOOK_SECONDS = 1.0
WHOLE_LOOK_SECONDS = 10.0
"""Interval between complete checks of a broken database, which may have been repaired."""
TRY_SECONDS = 2.0
"""Interval between attempts to write after a failure."""


@frozen
class Prune:
    """Timer: delete expired rows."""


@frozen
class TryToWrite:
    """Timer: try to write again after a failure."""


@frozen
class RetryRelay:
    """Timer: the relay may take messages again."""


@frozen(kw_only=True)
class WriterSettings:
    """Settings of the writer: the database and the operations on it."""

    url: URL
    operations: tuple[Operation[Any, Any], ...]
    hook: TriggerHook | None = None
    """Hook of the notifications service."""
    pruners: tuple[Callable[[Connection, int], int], ...] = (prune_log,)
    """Called with a connection and the `retention_clock` time, POSIX milliseconds; each deletes a bounded number of rows."""
    key_clock: KeyClock = field(factory=KeyClock)
    """Outlives the writer."""
    retention_clock: RetentionClock = field(factory=RetentionClock)
    """Outlives the writer."""
    holder: str | None = None
    """What this server is called to another one that wants the database; without, it holds none of PostgreSQL."""
    node: str | None = None
    """Name among the nodes of a cluster, which write to the same database; None of a server of its own."""


class Writer(Actor[Transact | DescribeStorage | Prune | TryToWrite | RetryRelay]):
    """Accepts writes and answers once they are on disk. An exception in an operation is its caller's answer."""

    mailbox = reject(WAITING_WRITES)

    def __init__(self, settings: WriterSettings, relay: ActorRef[CommitPublished]) -> None:
        self._settings = settings
        self._relay = relay
        self._operations = _by_name(settings.operations)
        self._waiting: deque[tuple[Transact, ReplyPort]] = deque()
        self._has_work = trio.Event()
        # One thread at a time: SQLite has one writer, and this room owns it.
        self._thread = trio.CapacityLimiter(1)
        self._prune_due = False
        self._try_due = False
        self._problem: str | None = None
        self._broken: str | None = None
        self._writing = 0
        self._has_written = trio.Event()
        self._transactions = 0
        self._relay_missed = False

    async def started(self) -> None:
        """Open the database, writing nothing before the first request."""
        self._guard = DatabaseGuard(self._settings.url)
        self._engine = open_engine(
            self._settings.url,
            writes=True,
            holder=self._settings.holder,
            node=self._settings.node,
            must_exist=True,
        )
        self._guard.follow(self._engine)
        self.context.spawn(dispose_at_end, self._engine, self._thread)
        self.context.spawn(self._work)
        self.context.spawn(self._watch, self._guard, self._engine)
        self.context.every(PRUNE_SECONDS, Prune())

    async def handle(
        self, message: Transact | DescribeStorage | Prune | TryToWrite | RetryRelay
    ) -> StorageHealth | None:
        match message:
            case Transact():
                if message.operation not in self._operations:
                    raise LookupError(f"no operation is called {message.operation!r}")
                if len(self._waiting) >= WAITING_WRITES:
                    raise CommandError(ErrorCode.OVERLOADED, "too many writes are waiting", retry_after_ms=1000)
                self._waiting.append((message, self.context.defer()))
                self._has_work.set()
            case RetryRelay():
                if self._relay_missed:
                    self._relay_missed = False
                    self._tell_commit(CommitPublished((), has_triggers=True, has_gap=True))
            case Prune():
                self._prune_due = True
                self._has_work.set()
            case TryToWrite():
                self._try_due = True
                self._has_work.set()
            case DescribeStorage():
                return StorageHealth(
                    kind=self._settings.url.get_backend_name(),
                    is_writable=self._broken is None and self._problem is None,
                    problem=self._broken or self._problem,
                    transactions=self._transactions,
                    waiting=len(self._waiting),
                )
        return None

    async def stopping(self) -> None:
        """Write and answer what was accepted, then close the database."""
        while self._waiting or self._writing:
            if self._waiting:
                await self._write_batch()
            else:
                self._has_written = trio.Event()
                await self._has_written.wait()

    def snapshot(self) -> dict[str, object]:
        """Counts and the last problem."""
        return {
            "waiting": len(self._waiting),
            "writing": self._writing,
            "transactions": self._transactions,
            "problem": self._broken or self._problem,
        }

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work = trio.Event()
            while self._waiting:
                await self._write_batch()
            if self._try_due:
                self._try_due = False
                await self._try()
            if self._prune_due:
                self._prune_due = False
                await self._prune()

    async def _write_batch(self) -> None:
        """Write what waits, at most `BATCH_WRITES`, and answer each. A write whose caller is gone is skipped."""
        batch: list[tuple[Transact, ReplyPort]] = []
        while self._waiting and len(batch) < BATCH_WRITES:
            request, port = self._waiting.popleft()
            if port.is_open:
                batch.append((request, port))
        if not batch:
            return
        if self._is_broken():
            # Not even tried: what goes into a broken database may be told as stored and never be found again.
            for _, port in batch:
                port.fail(_unavailable())
            return
        try:
            await self._commit(batch)
        except SQLAlchemyError as error:
            if len(batch) == 1:
                return
            if was_written(error):
                for _, port in batch:
                    port.fail(_perhaps_written())
                return
            # One of them may be to blame for what befell all; nothing of the batch was kept.
            for one in batch:
                if one[1].is_open and self._is_broken():
                    one[1].fail(_unavailable())
                elif one[1].is_open:
                    await self._commit_alone(one)

    def _is_broken(self) -> bool:
        return self._broken is not None

    async def _commit_alone(self, one: tuple[Transact, ReplyPort]) -> None:
        try:
            await self._commit([one])
        except SQLAlchemyError:
            return

    async def _commit(self, batch: list[tuple[Transact, ReplyPort]]) -> None:
        """Run one transaction. Raises the database's error, after answering a single write with it."""
        requests = [request for request, _ in batch]
        self._writing = len(batch)
        try:
            result: BatchResult = await trio.to_thread.run_sync(
                partial(
                    _carry_out_watched,
                    self._guard,
                    key_clock=self._settings.key_clock,
                    is_shared=self._settings.node is not None,
                ),
                self._engine,
                self._operations,
                self._settings.hook,
                requests,
                limiter=self._thread,
            )
        except SQLAlchemyError as error:
            self._note_problem(error)
            if len(batch) == 1:
                self._fail(batch[0][1], requests[0], error)
            raise
        finally:
            self._writing = 0
            self._has_written.set()
        self._problem = None
        self._transactions += 1
        # Published before the askers hear of it, so that nobody can act on what the log's readers do not know.
        self._tell_relay(result)
        for (request, port), write in zip(batch, result.writes, strict=True):
            if write.committed is not None:
                port.reply(write.committed)
            else:
                assert write.error is not None
                self._fail(port, request, write.error)

    def _tell_relay(self, result: BatchResult) -> None:
        if result.events or result.has_triggers:
            self._tell_commit(CommitPublished(tuple(result.events), result.has_triggers, self._relay_missed))

    def _tell_commit(self, told: CommitPublished) -> None:
        try:
            self._relay.tell_nowait(told)
            self._relay_missed = False
        except SendFault:
            # Told again even if no further commit comes; the events are in the logs.
            if not self._relay_missed:
                self.context.after(RELAY_RETRY_SECONDS, RetryRelay())
            self._relay_missed = True

    async def _try(self) -> None:
        """Write nothing new, so that readiness recovers without waiting for a client's write."""
        if self._problem is None:
            return
        problem = await trio.to_thread.run_sync(problem_of_writing, self._engine, limiter=self._thread)
        if problem is None:
            _log.info("writing again", after=self._problem)
        else:
            self.context.after(TRY_SECONDS, TryToWrite())
        self._problem = problem

    def _note_problem(self, error: SQLAlchemyError) -> None:
        if self._problem is None:
            self.context.after(TRY_SECONDS, TryToWrite())
        self._problem = str(error.__cause__ or error).splitlines()[0]
        is_cut = isinstance(error, DBAPIError) and error.connection_invalidated
        self._broken = broken_by(error) or (self._problem if is_cut else self._broken)
        _log.error("write failed", problem=self._broken or self._problem)

    async def _watch(self, guard: DatabaseGuard, engine: Engine) -> None:
        """Check the database at intervals, so that damage and repair are noticed before the next write."""
        is_file = engine.dialect.name == "sqlite"
        # A session of PostgreSQL is lent to one at a time; a file has room for others.
        threads = trio.CapacityLimiter(1) if is_file else self._thread
        while True:
            wholly = is_file and self._broken is not None
            await trio.sleep(WHOLE_LOOK_SECONDS if wholly else LOOK_SECONDS)
            look = partial(guard.look, engine, wholly=wholly)
            self._looked(await trio.to_thread.run_sync(look, limiter=threads), was_whole=wholly or not is_file)

    def _looked(self, problem: str | None, *, was_whole: bool) -> None:
        if problem is not None:
            if problem != self._broken:
                _log.error("database not usable", problem=problem)
            self._broken = problem
        elif self._broken is not None and was_whole:
            # What a write met was this, and no other needs to come for readiness to be true again.
            self._broken = self._problem = None
            _log.info("database usable again")

    def _fail(self, port: ReplyPort, request: Transact, error: Exception) -> None:
        if isinstance(error, Refused):
            port.fail(error)
        elif was_written(error):
            port.fail(_perhaps_written())
        elif isinstance(error, OperationalError | InterfaceError) or (
            isinstance(error, DBAPIError) and broken_by(error) is not None
        ):
            port.fail(_unavailable())
        else:
            _log.error("operation failed", operation=request.operation, exc_info=error)
            port.fail(HandlerFailed(self.context.path, Transact, error))

    async def _prune(self) -> None:
        """Delete in small transactions, so that writes can run in between."""
        if self._broken is not None:
            return
        for pruner in (self._prune_outcomes, *self._settings.pruners):
            for _ in range(PRUNE_ROUNDS):
                try:
                    gone = await trio.to_thread.run_sync(
                        partial(_prune_once, is_shared=self._settings.node is not None),
                        self._engine,
                        pruner,
                        self._settings.retention_clock,
                        limiter=self._thread,
                    )
                except SQLAlchemyError as error:
                    self._note_problem(error)
                    return
                if not gone:
                    break
                while self._waiting:
                    await self._write_batch()

    def _prune_outcomes(self, connection: Connection, _: int) -> int:
        return prune_outcomes(connection, self._settings.key_clock.now_ms(connection))


def _unavailable() -> CommandError:
    return CommandError(ErrorCode.UNAVAILABLE, "the database cannot be written to now", retry_after_ms=2000)


def _perhaps_written() -> CommandError:
    """Error for a write committed to a file that was moved meanwhile; repeating it under its key is safe."""
    message = "the database was moved or replaced meanwhile, so it is not known whether the change was stored"
    return CommandError(ErrorCode.DEADLINE_EXCEEDED, message, retry_after_ms=2000)


def _carry_out_watched(guard: DatabaseGuard, *batch: Any, key_clock: KeyClock, is_shared: bool) -> BatchResult:
    with guard.watched():
        return carry_out_batch(*batch, key_clock=key_clock, is_shared=is_shared)


def _prune_once(
    engine: Engine, pruner: Callable[[Connection, int], int], clock: RetentionClock, *, is_shared: bool
) -> int:
    with engine.connect() as connection, connection.begin():
        if is_shared:
            lock_everything(connection)
        return pruner(connection, clock.now_ms(connection))


def _by_name(operations: Iterable[Operation[Any, Any]]) -> dict[str, Operation[Any, Any]]:
    named: dict[str, Operation[Any, Any]] = {}
    for one in operations:
        if one.name in named:
            raise ValueError(f"two operations are called {one.name!r}")
        named[one.name] = one
    return named
