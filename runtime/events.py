"""Events of the tree, as data for logs, metrics and tests."""

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
    """Time from its start until `started` returned."""


@frozen
class ChildEnded:
    """A child has ended."""

    path: str
    incarnation: int
    reason: DownReason
    error: Exception | None


@frozen(kw_only=True)
class ChildRestarting:
    """A child that ended will be restarted, or its supervisor gives up."""

    path: str
    incarnation: int
    """The incarnation that ended."""
    reason: DownReason
    error: Exception | None
    """The exception it raised, with its cause chain."""
    uptime_seconds: float
    attempt: int
    """Restarts in the window, including this one."""
    delay_seconds: float | None
    """Back-off before the start; None if the intensity is exceeded and the supervisor gives up."""


@frozen
class StuckReport:
    """A child still runs after its cancellation; only the end of the process can end it."""

    path: str
    incarnation: int
    stack: tuple[str, ...]
    """Its await stack, outermost frame first."""


@frozen
class SystemStopping:
    """The whole tree is shutting down."""

    reason: str


Event = ChildStarted | ChildEnded | ChildRestarting | StuckReport | SystemStopping
