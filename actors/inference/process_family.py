"""Memory of this process and all its descendants: server, workers, standby, sandbox."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import trio

__all__ = ["FamilyMemory", "family_bytes"]

FRESH_SECONDS = 1.0
"""Reading takes a millisecond per process, and health may be queried often."""
PATIENCE_SECONDS = 0.5


class FamilyMemory:
    """Measures memory on demand, at most once per `FRESH_SECONDS`."""

    def __init__(self) -> None:
        self._bytes: float | None = None
        self._measured_at = -FRESH_SECONDS
        self._threads = trio.CapacityLimiter(1)

    async def measure(self) -> float | None:
        """Bytes, at most `FRESH_SECONDS` old, or older if the system does not answer in time. None if the system never
        reports it."""
        if trio.current_time() - self._measured_at >= FRESH_SECONDS and self._threads.borrowed_tokens == 0:
            with trio.move_on_after(PATIENCE_SECONDS):
                self._bytes = await trio.to_thread.run_sync(
                    family_bytes, os.getpid(), limiter=self._threads, abandon_on_cancel=True
                )
                self._measured_at = trio.current_time()
        return self._bytes


def family_bytes(pid: int) -> float | None:
    """Memory of a process and its descendants in bytes, with shared pages counted once. None if unknown.

    Linux: the proportional set size in `/proc/PID/smaps_rollup`, proc(5).
    """
    held = [_proportional_bytes(one) for one in _family(pid)]
    return None if held[0] is None else float(sum(one for one in held if one is not None))


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        # Any process may end between two reads; then it holds no memory and has no children.
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with contextlib.suppress(OSError):
                    children = (task / "children").read_text(encoding="ascii")
                    found.extend(int(word) for word in children.split())
    return found


def _proportional_bytes(pid: int) -> float | None:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
