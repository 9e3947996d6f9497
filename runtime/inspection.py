"""Inspection of a live tree. Reads the runtime's own records, so it works while every actor is busy."""

from __future__ import annotations

from collections.abc import Mapping

import trio
from attrs import frozen

from runtime.asking import ReplyPort
from runtime.child_record import ChildRecord, State
from runtime.errors import ActorDead, AskDeadline, SupervisionFault
from runtime.incarnation import ActorIncarnation
from runtime.mailbox import MailboxStatistics
from runtime.messages import SnapshotMessage, SuspendMessage
from runtime.specs import DynamicSpec, Restart, Strategy, SupervisorSpec
from runtime.supervisor import Supervisor
from runtime.system import ActorSystem

__all__ = ["Readiness", "TreeNode", "actor_snapshot", "readiness", "restart", "suspend", "tree", "tree_node"]


@frozen(kw_only=True)
class TreeNode:
    """A child at one moment."""

    path: str
    kind: str
    """`actor`, or a supervisor's strategy: `one_for_one`, `one_for_all`, `rest_for_one`, `dynamic`."""
    state: str
    """The child's state; running actors are `idle`, `busy` or `suspended`."""
    incarnation: int
    restarts: int
    """Restarts over the life of the record."""
    restarts_in_window: int | None
    """For supervisors: restarts of children that count towards the intensity."""
    intensity: int | None
    uptime_seconds: float | None
    ready_seconds: float | None
    """Duration of the last start."""
    stop_seconds: float | None
    recovery_seconds: float | None
    mailbox: MailboxStatistics | None
    handled: int | None
    """User messages handled by this incarnation."""
    current_message: str | None
    """Class name of the message being handled."""
    current_age_seconds: float | None
    deadline_seconds: float | None
    """Time remaining for the current request."""
    handler_failures: Mapping[str, int]
    last_error: str | None
    """The exception of the last incarnation."""
    stack: tuple[str, ...]
    """Its await stack, outermost first; only on request."""
    children: tuple[TreeNode, ...]


@frozen
class Readiness:
    """States if the tree can do its work, with the reasons if not."""

    is_ready: bool
    reasons: tuple[str, ...]
    words: tuple[str, ...] = ()
    """The kind of each reason: `stopping`, `stuck`, `restarting`, `restarts` or `unresponsive`."""
    degraded: tuple[str, ...] = ()
    """Functions that do not work although the tree is ready: missing helpers, problems that actors have noted."""


def tree(system: ActorSystem, *, stacks: bool = False) -> TreeNode:
    """The whole tree. Synchronous: no actor is asked."""
    assert system.root is not None, "the system was never run"
    return _node(system.root, trio.current_time(), stacks)


def tree_node(system: ActorSystem, path: str) -> TreeNode:
    """One child with its stack and without its descendants; reading every stack of a large tree is slow. Raises `UnknownPath`."""
    record = system.root if path == "root" else system.record(path)
    assert record is not None, "the system was never run"
    return _node(record, trio.current_time(), stacks=True, below=False)


def _node(record: ChildRecord, now: float, stacks: bool, *, below: bool = True) -> TreeNode:
    life = record.life
    actor = life if isinstance(life, ActorIncarnation) else None
    supervisor = life if isinstance(life, Supervisor) else None
    children = supervisor.children.values() if below and supervisor else ()
    error = None if record.last_exit is None else record.last_exit.error
    port = None if actor is None else actor.port
    busy = actor is not None and actor.current is not None
    return TreeNode(
        path=record.path or "root",
        kind=_kind(record),
        state=actor.state_word if actor is not None else record.state.value,
        incarnation=record.incarnation,
        restarts=record.restarts,
        restarts_in_window=None if supervisor is None else supervisor.window.count(now),
        intensity=None if supervisor is None else supervisor.window.intensity,
        uptime_seconds=None if life is None else now - life.started_at,
        ready_seconds=record.ready_seconds,
        stop_seconds=record.stop_seconds,
        recovery_seconds=record.recovery_seconds,
        mailbox=None if actor is None else actor.mailbox.statistics(now),
        handled=None if actor is None else actor.handled,
        current_message=type(actor.current).__name__ if actor is not None and busy else None,
        current_age_seconds=now - actor.current_since if actor is not None and busy else None,
        deadline_seconds=None if port is None else port.deadline - now,
        handler_failures=dict(record.handler_failures or {}),
        last_error=None if error is None else f"{type(error).__name__}: {error}",
        stack=life.stack() if stacks and life is not None else (),
        children=tuple(_node(one, now, stacks) for one in children),
    )


def _kind(record: ChildRecord) -> str:
    start = record.spec.start
    if isinstance(start, DynamicSpec):
        return "dynamic"
    if isinstance(start, SupervisorSpec):
        return start.strategy.value if isinstance(start.strategy, Strategy) else str(start.strategy)
    return "actor"


def readiness(system: ActorSystem) -> Readiness:
    """Ready if every permanent child runs, no supervisor is at its intensity, and no child is stuck or blocks the loop.

    Helpers may be missing. Not ready from the first moment of a shutdown.
    """
    reasons: list[tuple[str, str]] = []
    degraded: list[tuple[str, str]] = []
    if system.stopping_reason is not None:
        reasons.append(("stopping", f"stopping: {system.stopping_reason}"))
    now = trio.current_time()
    root = () if system.root is None else (system.root,)
    for record in (*root, *system.records()):
        life = record.life
        where = degraded if _helps(record) else reasons
        if record.state is State.STUCK:
            where.append(("stuck", f"{record.path} is stuck"))
        elif record.spec.restart is Restart.PERMANENT and (life is None or not life.is_ready):
            where.append(("restarting", f"{record.path or 'root'} is {record.state.value}"))
        if isinstance(life, Supervisor) and life.window.is_at_limit(now):
            where.append(("restarts", f"{record.path or 'root'} is one restart from giving up"))
        if record.problem is not None:
            degraded.append(("problem", f"{record.path}: {record.problem}"))
    holder = None if system.loop_watchdog is None else system.loop_watchdog.recently_unresponsive()
    if holder is not None:
        reasons.append(("unresponsive", f"{holder} is unresponsive"))
    return Readiness(
        is_ready=not reasons,
        reasons=tuple(text for _, text in reasons),
        words=tuple(word for word, _ in reasons),
        degraded=tuple(text for _, text in degraded),
    )


def _helps(record: ChildRecord | None) -> bool:
    """True for a helper, or a descendant of a helper."""
    while record is not None:
        if record.spec.is_helper:
            return True
        record = None if record.supervisor is None else record.supervisor.record
    return False


async def actor_snapshot(system: ActorSystem, path: str, *, timeout: float = 1.0) -> Mapping[str, object]:  # noqa: ASYNC109  told to the actor too
    """The actor's own redacted snapshot, over the system lane.

    Raises `UnknownPath`, `ActorDead`, or `AskDeadline` if it is busy for longer than ``timeout``.
    Cancellation withdraws the request.
    """
    life = _living_actor(system, path)
    port = ReplyPort(path, SnapshotMessage, trio.current_time() + timeout, system.dead_letters)
    life.mailbox.put_system(SnapshotMessage(port))
    try:
        with trio.move_on_after(timeout):
            snapshot: Mapping[str, object] = await port.wait()
            return snapshot
    finally:
        port.abandon(cancel_work=False)
    raise AskDeadline(path, SnapshotMessage, timeout)


def suspend(system: ActorSystem, path: str, *, suspended: bool) -> None:
    """Makes an actor stop taking user messages, or resume. System messages are still handled.

    Raises `UnknownPath` or `ActorDead`.
    """
    _living_actor(system, path).mailbox.put_system(SuspendMessage(suspended))


async def restart(system: ActorSystem, path: str) -> None:
    """Stops one child in order and starts it again, without counting a failure.

    Raises `UnknownPath`, `ActorDead` if its supervisor is not running, `ChildStuck`, or the exception of its
    start; it is then retried as after a crash. After cancellation the restart continues without the caller.
    """
    record = system.record(path)
    if record.supervisor is None:
        raise SupervisionFault(path, "the root is restarted by restarting the program")
    await record.supervisor.restart_on_request(record)


def _living_actor(system: ActorSystem, path: str) -> ActorIncarnation:
    record = system.record(path)
    life = record.life
    if not isinstance(life, ActorIncarnation):
        kind = "a supervisor" if record.is_supervisor else record.state.value
        raise ActorDead(path, record.incarnation, kind)
    return life
