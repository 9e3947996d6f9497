"""Memory of this process: its use, and the distance from limits near which it survives but can do nothing new."""

from __future__ import annotations

import ctypes
import errno
import resource
import sys
import time
from pathlib import Path

__all__ = [
    "NO_MEMORY",
    "RETRY_MS",
    "give_back_memory",
    "is_shortage",
    "memory_problem",
    "note_shortage",
    "resident_bytes",
    "spare_bytes",
]

MEBIBYTE = 1024 * 1024
LEAST_ADDRESS_SPACE = 24 * MEBIBYTE
"""Enough for a thread's stack and arena, and the largest body with the objects decoded from it."""
LEAST_GROUP_BYTES = 16 * MEBIBYTE
REMEMBERED_SECONDS = 10.0
NO_MEMORY = "the server has no memory for this now"
RETRY_MS = 5000
"""Retry time given to refused clients."""
_GROUP = Path("/sys/fs/cgroup")

_shortages: list[float] = []


def resident_bytes() -> float:
    """Return the resident bytes (Linux), or their peak where only that is known (macOS)."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        return float(int(statistics.read_text(encoding="ascii").split()[1]) * resource.getpagesize())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


def give_back_memory() -> None:
    """Return free pages to the system (glibc's `malloc_trim`; other C libraries do so by themselves)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def note_shortage() -> None:
    """Record that an operation just failed for lack of memory."""
    _shortages[:] = [time.monotonic()]


def is_shortage(error: BaseException | None) -> bool:
    """True if an operation failed for lack of memory or of a thread, whose stack needs memory. Often temporary."""
    match error:
        case BaseExceptionGroup():
            return all(is_shortage(one) for one in error.exceptions)
        case RuntimeError():
            return str(error).startswith("can't start new thread")
        case OSError():
            return error.errno == errno.ENOMEM
        case _:
            return isinstance(error, MemoryError)


def spare_bytes() -> int | None:
    """Return the memory available beyond the reserve, never negative; None without a limit."""
    left = [
        (_address_space_left(), LEAST_ADDRESS_SPACE),
        (_group_bytes_left(_GROUP), LEAST_GROUP_BYTES),
    ]
    spare = [max(0, one - least) for one, least in left if one is not None]
    return min(spare, default=None)


def memory_problem() -> str | None:
    """Return why new work would lack memory, or None."""
    left = _address_space_left()
    if left is not None and left < LEAST_ADDRESS_SPACE:
        return f"{max(0, left) // MEBIBYTE} MiB are left under the limit of this process's address space (ulimit -v)"
    left = _group_bytes_left(_GROUP)
    if left is not None and left < LEAST_GROUP_BYTES:
        return f"{max(0, left) // MEBIBYTE} MiB are left under the memory limit of this control group"
    if _shortages and time.monotonic() - _shortages[0] < REMEMBERED_SECONDS:
        return "a request was abandoned because memory was short within the last ten seconds"
    return None


def _address_space_left() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return limit - pages * resource.getpagesize()


def _group_bytes_left(group: Path) -> int | None:
    """Return the bytes left in the control group (version 2), counting file cache as free."""
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((group / "memory.current").read_text(encoding="ascii"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return int(limit) - used + int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))
    except (OSError, ValueError):
        return None
