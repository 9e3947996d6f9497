"""The supervisor's record of one child: everything that outlives its incarnations."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from runtime.messages import DownReason
from runtime.specs import DynamicSpec, SupervisorSpec

if TYPE_CHECKING:
    from runtime.incarnation import Incarnation
    from runtime.specs import ChildSpec
    from runtime.supervisor import Supervisor
    from runtime.tracing import TraceSession

__all__ = ["ChildRecord", "Exit", "State"]


class State(enum.Enum):
    """The states of a child."""

    NEW = "new"
    """Not started yet."""
    STARTING = "starting"
    """`started` has not returned yet."""
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    """Crashed; it restarts after the back-off."""
    ENDED = "ended"
    """Ended without being asked to; its supervisor has not decided yet."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Ended for good, or until an operator starts it."""
    STUCK = "stuck"
    """Still running after it was cancelled."""


@frozen
class Exit:
    """The end of an incarnation."""

    reason: DownReason
    error: Exception | None
    uptime_seconds: float
    """Time from its start to its end."""
    was_ready: bool = True
    """True if its start was acknowledged."""

    @property
    def is_crash(self) -> bool:
        """True if it raised."""
        return self.reason is DownReason.CRASHED


class ChildRecord:
    """A named child in the tree. References point to it, its supervisor writes it, inspection reads it."""

    __slots__ = (
        "__weakref__",
        "down_since",
        "failures_in_a_row",
        "handler_failures",
        "incarnation",
        "last_exit",
        "life",
        "path",
        "problem",
        "ready_seconds",
        "recovery_seconds",
        "restarts",
        "spec",
        "state",
        "stop_seconds",
        "supervisor",
        "trace_session",
    )

    def __init__(self, path: str, spec: ChildSpec, supervisor: Supervisor | None) -> None:
        self.path = path
        self.spec = spec
        self.supervisor = supervisor
        """The supervisor of this child; None for the root."""
        self.state = State.NEW
        self.incarnation = 0
        """Number of starts so far, which is the number of the current incarnation."""
        self.life: Incarnation | None = None
        """The running incarnation."""
        self.restarts = 0
        """Restarts after a crash or an end, over the whole life of the record."""
        self.failures_in_a_row = 0
        self.problem: str | None = None
        """A function that the running incarnation cannot perform, in its own words."""
        self.last_exit: Exit | None = None
        self.handler_failures: Counter[str] | None = None
        """Requests whose handler raised, by exception class."""
        self.ready_seconds: float | None = None
        """Duration of the last start, until `started` returned."""
        self.stop_seconds: float | None = None
        """Duration of the last stop."""
        self.recovery_seconds: float | None = None
        """Time from the last crash until ready again, back-off and failed starts included."""
        self.down_since: float | None = None
        """Time of the crash, until it is ready again (Trio clock)."""
        self.trace_session: TraceSession | None = None
        """The active trace of this child."""

    @property
    def is_supervisor(self) -> bool:
        """True for supervisors of both kinds."""
        return isinstance(self.spec.start, (SupervisorSpec, DynamicSpec))

    def count_handler_failure(self, error: Exception) -> None:
        """Counts a request whose handler raised."""
        if self.handler_failures is None:
            self.handler_failures = Counter()
        self.handler_failures[type(error).__name__] += 1

    def __repr__(self) -> str:
        return f"<ChildRecord {self.path} {self.state.value} #{self.incarnation}>"


def await_stack(task: trio.lowlevel.Task) -> tuple[str, ...]:
    """The await stack of a task, outermost frame first, as ``file:line in function``."""
    stack: list[str] = []
    frames: Any = task.iter_await_frames()
    for frame, line in frames:
        code = frame.f_code
        stack.append(f"{code.co_filename}:{line} in {code.co_name}")
    return tuple(stack)
