"""Decides whether the service manager is told that the server is alive. Pure."""

from __future__ import annotations

from actors.inference.messages import EngineHealth

__all__ = ["beat_seconds", "problem_of_engine"]

SHARE = 4
"""Signs of life in the time that the manager waits for one."""
LONGEST_SECONDS = 30.0
"""Between two looks where the manager waits for nothing, so that `systemctl status` stays true."""
SILENT_SECONDS = 5.0
"""A ready worker speaks after every step, and once a second while it has none to make."""


def beat_seconds(watchdog_seconds: float | None) -> float:
    """Seconds between two looks, for a manager that waits so long."""
    return LONGEST_SECONDS if watchdog_seconds is None else min(LONGEST_SECONDS, watchdog_seconds / SHARE)


def problem_of_engine(engine: EngineHealth) -> str | None:
    """Why the engine makes no steps although it should; None while it does, or while its supervisor deals with it.

    A worker that loads, or that has ended and is started again, is under the supervisor's own deadlines. One that is ready and silent is what
    only somebody else can end: the supervisor expects steps of a worker that has work, and a stopped one without work would pass for idle.
    """
    if engine.state != "ready" or engine.silent_seconds is None or engine.silent_seconds <= SILENT_SECONDS:
        return None
    return f"the engine has not said anything for {engine.silent_seconds:.0f} s"
