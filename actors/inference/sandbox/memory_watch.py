"""Memory limits where the kernel has none (macOS ignores `RLIMIT_AS`): the fork server measures its children and ends large ones.

It measures from outside, because native code that allocates may hold the interpreter's lock for as long as it likes.
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
"""Between two measurements while a job process is alive; what a job allocates in that time it has beyond its limit."""
_RESOURCE_USAGE_VERSION = 0
_FOOTPRINT = 7
"""Place of `ri_phys_footprint` among the numbers of `rusage_info_v0` (bsd/sys/resource.h): compressed memory counts too."""


class MemoryWatch:
    """The job processes of one fork server and what each may hold."""

    def __init__(self, measure: Callable[[int], int | None] | None = None) -> None:
        """``measure`` takes a process id and returns bytes, or None for a process that has ended."""
        self._measure = held_bytes if measure is None else measure
        self._most: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._most)

    def began(self, pid: int, memory_bytes: int) -> None:
        """A process was forked; it may hold ``memory_bytes`` more than this one, whose pages it shares."""
        self._most[pid] = (self._measure(os.getpid()) or 0) + memory_bytes

    def ended(self, pid: int) -> None:
        """It is gone."""
        self._most.pop(pid, None)

    def end_large(self) -> list[int]:
        """Abort each process that holds more than it may, as an allocator would, and return their ids."""
        large = [pid for pid, most in self._most.items() if (self._measure(pid) or 0) > most]
        for pid in large:
            os.kill(pid, signal.SIGABRT)
        return large


def held_bytes(pid: int) -> int | None:
    """What a process holds in memory, shared pages included; None where it has ended, or where the system does not tell."""
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
    """By `proc_pid_rusage` of macOS's libproc."""
    # A UUID of 16 bytes, then ten numbers of 64 bits.
    told = (ctypes.c_uint64 * 12)()
    if _library().proc_pid_rusage(pid, _RESOURCE_USAGE_VERSION, ctypes.byref(told)) != 0:
        return None
    return int(told[2 + _FOOTPRINT])
