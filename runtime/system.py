"""The actor system: one tree, its directory, its signals, and a shutdown with a deadline."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import trio

from runtime.child_record import ChildRecord, State
from runtime.dead_letters import DeadLetters
from runtime.errors import UnknownPath
from runtime.events import Event, StuckReport, SystemStopping
from runtime.incarnation import ActorIncarnation, Incarnation, current_incarnation
from runtime.loop_watchdog import LoopWatchdog
from runtime.reference import ActorRef, DynamicRef
from runtime.specs import ChildSpec, SupervisorSpec, check_intensities
from runtime.supervisor import Supervisor
from runtime.timers import TimerService
from runtime.tracing import TraceSession
from runtime.watchdog import Watchdog

__all__ = ["ActorSystem", "hard_exit"]

_log = logging.getLogger("runtime")


EXIT_SOFTWARE = 70
"""Exit status of a hard exit (EX_SOFTWARE of sysexits.h)."""


def hard_exit(report: str) -> None:
    """Ends the process at once: Trio cannot end a shielded task, and waits for its threads."""
    sys.stderr.write(report + "\n")
    sys.stderr.flush()
    os._exit(EXIT_SOFTWARE)


class ActorSystem:
    """One supervision tree. Create it, take references, then `run` it once."""

    def __init__(
        self,
        *,
        drain_seconds: float = 10.0,
        total_stop_seconds: float = 20.0,
        watch_loop: bool = True,
        handle_signals: bool = False,
        watchdog: Watchdog | None = None,
        on_overdue: Callable[[str], None] = hard_exit,
        message_check: Callable[[object], None] | None = None,
    ) -> None:
        """``drain_seconds`` limits the first phase of a shutdown, ``total_stop_seconds`` all of it; after
        that a thread calls ``on_overdue`` with a report of what is stuck, by default to end the
        process. ``watchdog`` ends the process if not even that thread can run. ``message_check`` is called with every message
        sent (test
        kits check that messages are frozen).
        """
        self.drain_seconds = drain_seconds
        self.total_stop_seconds = total_stop_seconds
        self.dead_letters = DeadLetters()
        self.timers = TimerService()
        self.loop_watchdog = LoopWatchdog() if watch_loop else None
        self.message_check = message_check
        self.observers: list[Callable[[Event], None]] = []
        """Called with every event; must not wait or raise."""
        self.trace_sessions: set[TraceSession] = set()
        self.stuck: list[StuckReport] = []
        """Children that outlived their cancellation, in order of discovery."""
        self.stopping_reason: str | None = None
        """The reason for the shutdown, once it has begun."""
        self.root: ChildRecord | None = None
        self._handle_signals = handle_signals
        self._on_overdue = on_overdue
        self._records: dict[str, ChildRecord] = {}
        self._stop_requested = trio.Event()
        self._watchdog = watchdog
        self._must_end = threading.Event()
        self._has_ended = threading.Event()
        self._was_ready = False

    # --- directory --------------------------------------------------------------------------------

    def reference(self, path: str) -> ActorRef[Any]:
        """A reference to the actor at ``path``, which need not exist yet.

        Annotate the variable with the messages that it accepts: ``tasks: ActorRef[TaskMessage] = system.reference("tasks")``.
        """
        return ActorRef(self, path)

    def dynamic(self, path: str) -> DynamicRef:
        """A handle on the dynamic supervisor at ``path``, which need not exist yet."""
        return DynamicRef(self, path)

    def find(self, path: str) -> ChildRecord | None:
        """The record at ``path``."""
        return self._records.get(path)

    def record(self, path: str) -> ChildRecord:
        """The record at ``path``. Raises `UnknownPath`."""
        record = self._records.get(path)
        if record is None:
            raise UnknownPath(path)
        return record

    def records(self) -> list[ChildRecord]:
        """All records, parents before children."""
        return list(self._records.values())

    def register(self, path: str, spec: ChildSpec, supervisor: Supervisor) -> ChildRecord:
        """Registers a child and returns its record, the existing one if its supervisor was restarted. For supervisors only."""
        record = self._records.get(path)
        if record is None:
            record = self._records[path] = ChildRecord(path, spec, supervisor)
        else:
            record.supervisor, record.spec, record.state = supervisor, spec, State.NEW
        return record

    def unregister(self, record: ChildRecord) -> None:
        """Removes a dynamic child. For supervisors only."""
        if self._records.get(record.path) is record:
            del self._records[record.path]
            record.supervisor = None

    # --- life -------------------------------------------------------------------------------------

    async def run(self, spec: SupervisorSpec, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the tree until it is asked to stop or its root gives up.

        Cancelling this, like SIGINT, SIGTERM or `request_stop`, starts the orderly shutdown: drain, then
        stop in reverse order; it then takes up to ``total_stop_seconds``. ``task_status`` is notified when the tree is ready,
        or at its end if it is stopped before that; `stopping_reason` then gives the reason. Raises `UnsafeIntensity` before
        anything starts, a child's own exception if the first start fails, and
        `RestartIntensityExceeded` if the root gives up.
        """
        check_intensities(spec)
        self.root = ChildRecord("", ChildSpec(id="root", start=spec), None)
        root = Supervisor(self.root, spec, self)
        self.root.life, self.root.state, self.root.incarnation = root, State.STARTING, 1
        # Started at the beginning: when it is needed there may be no memory for it.
        deadline = threading.Thread(target=self._end_in_time, name="stop-deadline", daemon=True)
        deadline.start()
        if self.stopping_reason is not None:
            self._must_end.set()
        failure: Exception | None = None
        async with trio.open_nursery() as service:
            # The tree's scope is shielded: cancelling `run` starts an orderly shutdown instead of cancelling every task.
            service.start_soon(self._stop_when_cancelled)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as helpers:
                    helpers.start_soon(self.timers.run, name="timers")
                    if self._handle_signals:
                        await helpers.start(self._listen_for_signals, name="signals")
                    if self.loop_watchdog is not None:
                        self.loop_watchdog.start()
                    helpers.start_soon(self._shut_down, root, name="shutdown")
                    helpers.start_soon(self._report_ready, root, task_status, name="report_ready")
                    try:
                        await root.run()
                    except Exception as error:  # noqa: BLE001  raised below, outside of the nurseries' groups
                        failure = error
                    finally:
                        self.root.last_exit = root.finish(failure)
                        self.root.life, self.root.state = None, State.STOPPED
                        if self.loop_watchdog is not None:
                            self.loop_watchdog.stop()
                        self._has_ended.set()
                        self._must_end.set()
                        deadline.join(1.0)
                    helpers.cancel_scope.cancel(reason="the tree has stopped")
            service.cancel_scope.cancel(reason="the tree has stopped")
        if failure is not None:
            raise failure
        if not self._was_ready:
            # Stopped early: a caller that waits for the start would take silence for a fault.
            task_status.started()

    def request_stop(self, reason: str) -> None:
        """Starts the shutdown. Idempotent; never waits."""
        # Before anything that may fail for lack of memory.
        self._stop_requested.set()
        if self.stopping_reason is None:
            self.stopping_reason = reason
            # Only a running tree can overrun its deadline; for any other it would end a healthy process.
            if self.root is not None and self.root.life is not None:
                self._must_end.set()
                if self._watchdog is not None:
                    self._watchdog.arm()
            self.emit(SystemStopping(reason))

    def _end_in_time(self) -> None:
        """Thread of the total deadline: the loop itself may be stuck."""
        self._must_end.wait()
        if not self._has_ended.wait(self.total_stop_seconds):
            self._on_overdue(self.stuck_report())

    def stuck_report(self) -> str:
        """Lists the children that still run, with their await stacks."""
        lines = [f"shutdown took longer than {self.total_stop_seconds:g} s; still running:"]
        try:
            for record in self.records():
                life = record.life
                if isinstance(life, ActorIncarnation):
                    lines.append(f"  {record.path} ({record.state.value})")
                    lines += [f"    {line}" for line in life.stack()]
        except Exception as error:  # noqa: BLE001  boundary: a report that fails must not prevent the end
            lines.append(f"  and more that cannot be told: {error!r}")
        return "\n".join(lines)

    async def _report_ready(self, root: Supervisor, task_status: trio.TaskStatus[None]) -> None:
        await root.wait_ready()
        if root.is_ready:
            self._was_ready = True
            task_status.started()

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self.root is not None and self.root.life is not None:
                self.request_stop("cancelled")

    async def _listen_for_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with contextlib.ExitStack() as handlers:
            signals = handlers.enter_context(trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
            if self._watchdog is not None:
                handlers.enter_context(self._watchdog.hearing(signal.SIGINT, signal.SIGTERM))
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if self.stopping_reason is not None:
                    self._on_overdue(f"second signal ({name}); exiting at once\n{self.stuck_report()}")
                self.request_stop(name)

    async def _shut_down(self, root: Incarnation) -> None:
        """Two phases: all actors drain at once; then the tree stops in reverse order."""
        await self._stop_requested.wait()
        with trio.move_on_after(self.drain_seconds):
            async with trio.open_nursery() as drains:
                for record in self.records():
                    if isinstance(record.life, ActorIncarnation) and record.life.is_ready:
                        drains.start_soon(self._drain, record.life, name=f"{record.path}:draining")
        root.request_stop(self.stopping_reason or "stop")

    async def _drain(self, life: ActorIncarnation) -> None:
        if life.mailbox.closed is not None:
            return  # it ended before this task ran
        drained = trio.Event()

        async def drain() -> None:
            try:
                await life.actor.draining()
            except Exception as error:  # noqa: BLE001  isolation boundary: one failed drain must not affect the others
                _log.error("draining of %s failed", life.record.path, exc_info=error)
            finally:
                drained.set()

        # The actor's own child task, so that it ends with the actor.
        scope = life.spawn(drain, (), name="draining", port=None)
        try:
            await drained.wait()
        finally:
            scope.cancel(reason="the drain is over")

    # --- what happens -----------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Notifies the observers. Called by supervisors."""
        for observer in self.observers:
            observer(event)

    def report_stuck(self, report: StuckReport) -> None:
        """Records a child that outlived its cancellation."""
        self.stuck.append(report)
        _log.error("%s is STUCK after cancellation:\n  %s", report.path, "\n  ".join(report.stack))
        self.emit(report)

    def trace(self, record: ChildRecord, message: object, is_request: bool) -> None:
        """Records a message in the trace sessions at both ends; called only while there are any."""
        sender = current_incarnation.get()
        self.trace_sessions = {trace_session for trace_session in self.trace_sessions if trace_session.is_open}
        if record.trace_session is not None:
            record.trace_session.record("ask" if is_request else "in", sender.record.path if sender else "", message)
        if sender is not None and sender.record.trace_session is not None:
            sender.record.trace_session.record("out", record.path, message)

    def open_trace(self, path: str, *, rate_per_second: float, maximum: int) -> TraceSession:
        """Traces one child until ``maximum`` records; replaces its active trace. Raises `UnknownPath`."""
        record = self.record(path)
        if record.trace_session is not None:
            record.trace_session.close()
        record.trace_session = TraceSession(rate_per_second=rate_per_second, maximum=maximum)
        self.trace_sessions.add(record.trace_session)
        return record.trace_session
