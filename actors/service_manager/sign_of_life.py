"""Decides whether liveness is reported to the service manager. Pure functions."""

from __future__ import annotations

from actors.inference.messages import EngineHealth

__all__ = ["beat_seconds", "problem_of_engine"]

SHARE = 4
"""Watchdog messages per watchdog interval."""
LONGEST_SECONDS = 30.0
"""Interval between checks without a watchdog, so that `systemctl status` stays current."""
SILENT_SECONDS = 5.0
"""A ready worker sends a message after every step, and once a second while idle."""


def beat_seconds(watchdog_seconds: float | None) -> float:
    """Return the seconds between checks for a watchdog interval."""
    return LONGEST_SECONDS if watchdog_seconds is None else min(LONGEST_SECONDS, watchdog_seconds / SHARE)


def problem_of_engine(engine: EngineHealth) -> str | None:
    """Return why the engine makes no steps although it should; None while it does, or while its supervisor is handling it.

    A worker that is loading or restarting is under the supervisor's deadlines. A ready but silent one must be noticed from
    outside: the supervisor expects steps only of a worker with work, and a stopped one without work would pass for idle.
    """
    if engine.state != "ready" or engine.silent_seconds is None or engine.silent_seconds <= SILENT_SECONDS:
        return None
    return f"the engine has been silent for {engine.silent_seconds:.0f} s"
