"""The tasks actor. It passes commands to storage, has the model analyse tasks, and watches due dates and leases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
import trio
from attrs import frozen

from actors.clock import ClockWatch
from actors.errors import CommandError, error_from_fault
from actors.inference.messages import Complete, Completion
from actors.storage.messages import Storage
from actors.tasks.analysis import AnalysisFound, PendingAnalysesQuery, PendingAnalysis, question, wants_analysis
from actors.tasks.claims import EndedLeases, EndedLeasesQuery
from actors.tasks.context import CommandContext
from actors.tasks.due import TOLD_AT_ONCE, DueTasksQuery
from actors.tasks.messages import ChangeInBulk, ClaimTask, CleanUpTasks, CreateTask, GetTask, ImportTasks, TaskRequest
from actors.tasks.store import (
    ANNOUNCE_DUE,
    CLIENTS_WITH_DUE,
    ENDED_LEASES,
    MOVE_LEASES,
    PENDING_ANALYSES,
    READS,
    RECORD_ANALYSIS,
    RETURN_TASKS,
    WRITES,
)
from protocol.errors import ErrorCode
from protocol.task_model import AnalysisStatus, Task
from protocol.tasks import TaskGet
from runtime import Actor, ActorDead, ActorRef, AskDeadline, MailboxFull, RuntimeFault, Timer, reject

__all__ = ["CheckDueTasks", "CheckLeases", "Tasks"]

_log = structlog.get_logger("tasks")

REQUESTS_AT_ONCE = 1024
WRITE_SECONDS = 5.0
MANY_WRITES_SECONDS = 30.0
DUE_SECONDS = 60.0
ANALYSES_AT_ONCE = 4
ANALYSIS_SECONDS = 300.0
"""Deadline of an analysis, counted from its first attempt; then it has failed."""
RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0
RETRIED = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED, ErrorCode.RATE_LIMITED, ErrorCode.MODEL_UNAVAILABLE})
"""Temporary errors of the inference service."""


@frozen
class CheckDueTasks:
    """Timer message: check for tasks that are due soon."""


@frozen
class CheckLeases:
    """Timer message: return tasks whose leases have expired."""


class Tasks(Actor[TaskRequest[Any] | CheckDueTasks | CheckLeases]):
    """Holds no important state: pending analyses are in the database, and are found again at start."""

    mailbox = reject(REQUESTS_AT_ONCE)

    def __init__(
        self,
        storage: Storage,
        inference: ActorRef[Complete],
        *,
        clock_seconds: Callable[[], float] = time.time,
        steady_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock_seconds`` returns POSIX time, ``steady_seconds`` a time that is never adjusted."""
        self._storage = storage
        self._inference = inference
        self._clock_seconds = clock_seconds
        self._clock = ClockWatch(clock_seconds, steady_seconds)
        self._may_have_told_ahead = True
        self._leases_ahead_ms = 0
        self._moving_leases = trio.Lock()
        self._requests = 0
        self._is_looking_for_due = False
        self._is_looking_for_leases = False
        self._wakes_at_ms: int | None = None
        self._lease_timer: Timer | None = None
        self._is_draining = False
        self._has_pending = trio.Event()
        self._analysing: set[str] = set()
        self._slots = trio.Semaphore(ANALYSES_AT_ONCE)
        self._analysed: dict[str, trio.Event] = {}

    async def started(self) -> None:
        """Resume the analyses of an earlier incarnation, and check due dates and leases that passed in the meantime."""
        self.context.spawn(self._work_on_analyses)
        self.context.after(0, CheckDueTasks())
        self.context.every(DUE_SECONDS, CheckDueTasks())

    async def handle(self, message: TaskRequest[Any] | CheckDueTasks | CheckLeases) -> None:
        match message:
            case TaskRequest():
                if self._requests >= REQUESTS_AT_ONCE:
                    raise CommandError(ErrorCode.OVERLOADED, "too many requests are waiting", retry_after_ms=500)
                self._requests += 1
                self.context.answer_later(self._answer, message)
            case CheckDueTasks():
                # A write that timed out may have created a task that needs an analysis.
                self._has_pending.set()
                if not self._is_looking_for_due:
                    self._is_looking_for_due = True
                    self.context.spawn(self._check_due_tasks)
                # The clock may have been adjusted, and storage may have been unavailable at the last check.
                self._check_leases()
            case CheckLeases():
                self._wakes_at_ms = None
                self._check_leases()

    async def draining(self) -> None:
        """Start no more analyses; pending ones are resumed at the next start."""
        self._is_draining = True

    def snapshot(self) -> dict[str, object]:
        """Numbers of running requests and analyses."""
        return {"requests": self._requests, "analysing": len(self._analysing)}

    # --- requests ---------------------------------------------------------------------------------

    async def _answer(self, request: TaskRequest[Any]) -> Any:
        try:
            return await self._carry_out(request)
        except RuntimeFault as fault:
            refusal = error_from_fault(fault, writes=type(request) not in READS)
            if refusal is None:
                raise
            raise refusal from fault
        finally:
            self._requests -= 1

    async def _carry_out(self, request: TaskRequest[Any]) -> Any:
        context = self._context_of(request)
        query = READS.get(type(request))
        if query is not None:
            return await self._storage.read(query, context)
        if isinstance(request, ClaimTask):
            # The new lease is measured by the current clock.
            await self._move_leases()
            context = self._context_of(request)
        has_many = isinstance(request, ChangeInBulk | ImportTasks | CleanUpTasks)
        committed = await self._storage.transact(
            WRITES[type(request)],
            context,
            client_id=request.client_id,
            key=request.key,
            timeout=MANY_WRITES_SECONDS if has_many else WRITE_SECONDS,
        )
        if wants_analysis(request.data):
            self._has_pending.set()
        if isinstance(request, ClaimTask):
            self._wake_at(self._now_ms() + 1000 * request.data.lease_seconds)
        if isinstance(request, CreateTask) and request.data.analyze_with_ai:
            return await self._with_analysis(request, committed.value)
        return committed.value

    def _context_of(self, request: TaskRequest[Any]) -> CommandContext[Any]:
        return CommandContext(
            client_id=request.client_id,
            device_id=request.device_id,
            data=request.data,
            now_ms=self._now_ms(),
        )

    def _now_ms(self) -> int:
        return int(self._clock_seconds() * 1000)

    async def _with_analysis(self, request: CreateTask, task: Task) -> Task:
        """Return the task once its analysis is done, or when the client has waited long enough."""
        analysed = self._analysed.setdefault(task.id, trio.Event())
        newest = await self._newest(request, task)
        if newest.ai_analysis_status is not AnalysisStatus.PENDING:
            self._analysed.pop(task.id, None)
            return newest
        with trio.move_on_after(request.data.ai_timeout_seconds):
            await analysed.wait()
        return await self._newest(request, task)

    async def _newest(self, request: CreateTask, task: Task) -> Task:
        wanted = GetTask(client_id=request.client_id, device_id=request.device_id, data=TaskGet(task_id=task.id))
        try:
            newest: Task = await self._storage.read(READS[GetTask], self._context_of(wanted))
        except (CommandError, AskDeadline, ActorDead):
            # The task was created, even if it cannot be read again.
            return task
        return newest

    # --- analyses ---------------------------------------------------------------------------------

    async def _work_on_analyses(self) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending = trio.Event()
            while not self._is_draining and (pending := await self._find_pending()):
                for one in pending:
                    await self._slots.acquire()
                    self._analysing.add(one.task_id)
                    self.context.spawn(self._analyse, one)

    async def _find_pending(self) -> list[PendingAnalysis]:
        while True:
            try:
                return await self._storage.read(PENDING_ANALYSES, PendingAnalysesQuery(but=frozenset(self._analysing)))
            except (CommandError, RuntimeFault) as error:
                _log.warning("analyses cannot be found", problem=str(error))
                await trio.sleep(LONGEST_RETRY_SECONDS)

    async def _analyse(self, pending: PendingAnalysis) -> None:
        """Ask the model and store its answer. If that fails, the analysis stays pending in the database."""
        try:
            found = await self._ask_model(pending)
            if found is not None:
                await self._record(pending, found)
        finally:
            self._analysing.discard(pending.task_id)
            self._slots.release()
            analysed = self._analysed.pop(pending.task_id, None)
            if analysed is not None:
                analysed.set()

    async def _ask_model(self, pending: PendingAnalysis) -> AnalysisFound | None:
        """Return the result; None if the server is about to stop."""
        failed = AnalysisFound(task_id=pending.task_id, text=None, confidence=None)
        pause_seconds = RETRY_SECONDS
        deadline = trio.current_time() + ANALYSIS_SECONDS
        while (left_seconds := deadline - trio.current_time()) > 0 and not self._is_draining:
            try:
                completion: Completion = await self._inference.ask(
                    Complete(client_id=pending.client_id, generate=question(pending)), timeout=left_seconds
                )
            except (ActorDead, MailboxFull) as error:
                problem = str(error)
            except CommandError as refusal:
                if refusal.code is ErrorCode.SHUTTING_DOWN:
                    # It was notified of the shutdown before this service.
                    self._is_draining = True
                problem = refusal.message
                if refusal.code not in RETRIED:
                    break
            except RuntimeFault as error:
                problem = str(error)
                break
            else:
                text = completion.text.strip()
                if not text:
                    return failed
                return AnalysisFound(task_id=pending.task_id, text=text, confidence=completion.done.confidence)
            await trio.sleep(min(pause_seconds, max(0.0, deadline - trio.current_time())))
            pause_seconds = min(2 * pause_seconds, LONGEST_RETRY_SECONDS)
        if self._is_draining:
            return None
        _log.warning("analysis failed", task=pending.task_id, problem=problem)
        return failed

    async def _record(self, pending: PendingAnalysis, found: AnalysisFound) -> None:
        context = CommandContext(client_id=pending.client_id, device_id="", data=found, now_ms=self._now_ms())
        while True:
            try:
                await self._storage.transact(RECORD_ANALYSIS, context, client_id=pending.client_id)
            except (CommandError, RuntimeFault) as error:
                # The database is full or restarting; the result is worth waiting for.
                _log.warning("analysis cannot be stored yet", task=pending.task_id, problem=str(error))
                await trio.sleep(LONGEST_RETRY_SECONDS)
            else:
                return

    # --- due dates --------------------------------------------------------------------------------

    async def _check_due_tasks(self) -> None:
        try:
            now_ms = self._now_ms()
            # At the start too: the clock may have been corrected while no server ran.
            self._watch_clock()
            wanted = DueTasksQuery(now_ms=now_ms, with_told_ahead=self._may_have_told_ahead)
            clients = await self._storage.read(CLIENTS_WITH_DUE, wanted)
            for client_id in clients:
                context = CommandContext(client_id=client_id, device_id="", data=None, now_ms=now_ms)
                await self._storage.transact(ANNOUNCE_DUE, context, client_id=client_id)
            # If a page was full, there may be more.
            self._may_have_told_ahead &= len(clients) >= TOLD_AT_ONCE
        except (CommandError, RuntimeFault) as error:
            _log.warning("due dates cannot be checked", problem=str(error))
        finally:
            self._is_looking_for_due = False

    def _watch_clock(self) -> None:
        set_back_ms = self._clock.set_back_ms()
        self._may_have_told_ahead |= set_back_ms > 0
        self._leases_ahead_ms += set_back_ms

    # --- leases -----------------------------------------------------------------------------------

    async def _move_leases(self) -> None:
        """Correct leases after the clock was set back, so that they last as long as promised. Raises like storage."""
        self._watch_clock()
        async with self._moving_leases:
            ahead_ms = self._leases_ahead_ms
            if not ahead_ms:
                return
            context = CommandContext(client_id="", device_id="", data=ahead_ms, now_ms=self._now_ms())
            count = (await self._storage.transact(MOVE_LEASES, context, client_id="")).value
            self._leases_ahead_ms -= ahead_ms
            _log.info("the clock was set back, and leases with it", seconds=ahead_ms / 1000, leases=count)

    def _check_leases(self) -> None:
        if not self._is_looking_for_leases:
            self._is_looking_for_leases = True
            self.context.spawn(self._return_tasks)

    def _wake_at(self, time_ms: int) -> None:
        """Schedule a check at that time, unless an earlier one is scheduled."""
        if self._wakes_at_ms is not None:
            if self._wakes_at_ms <= time_ms:
                return
            assert self._lease_timer is not None
            self._lease_timer.cancel()
        self._wakes_at_ms = time_ms
        self._lease_timer = self.context.after(max(0.0, (time_ms - self._now_ms()) / 1000), CheckLeases())

    async def _return_tasks(self) -> None:
        try:
            await self._move_leases()
            now_ms = self._now_ms()
            found: EndedLeases = await self._storage.read(ENDED_LEASES, EndedLeasesQuery(now_ms))
            for client_id in found.clients:
                context = CommandContext(client_id=client_id, device_id="", data=None, now_ms=now_ms)
                count = (await self._storage.transact(RETURN_TASKS, context, client_id=client_id)).value
                _log.info("leases expired", client_id=client_id, tasks=count)
            if found.next_ms is not None:
                self._wake_at(found.next_ms)
        except (CommandError, RuntimeFault) as error:
            _log.warning("tasks with expired leases cannot be returned yet", problem=str(error))
        finally:
            self._is_looking_for_leases = False
