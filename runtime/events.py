"""What happens in the tree, as data: one event each, for logs, metrics and tests."""

from __future__ import annotations

from attrs import frozen

from runtime.messages import DownReason

__all__ = ["ChildEnded", "ChildRestarting", "ChildStarted", "Event", "StuckReport", "SystemStopping"]


@frozen
class ChildStarted:
    """A child is ready."""

    path: str
    incarnation: int
    ready_seconds: float
    """From its start until `started` had returned."""


@frozen
class ChildEnded:
    """A child is over."""

    path: str
    incarnation: int
    reason: DownReason
    error: Exception | None


@frozen(kw_only=True)
class ChildRestarting:
    """A child that ended will be started again, or its supervisor gives up."""

    path: str
    incarnation: int
    """The one that ended."""
    reason: DownReason
    error: Exception | None
    """What it raised, with its cause chain."""
    uptime_seconds: float
    attempt: int
    """Restarts in the window, this one included."""
    delay_seconds: float | None
    """Back-off until the start; None when the intensity is exceeded and the supervisor gives up."""


@frozen
class StuckReport:
    """A child still runs after its cancellation; only the end of the process will end it."""

    path: str
    incarnation: int
    stack: tuple[str, ...]
    """Where its task waits, outermost frame first."""


@frozen
class SystemStopping:
    """The whole tree is going down."""

    reason: str


Event = ChildStarted | ChildEnded | ChildRestarting | StuckReport | SystemStopping
