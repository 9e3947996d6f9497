"""One incarnation of a child, from start to exit, and everything whose lifetime is bound to it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from runtime.asking import ReplyPort, current_deadline, request_context
from runtime.child_record import ChildRecord, Exit, State, await_stack
from runtime.errors import ActorDead, HandlerFailed, LinkedActorFailed, MailboxFull, Refused, SendFault
from runtime.mailbox import Mailbox
from runtime.messages import Down, DownReason, SnapshotMessage, StopMessage, SuspendMessage

if TYPE_CHECKING:
    from runtime.actor import Actor
    from runtime.system import ActorSystem
    from runtime.timers import Timer

__all__ = ["ActorIncarnation", "Incarnation", "current_incarnation"]

_log = logging.getLogger("runtime")

current_incarnation: ContextVar[ActorIncarnation | None] = ContextVar("runtime_current_incarnation", default=None)
"""The actor that the running task belongs to: the actor's own task, or a child task of it."""

MESSAGES_BETWEEN_CHECKPOINTS = 16
"""Messages after which an actor with a full mailbox lets other tasks run."""


class Incarnation:
    """The interface between a supervisor and a running child, actor or supervisor."""

    __slots__ = (
        "_finished",
        "_ready",
        "exit",
        "failure",
        "is_ready",
        "is_stuck",
        "record",
        "scope",
        "started_at",
        "stop_requested_at",
    )

    def __init__(self, record: ChildRecord) -> None:
        self.record = record
        self.scope = trio.CancelScope()
        self.started_at = trio.current_time()
        self.is_ready = False
        self.is_stuck = False
        """True for a supervisor that has stopped everything it could, and cannot end because a child is stuck."""
        self.exit: Exit | None = None
        self.failure: Exception | None = None
        """Set by `crash`: the error to report instead of the cancellation that carried it out."""
        self.stop_requested_at: float | None = None
        # Created by the first waiter: ten thousand idle actors need neither.
        self._ready: trio.Event | None = None
        self._finished: trio.Event | None = None

    async def run(self) -> None:
        """Runs the child. Returns or raises when it is over."""
        raise NotImplementedError

    def close(self, error: Exception | None) -> None:
        """Called after `run` has ended: rejects further messages, and answers the tasks that wait for a reply."""

    async def clean_up(self) -> None:
        """Ends remaining tasks, after `close`. Shielded by the caller."""

    def stack(self) -> tuple[str, ...]:
        """Its await stack, outermost frame first."""
        return ()

    def request_stop(self, reason: str) -> None:
        """Requests an orderly end. Never waits."""
        raise NotImplementedError

    def crash(self, error: Exception) -> None:
        """Ends it as if it had raised ``error``. Never waits."""
        if self.failure is None:
            self.failure = error
        self.scope.cancel(reason=f"crashed: {type(error).__name__}")

    def acknowledge(self) -> None:
        """Records that `started` has returned."""
        self.is_ready = True
        record, now = self.record, trio.current_time()
        if record.state is State.STARTING:
            record.state = State.RUNNING
        record.ready_seconds = now - self.started_at
        if record.down_since is not None:
            record.recovery_seconds, record.down_since = now - record.down_since, None
        if self._ready is not None:
            self._ready.set()

    async def wait_ready(self) -> None:
        """Waits until it has started or ended, whichever is first."""
        if not self.is_ready and self.exit is None:
            if self._ready is None:
                self._ready = trio.Event()
            await self._ready.wait()
            self._ready = None

    async def wait_finished(self) -> None:
        """Waits until it has ended, or until only a stuck child keeps it from ending."""
        if self.exit is None and not self.is_stuck:
            if self._finished is None:
                self._finished = trio.Event()
            await self._finished.wait()

    def finish(self, error: Exception | None) -> Exit:
        """Records the end and wakes the tasks that wait for it."""
        error = self.failure or error
        now = trio.current_time()
        self.exit = Exit(self._reason(error), error, now - self.started_at, self.is_ready)
        if self.exit.is_crash and self.is_ready:
            self.record.down_since = now
        if self.stop_requested_at is not None:
            self.record.stop_seconds = now - self.stop_requested_at
        for event in (self._ready, self._finished):
            if event is not None:
                event.set()
        return self.exit

    def _reason(self, error: Exception | None) -> DownReason:
        if (self.failure or error) is not None:
            return DownReason.CRASHED
        if self.scope.cancelled_caught:
            return DownReason.CANCELLED
        return DownReason.RETURNED if self.stop_requested_at is None else DownReason.STOPPED


class ActorIncarnation(Incarnation):
    """An actor object with its mailbox, child tasks, timers, monitors and links."""

    __slots__ = (
        "_child_tasks",
        "_children_done",
        "_links",
        "_timers",
        "_watchers",
        "_watching",
        "accepts",
        "actor",
        "awaiting",
        "current",
        "current_since",
        "deferred",
        "handled",
        "is_suspended",
        "mailbox",
        "port",
        "system",
        "task",
    )

    def __init__(self, record: ChildRecord, actor: Actor[Any], system: ActorSystem) -> None:
        super().__init__(record)
        self.system = system
        self.actor = actor
        self.accepts = actor.accepted_messages()
        self.mailbox = Mailbox(record.path, actor.mailbox, self._dropped)
        self.task: trio.lowlevel.Task | None = None
        self.current: object | None = None
        """The message being handled."""
        self.current_since = 0.0
        self.handled = 0
        """User messages handled so far."""
        self.port: ReplyPort | None = None
        """Destination of the current request's answer."""
        self.awaiting: ActorIncarnation | None = None
        """The actor whose answer the current handler awaits: an edge of the ask graph."""
        self.is_suspended = False
        self.deferred: set[ReplyPort] | None = None
        self._child_tasks: dict[trio.CancelScope, trio.lowlevel.Task | None] | None = None
        self._children_done: trio.Event | None = None
        self._timers: set[Timer] | None = None
        self._watchers: set[ActorIncarnation] | None = None
        self._watching: set[ActorIncarnation] | None = None
        self._links: set[ActorIncarnation] | None = None

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts the actor, handles messages one at a time, and runs `stopping` when asked to stop."""
        self.task = trio.lowlevel.current_task()
        current_incarnation.set(self)
        # A dynamic child inherits the context of its starter, but does not work for the starter's request.
        current_deadline.set(None)
        request_context.set(None)
        actor, mailbox = self.actor, self.mailbox
        await actor.started()
        self.acknowledge()
        since_checkpoint = 0
        while True:
            if mailbox.system:
                if await self._handle_system(mailbox.system.popleft()):
                    break
                continue
            entry = None if self.is_suspended else mailbox.take()
            if entry is None:
                await mailbox.park()
                since_checkpoint = 0
                continue
            self.current = entry[0]
            self.current_since = trio.current_time()
            if entry[1] is None:
                await actor.handle(entry[0])
            else:
                await self._answer(entry[0], entry[1])
            self.current = None
            self.handled += 1
            since_checkpoint += 1
            if since_checkpoint >= MESSAGES_BETWEEN_CHECKPOINTS:
                since_checkpoint = 0
                await trio.lowlevel.checkpoint()
        await actor.stopping()

    def request_stop(self, reason: str) -> None:
        if self.stop_requested_at is None:
            self.stop_requested_at = trio.current_time()
            self.mailbox.put_system(StopMessage(reason))

    def stop_self(self) -> None:
        """Ends it after the current message, even if it is idle."""
        self.mailbox.put_system(StopMessage("asked itself to stop"))
        # A child task may call this while the actor is idle.
        self.mailbox.wake()

    def close(self, error: Exception | None) -> None:
        dead = ActorDead(self.record.path, self.record.incarnation, self._reason(error).value)
        for message, port, _ in self.mailbox.close(dead):
            self._return_undelivered(message, port, dead.again(), "stopped")
        for port in (self.port, *(self.deferred or ())):
            if port is not None and port.is_open:
                port.fail(dead.again(has_begun=True))
        for message in self.mailbox.system or ():
            if isinstance(message, SnapshotMessage) and message.port.is_open:
                message.port.fail(dead.again())
        for timer in tuple(self._timers or ()):
            timer.cancel()
        self.port = self.deferred = self._timers = None

    async def clean_up(self) -> None:
        while self._child_tasks:
            for scope in self._child_tasks:
                scope.cancel(reason=f"{self.record.path} ended")
            self._children_done = trio.Event()
            await self._children_done.wait()

    def finish(self, error: Exception | None) -> Exit:
        ended = super().finish(error)
        self._tell_watchers(ended)
        return ended

    def stack(self) -> tuple[str, ...]:
        tasks = [self.task] if self._children_done is None else list((self._child_tasks or {}).values())
        return tuple(line for task in tasks if task is not None for line in await_stack(task))

    # --- messages ---------------------------------------------------------------------------------

    async def _handle_system(self, message: object) -> bool:
        """Handles a system message; True if the actor has to stop."""
        match message:
            case StopMessage():
                return True
            case SuspendMessage(suspended):
                self.is_suspended = suspended
            case SnapshotMessage(port):
                try:
                    port.reply(dict(self.actor.snapshot()))
                except Exception as error:  # noqa: BLE001  isolation boundary: inspection must not crash the actor
                    port.fail(HandlerFailed(self.record.path, SnapshotMessage, error))
            case Down():
                await self.actor.down(message)
        return False

    async def _answer(self, message: object, port: ReplyPort) -> None:
        """Handles a request: the handler's return value or exception is the asker's answer."""
        if not port.is_open:
            self.system.dead_letters.add(self.record.path, message, "expired")
            return
        self.port = port
        token = current_deadline.set(port.deadline)
        outer = request_context.set(port.context)
        try:
            with trio.CancelScope() as port.scope:
                value = await self.actor.handle(message)
                if not port.is_deferred:
                    port.reply(value)
        except Refused as refusal:
            port.fail(refusal)
        except Exception as error:  # noqa: BLE001  isolation boundary: a request's exception is its asker's answer
            self.report_handler_failure(port, error)
        finally:
            current_deadline.reset(token)
            request_context.reset(outer)
        # `close` still needs the port after a crash, so this is not in the `finally`.
        self.port = None

    def report_handler_failure(self, port: ReplyPort, error: Exception) -> None:
        """Logs and counts a handler's exception, and answers the asker with it."""
        self.record.count_handler_failure(error)
        _log.error(
            "%s failed to handle %s: %s", self.record.path, port.request.__name__, type(error).__name__, exc_info=error
        )
        port.fail(HandlerFailed(self.record.path, port.request, error))

    def _dropped(self, message: Any, port: ReplyPort | None) -> None:
        capacity = self.mailbox.spec.capacity
        self._return_undelivered(message, port, MailboxFull(self.record.path, capacity), "dropped")

    def _return_undelivered(self, message: Any, port: ReplyPort | None, error: Exception, reason: str) -> None:
        self.system.dead_letters.add(self.record.path, message, reason)
        if port is not None and port.is_open:
            port.fail(error)

    # --- what dies with it ------------------------------------------------------------------------

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        *,
        name: str | None,
        port: ReplyPort | None,
    ) -> trio.CancelScope:
        """Runs a child task of this actor; its exception crashes the actor."""
        supervisor = self.record.supervisor
        if self.exit is not None or supervisor is None:
            raise ActorDead(self.record.path, self.record.incarnation, "it has ended and can start no task")
        scope = trio.CancelScope()
        if self.mailbox.closed is not None:
            scope.cancel(reason=f"{self.record.path} ended")
        if self._child_tasks is None:
            self._child_tasks = {}
        self._child_tasks[scope] = None
        if port is not None:
            port.scope = scope
        label = f"{self.record.path}:{name or getattr(function, '__name__', 'child')}"
        deadline = None if port is None else port.deadline
        supervisor.host(self._run_child_task, scope, deadline, function, args, name=label)
        return scope

    async def _run_child_task(
        self,
        scope: trio.CancelScope,
        deadline: float | None,
        function: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
    ) -> None:
        assert self._child_tasks is not None
        self._child_tasks[scope] = trio.lowlevel.current_task()
        current_incarnation.set(self)
        # A child task outlives the request that started it, so it must not inherit that deadline.
        current_deadline.set(deadline)
        try:
            with scope:
                await function(*args)
        except Exception as error:  # noqa: BLE001  isolation boundary: becomes the actor's crash
            self.crash(error)
        finally:
            del self._child_tasks[scope]
            if not self._child_tasks and self._children_done is not None:
                self._children_done.set()

    def add_timer(self, seconds: float, message: object, *, every: bool) -> Timer:
        """Schedules a message to this incarnation after ``seconds``, once or periodically."""
        if every and seconds <= 0:
            raise ValueError(f"a period must be longer than {seconds:g} s: the loop would do nothing else")
        if self._timers is None:
            self._timers = set()
        timers = self._timers

        def fire() -> None:
            if not every:
                timers.discard(timer)
            try:
                self.mailbox.put_nowait(message, None)
            except SendFault as fault:
                reason = "timer_mailbox_full" if isinstance(fault, MailboxFull) else "stopped"
                self.system.dead_letters.add(self.record.path, message, reason)

        timer = self.system.timers.call_at(
            trio.current_time() + seconds, fire, period_seconds=seconds if every else None
        )
        timer.owner = timers
        timers.add(timer)
        return timer

    def watch(self, other: ActorIncarnation) -> None:
        """Delivers one `Down` when ``other`` ends."""
        # In place: an actor that watches ten thousand connections must not copy the set for each.
        if other._watchers is None:
            other._watchers = set()
        if self._watching is None:
            self._watching = set()
        other._watchers.add(self)
        self._watching.add(other)

    def unwatch(self, other: ActorIncarnation) -> None:
        """Undoes `watch`."""
        if other._watchers is not None:
            other._watchers.discard(self)
        if self._watching is not None:
            self._watching.discard(other)

    def link(self, other: ActorIncarnation) -> None:
        """Makes a crash of either incarnation crash the other."""
        if other is self:
            return
        self._links = (self._links or set()) | {other}
        other._links = (other._links or set()) | {self}

    def _tell_watchers(self, ended: Exit) -> None:
        down = Down(self.record.path, self.record.incarnation, ended.reason, ended.error)
        for watcher in self._watchers or ():
            watcher.mailbox.put_system(down)
            if watcher._watching is not None:
                watcher._watching.discard(self)
        for watched in self._watching or ():
            if watched._watchers is not None:
                watched._watchers.discard(self)
        for other in self._links or ():
            if other._links is not None:
                other._links.discard(self)
            if ended.is_crash:
                other.crash(LinkedActorFailed(self.record.path, ended.error))
        self._watchers = self._watching = self._links = None

    @property
    def state_word(self) -> str:
        """The state that inspection shows."""
        if self.record.state is State.RUNNING:
            if self.is_suspended:
                return "suspended"
            return "busy" if self.current is not None else "idle"
        word: str = self.record.state.value
        return word
