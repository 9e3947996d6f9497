"""Supervisors: start children in order, restart them by strategy, stop them in reverse order, and escalate repeated failures.

One class serves fixed trees and dynamic children. A supervisor is itself an incarnation of a child, so a
supervisor that gives up counts as one failure at its parent. Each child is one task in this supervisor's nursery
with its own cancel scope, because a bare nursery cancels everything at once and in no order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from runtime.child_record import ChildRecord, Exit, State
from runtime.errors import (
    ActorDead,
    CapacityExceeded,
    ChildStuck,
    RestartIntensityExceeded,
    StartDeadlineExceeded,
)
from runtime.events import ChildEnded, ChildRestarting, ChildStarted, StuckReport
from runtime.incarnation import ActorIncarnation, Incarnation
from runtime.messages import DownReason
from runtime.restart_policy import RestartWindow
from runtime.restart_rules import RestartRequest, counts_as_failure, ends_its_supervisor, first_of_group, wants_restart
from runtime.specs import ChildSpec, DynamicSpec, Restart, Strategy, SupervisorSpec

if TYPE_CHECKING:
    from runtime.system import ActorSystem

__all__ = ["Supervisor"]

_log = logging.getLogger("runtime")

CAUSES_KEPT = 32
"""Number of the newest child failures that an escalation carries."""


class Supervisor(Incarnation):
    """One incarnation of one supervisor."""

    __slots__ = (
        "_causes",
        "_ended",
        "_group_from",
        "_group_restart_at",
        "_is_closing",
        "_nursery",
        "_operation",
        "_requested",
        "_restarting",
        "_restarts_due",
        "_wake",
        "children",
        "spec",
        "system",
        "window",
    )

    def __init__(self, record: ChildRecord, spec: SupervisorSpec | DynamicSpec, system: ActorSystem) -> None:
        super().__init__(record)
        self.spec = spec
        self.system = system
        self.children: dict[str, ChildRecord] = {}
        """By id, in start order."""
        self.window = RestartWindow(spec.intensity, spec.period_seconds)
        self._nursery: trio.Nursery | None = None
        self._ended: deque[ChildRecord] = deque()  # bounded: a child ends once before it is restarted
        self._causes: deque[Exception] = deque(maxlen=CAUSES_KEPT)
        self._wake = trio.Event()
        self._operation: trio.CancelScope | None = None
        self._restarts_due: dict[ChildRecord, float] = {}
        self._group_from: ChildRecord | None = None
        self._group_restart_at: float | None = None
        self._requested: deque[RestartRequest] = deque()  # bounded: each one has a waiting caller
        self._restarting: ChildRecord | None = None
        self._is_closing = False
        if isinstance(spec, SupervisorSpec):
            for child in spec.children:
                self._add_record(child)

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts the children, supervises them, and stops them. Raises the error that makes it give up.

        Cancellation cancels all children at once: the orderly way is `request_stop`.
        """
        failure: Exception | None = None
        async with trio.open_nursery() as self._nursery:
            try:
                await self._interruptible(self._start_children(list(self.children.values())))
                if self.stop_requested_at is None:
                    self.acknowledge()
                await self._supervise()
            except Exception as error:  # noqa: BLE001  raised below, where the nursery cannot wrap it in a group
                failure = error
            self._is_closing = True
            await self._stop_children("shutdown" if failure is None else "its supervisor gave up")
            for request in self._requested:
                request.error = self._not_running()
                request.done.set()
        if failure is not None:
            raise failure

    def request_stop(self, reason: str) -> None:
        if self.stop_requested_at is None:
            self.stop_requested_at = trio.current_time()
            if self._operation is not None:
                self._operation.cancel(reason=reason)
            self._wake.set()

    def crash(self, error: Exception) -> None:
        # Cancelling its scope would cancel all children at once; this way they first stop in order.
        if self.failure is None:
            self.failure = error
        self.request_stop(f"crashed: {type(error).__name__}")

    def host(self, function: Callable[..., Awaitable[object]], *args: Any, name: str) -> None:
        """Runs a task in this supervisor's nursery, for an actor's child tasks."""
        assert self._nursery is not None
        self._nursery.start_soon(function, *args, name=name)

    async def _supervise(self) -> None:
        """Reacts to children that end and to back-offs that elapse, until asked to stop."""
        while self.stop_requested_at is None:
            if self._requested:
                await self._restart_as_asked(self._requested.popleft())
                continue
            if self._ended:
                record = self._ended.popleft()
                if await self._child_ended(record):
                    return
                continue
            now = trio.current_time()
            if self._group_restart_at is not None and self._group_restart_at <= now:
                await self._restart_group()
                continue
            due = next((one for one, at in self._restarts_due.items() if at <= now), None)
            if due is not None:
                await self._interruptible(self._start_again([due]))
                continue
            self._wake = trio.Event()
            deadline = min(self._restarts_due.values(), default=float("inf"))
            if self._group_restart_at is not None:
                deadline = min(deadline, self._group_restart_at)
            with trio.CancelScope(deadline=deadline):
                await self._wake.wait()

    async def _child_ended(self, record: ChildRecord) -> bool:
        """Decides the consequences of a child's end; True if `auto_shutdown` ends this supervisor."""
        if record.state is not State.ENDED:
            return False  # stopped with its group meanwhile, or restarted by an operator
        if not wants_restart(record):
            self._retire(record)
            return ends_its_supervisor(self.spec, record, self.children.values())
        await self._plan_restart(record)
        return False

    async def _plan_restart(self, record: ChildRecord) -> None:
        """Counts the failure, then gives up or schedules the restart; the others of a group are stopped now."""
        ended = record.last_exit
        assert ended is not None
        now = trio.current_time()
        if ended.error is not None:
            self._causes.append(ended.error)
        backoff = record.spec.backoff
        # A start that took long does not count as stable running.
        stable_seconds = ended.uptime_seconds if ended.was_ready else 0.0
        record.failures_in_a_row = backoff.failures_after(record.failures_in_a_row, stable_seconds)
        delay = backoff.delay_seconds(record.failures_in_a_row)
        within = not counts_as_failure(record) or self.window.add(now)
        self.system.emit(
            ChildRestarting(
                path=record.path,
                incarnation=record.incarnation,
                reason=ended.reason,
                error=ended.error,
                uptime_seconds=ended.uptime_seconds,
                attempt=self.window.count(now),
                delay_seconds=delay if within else None,
            )
        )
        if not within:
            assert self.spec.intensity is not None
            causes = list(self._causes) or [ActorDead(record.path, record.incarnation, ended.reason.value)]
            raise RestartIntensityExceeded(
                self.record.path,
                self.spec.intensity,
                self.spec.period_seconds,
                ExceptionGroup(f"children of {self.record.path} that ended", causes),
            )
        record.state = State.BACKING_OFF
        if self._strategy is Strategy.ONE_FOR_ONE:
            self._restarts_due[record] = now + delay
            return
        siblings = list(self.children.values())
        first = first_of_group(self._strategy, siblings, record, self._group_from)
        # No child starts before its own back-off has elapsed, so the group waits for the longest.
        self._group_from, self._group_restart_at = first, max(now + delay, self._group_restart_at or 0.0)
        for sibling in reversed(siblings[siblings.index(first) :]):
            if sibling.life is not None:
                await self._stop_child(sibling, f"{record.path} ended")
                restarts = sibling.spec.restart is not Restart.TEMPORARY
            else:
                restarts = sibling.state is State.ENDED and wants_restart(sibling)
            if sibling.life is None and restarts:
                sibling.state = State.BACKING_OFF

    async def _restart_group(self) -> None:
        assert self._group_from is not None
        siblings = list(self.children.values())
        group = [one for one in siblings[siblings.index(self._group_from) :] if one.state is State.BACKING_OFF]
        self._group_restart_at = self._group_from = None
        await self._interruptible(self._start_again(group))

    async def _start_again(self, group: list[ChildRecord]) -> None:
        """Starts children in order; a failed start is one more failure of that child."""
        for record in group:
            self._restarts_due.pop(record, None)
            record.restarts += 1
            try:
                await self._start_child(record)
            except Exception as error:  # noqa: BLE001  isolation boundary: a failed start is the child's failure
                _log.warning("%s failed to start again: %r", record.path, error)
                if record.state is State.ENDED:  # and not stopped meanwhile, or stuck
                    await self._plan_restart(record)
                    return

    # --- starting ---------------------------------------------------------------------------------

    async def _start_children(self, records: list[ChildRecord]) -> None:
        """Starts children in order; a failure surfaces as the exception of the child."""
        for record in records:
            try:
                await self._start_child(record)
            except Exception as error:
                if not record.spec.is_helper or record.state is not State.ENDED:
                    error.add_note(f"while starting {record.path}")
                    raise
                await self._plan_restart(record)

    async def _start_child(self, record: ChildRecord) -> None:
        """Starts one child and waits until it is ready. Raises the child's exception, or `StartDeadlineExceeded`."""
        assert self._nursery is not None
        life = self._new_life(record)
        self._nursery.start_soon(self._run_child, record, life, name=record.path)
        is_actor = isinstance(life, ActorIncarnation)
        seconds = record.spec.start_seconds if is_actor else float("inf")
        try:
            with trio.move_on_after(seconds):
                await life.wait_ready()
        except trio.Cancelled:
            self._ask_to_stop(life, "its starter was cancelled")
            raise
        if life.is_ready:
            self.system.emit(ChildStarted(record.path, record.incarnation, record.ready_seconds or 0.0))
            return
        if life.exit is None:
            life.crash(StartDeadlineExceeded(record.path, seconds))
            with trio.move_on_after(record.spec.cancel_seconds):
                await life.wait_finished()
            if life.exit is None:
                self._report_stuck(record, life)
                raise ChildStuck(record.path, life.stack())
        assert life.exit is not None
        if life.exit.error is not None:
            raise life.exit.error
        # It ended during its start without an error, which its starter must learn.
        raise ActorDead(record.path, record.incarnation, f"{life.exit.reason.value} during its start")

    def _new_life(self, record: ChildRecord) -> Incarnation:
        start = record.spec.start
        record.incarnation += 1
        record.state = State.STARTING
        record.problem = None
        life: Incarnation
        if isinstance(start, (SupervisorSpec, DynamicSpec)):
            life = Supervisor(record, start, self.system)
        else:
            try:
                actor = start()
                life = ActorIncarnation(record, actor, self.system)
            except Exception as error:
                record.last_exit = Exit(DownReason.CRASHED, error, 0.0, was_ready=False)
                record.state = State.ENDED
                if isinstance(self.spec, DynamicSpec) and record.incarnation == 1:
                    self._retire(record)
                raise
            actor.context.bind(life)
        record.life = life
        return life

    async def _run_child(self, record: ChildRecord, life: Incarnation) -> None:
        """The child's task: the only place where its exceptions are caught."""
        error: Exception | None = None
        try:
            with life.scope:
                await life.run()
        except Exception as raised:  # noqa: BLE001  isolation boundary: a child's crash is handled by its supervisor
            error = raised
        finally:
            life.close(error)
            with trio.CancelScope(shield=True):
                await life.clean_up()
            record.last_exit = life.finish(error)
            record.life = None
            self.system.emit(
                ChildEnded(record.path, record.incarnation, record.last_exit.reason, record.last_exit.error)
            )
            was_stuck = record.state is State.STUCK
            unasked = life.stop_requested_at is None or life.failure is not None or was_stuck
            record.state = State.ENDED if unasked else State.STOPPED
            if self._leaves_the_tree(record, life):
                self._retire(record)
            elif unasked and (life.is_ready or was_stuck):
                self._ended.append(record)
                self._wake.set()

    # --- stopping ---------------------------------------------------------------------------------

    async def _stop_children(self, reason: str) -> None:
        """Stops all children: in reverse start order, or all at once if they are dynamic."""
        with trio.CancelScope(shield=True):
            records = [one for one in reversed(self.children.values()) if one.life is not None]
            if isinstance(self.spec, DynamicSpec):
                for record in records:
                    assert record.life is not None
                    self._ask_to_stop(record.life, reason)
                await self._stop_together(records)
            else:
                for record in records:
                    await self._stop_child(record, reason)
            self._restarts_due.clear()
            for record in list(self.children.values()):
                if record.life is None:
                    self._retire(record)
            if any(record.life is not None for record in self.children.values()):
                # Its parent continues the shutdown: the earlier siblings must not wait for a child that never ends.
                self.is_stuck = True
                if self._finished is not None:
                    self._finished.set()

    def _ask_to_stop(self, life: Incarnation, reason: str) -> None:
        life.request_stop(reason)
        if not life.is_ready and isinstance(life, ActorIncarnation):
            # It does not read its mailbox yet, so a stop message would only wait for the deadline.
            life.scope.cancel(reason=f"stopped during its start: {reason}")

    async def _stop_together(self, records: list[ChildRecord]) -> None:
        drain = max((one.spec.drain_seconds for one in records), default=0.0)
        with trio.move_on_after(drain):
            for record in records:
                if record.life is not None:
                    await record.life.wait_finished()
        left = [one for one in records if one.life is not None]
        for record in left:
            assert record.life is not None
            record.life.scope.cancel(reason=f"shutdown: not drained within {drain:g} s")
        with trio.move_on_after(max((one.spec.cancel_seconds for one in left), default=0.0)):
            for record in left:
                if record.life is not None:
                    await record.life.wait_finished()
        for record in left:
            if record.life is not None:
                self._report_stuck(record, record.life)

    async def _stop_child(self, record: ChildRecord, reason: str) -> None:
        """Escalates until the child has ended: stop message, drain deadline, cancellation, hard deadline, report."""
        life = record.life
        if life is None or record.state is State.STUCK:
            return
        record.state = State.STOPPING
        self._ask_to_stop(life, reason)
        if isinstance(life, Supervisor):
            # Its children have their own deadlines; the system's total deadline bounds the whole.
            await life.wait_finished()
            if life.exit is None:
                record.state = State.STUCK
            return
        with trio.move_on_after(record.spec.drain_seconds):
            await life.wait_finished()
        if life.exit is None:
            life.scope.cancel(reason=f"shutdown: not drained within {record.spec.drain_seconds:g} s")
            with trio.move_on_after(record.spec.cancel_seconds):
                await life.wait_finished()
        if life.exit is None:
            self._report_stuck(record, life)

    def _report_stuck(self, record: ChildRecord, life: Incarnation) -> None:
        record.state = State.STUCK
        self.system.report_stuck(StuckReport(record.path, record.incarnation, life.stack()))

    # --- dynamic children and operators -----------------------------------------------------------

    async def start_dynamic(self, spec: ChildSpec) -> ChildRecord:
        """Starts one more child and waits until it is ready.

        Raises `CapacityExceeded`, `ActorDead` if this supervisor is stopping, or the exception of the start
        (nothing of it then remains). Cancellation ends the child that was starting.
        """
        if self.stop_requested_at is not None or self._is_closing or self._nursery is None:
            raise self._not_running()
        assert isinstance(self.spec, DynamicSpec)
        if len(self.children) >= self.spec.max_children:
            raise CapacityExceeded(self.record.path, self.spec.max_children)
        if spec.id in self.children:
            raise ValueError(f"{self.record.path} already has a child called {spec.id!r}")
        record = self._add_record(spec)
        await self._start_child(record)
        return record

    async def stop_one(self, record: ChildRecord) -> None:
        """Stops a child for good, for `DynamicRef.stop_child`."""
        await self._stop_child(record, "asked to")
        if record.life is None:
            self._retire(record)

    async def restart_on_request(self, record: ChildRecord) -> None:
        """Restarts a child for an operator: an orderly stop and a start, not counted as a failure.

        Raises the exception of the start; the child is then retried as after a crash. After cancellation the restart
        continues: the supervisor performs it between other work, so that a child never runs twice.
        """
        if self._is_closing:
            raise self._not_running()
        request = RestartRequest(record)
        self._requested.append(request)
        self._wake.set()
        await request.done.wait()
        if request.error is not None:
            raise request.error

    async def _restart_as_asked(self, request: RestartRequest) -> None:
        record = self._restarting = request.record
        try:
            await self._stop_child(record, "restart requested")
            if record.life is not None:
                raise ChildStuck(record.path, record.life.stack())
            if self.children.get(record.spec.id) is not record:
                raise ActorDead(record.path, record.incarnation, "it has left the tree")
            self._restarts_due.pop(record, None)
            record.restarts += 1
            await self._interruptible(self._start_child(record))
            if self.stop_requested_at is not None:
                raise self._not_running()
        except Exception as error:  # noqa: BLE001  isolation boundary: raised in the caller
            request.error = error
            if record.state is State.ENDED:
                self._ended.append(record)
        finally:
            self._restarting = None
            if record.state is State.STOPPED and record.life is None:
                self._retire(record)  # it was stopped meanwhile
            request.done.set()

    # --- bookkeeping ------------------------------------------------------------------------------

    @property
    def _strategy(self) -> Strategy:
        return self.spec.strategy if isinstance(self.spec, SupervisorSpec) else Strategy.ONE_FOR_ONE

    async def _interruptible(self, work: Awaitable[None]) -> None:
        """Runs it unless a stop is requested meanwhile."""
        with trio.CancelScope() as self._operation:
            if self.stop_requested_at is not None:
                self._operation.cancel(reason="stop requested")
            await work
        self._operation = None

    def _add_record(self, spec: ChildSpec) -> ChildRecord:
        path = f"{self.record.path}/{spec.id}".lstrip("/")
        record = self.children.get(spec.id) or self.system.register(path, spec, self)
        self.children[spec.id] = record
        return record

    def _not_running(self) -> ActorDead:
        return ActorDead(self.record.path or "root", self.record.incarnation, "it is starting, stopping or over")

    def _leaves_the_tree(self, record: ChildRecord, life: Incarnation) -> bool:
        """True if a child that has just ended is dynamic and gone for good."""
        if not isinstance(self.spec, DynamicSpec) or record is self._restarting:
            return False
        never_ready = not life.is_ready and record.incarnation == 1
        return record.spec.restart is Restart.TEMPORARY or record.state is State.STOPPED or never_ready

    def _retire(self, record: ChildRecord) -> None:
        """Marks a child as ended for good; a dynamic one leaves the tree."""
        record.state = State.STOPPED
        self._restarts_due.pop(record, None)
        # Another child may use the name by now.
        if isinstance(self.spec, DynamicSpec) and self.children.get(record.spec.id) is record:
            del self.children[record.spec.id]
            self.system.unregister(record)
