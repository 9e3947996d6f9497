"""Resident memory of this process."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

__all__ = ["give_back_memory", "resident_bytes"]


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
