"""How long this machine slept: the clock that Trio waits by stands still meanwhile, the server's does not."""

from __future__ import annotations

import sys
import time

from attrs import frozen

__all__ = ["NOTICED_SECONDS", "ClockMarks", "read_marks", "slept_seconds"]

NOTICED_SECONDS = 2.0
"""A shorter sleep is not told apart from clocks that are read one after the other, or set by a little."""


@frozen
class ClockMarks:
    """How far the clocks that run on during sleep are ahead of the one that stands still, in seconds."""

    boot: float
    """Of the clock since the machine was started."""
    wall: float
    """Of the time of day: all that a paused virtual machine sees. It may also be set, which then looks like sleep."""


def read_marks() -> ClockMarks:
    """The marks of now."""
    awake = time.perf_counter()
    return ClockMarks(boot=_since_boot() - awake, wall=time.time() - awake)


def slept_seconds(earlier: ClockMarks, now: ClockMarks) -> float:
    """Seconds between two marks that Trio's clock knows nothing of; 0 where there were none worth the name."""
    slept = max(now.boot - earlier.boot, now.wall - earlier.wall)
    return slept if slept >= NOTICED_SECONDS else 0.0


def _since_boot() -> float:
    if sys.platform == "darwin":
        # There it is this one that counts sleep, and `perf_counter` that does not.
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_BOOTTIME)
