"""Memory limits where the kernel has none (macOS ignores `RLIMIT_AS`): the fork server measures its children and ends large ones.

It measures from outside, because native code that allocates may hold the GIL for any length of time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["WATCH_SECONDS", "MemoryWatch", "held_bytes"]

WATCH_SECONDS = 0.05
"""Interval of measurements while a job process is alive; allocations within it can exceed the limit."""
_RESOURCE_USAGE_VERSION = 0
_FOOTPRINT = 7
"""Index of `ri_phys_footprint` in `rusage_info_v0` (bsd/sys/resource.h), which includes compressed memory."""


class MemoryWatch:
    """The job processes of one fork server and their limits."""

    def __init__(self, measure: Callable[[int], int | None] | None = None) -> None:
        """``measure`` takes a process id and returns bytes, or None for a process that has ended."""
        self._measure = held_bytes if measure is None else measure
        self._most: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._most)

    def began(self, pid: int, memory_bytes: int) -> None:
        """Starts watching a forked process; it may hold ``memory_bytes`` more than this one, whose pages it shares."""
        self._most[pid] = (self._measure(os.getpid()) or 0) + memory_bytes

    def ended(self, pid: int) -> None:
        """Stops watching a process that has ended."""
        self._most.pop(pid, None)

    def end_large(self) -> list[int]:
        """Aborts each process over its limit, as an allocator would, and returns their ids."""
        large = [pid for pid, most in self._most.items() if (self._measure(pid) or 0) > most]
        for pid in large:
            os.kill(pid, signal.SIGABRT)
        return large


def held_bytes(pid: int) -> int | None:
    """Memory that a process holds, shared pages included; None if it has ended or the system does not report it."""
    if sys.platform == "darwin":
        return _footprint_bytes(pid)
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * resource.getpagesize()


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _footprint_bytes(pid: int) -> int | None:
    """Uses `proc_pid_rusage` of macOS's libproc."""
    # A UUID of 16 bytes, then ten 64-bit numbers.
    told = (ctypes.c_uint64 * 12)()
    if _library().proc_pid_rusage(pid, _RESOURCE_USAGE_VERSION, ctypes.byref(told)) != 0:
        return None
    return int(told[2 + _FOOTPRINT])
