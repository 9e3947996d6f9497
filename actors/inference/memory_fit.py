"""Memory rules for loading another model, and the machine's free memory."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "available_memory_bytes", "fits_alone", "fits_beside", "loading_bytes", "measured_free_bytes", "working_bytes",
]  # fmt: skip

MEBIBYTE = 1024 * 1024
PROCESS_BYTES = 256 * MEBIBYTE
"""Interpreter, libraries and MLX's pool of a worker, in addition to its weights."""
LOADING_FACTOR = 1.2
"""Peak memory relative to the weights while float32 weights for the CPU are made from the files: a measured upper
bound, enforced on the loader by `test_a_model_is_in_memory_once_while_it_is_loaded_and_looked_at`."""
CGROUP = Path("/sys/fs/cgroup")
"""A container's own limits (cgroup v2)."""
USABLE_SHARE = 0.7
"""Share of physical memory assumed usable if the system does not report free memory."""


def loading_bytes(weights_bytes: int) -> int:
    """Peak memory of loading weights of this size on a CPU."""
    return int(weights_bytes * LOADING_FACTOR)


def working_bytes(weights_bytes: int) -> int:
    """Most memory that a worker with these weights takes before its first row."""
    return loading_bytes(weights_bytes) + PROCESS_BYTES


def fits_beside(weights_bytes: int, held_bytes: int, *, bound_bytes: int, free_bytes: int | None) -> bool:
    """True if a model may be loaded while ``held_bytes`` of weights stay loaded.

    A bound above zero limits the sum of all weights and nothing else is checked. Without one the machine's free memory
    decides; if that is unknown (None), the model fits.
    """
    if bound_bytes:
        return weights_bytes + held_bytes <= bound_bytes
    return free_bytes is None or working_bytes(weights_bytes) <= free_bytes


def fits_alone(weights_bytes: int, held_bytes: int, *, bound_bytes: int, free_bytes: int | None) -> bool:
    """True if the model could be loaded once ``held_bytes`` of other weights are freed."""
    if bound_bytes:
        return weights_bytes <= bound_bytes
    return free_bytes is None or working_bytes(weights_bytes) <= free_bytes + held_bytes


def available_memory_bytes(held_bytes: int, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Memory that new processes may use without swapping; None if unknown.

    On systems other than Linux it is a share of the physical memory minus ``held_bytes``, regardless of other programs.
    """
    measured = measured_free_bytes(meminfo, cgroup)
    if measured is not None:
        return measured
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    return max(0, int(physical * USABLE_SHARE) - held_bytes)


def measured_free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Free memory by the kernel's own estimate and within a container's limit; None if the kernel does not report it."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    within = _free_within_limit(cgroup)
    return free_bytes if within is None else min(free_bytes, within)


def _free_within_limit(cgroup: Path) -> int | None:
    """Memory left within a cgroup's limit; None without a limit or cgroup v2.

    The cgroup counts page cache as used although it is reclaimed on demand; as in the kernel's own estimate it counts
    as free here, so that hashing a checkpoint does not prevent loading it.
    """
    try:
        limit_bytes = int((cgroup / "memory.max").read_text(encoding="ascii"))
        taken_bytes = int((cgroup / "memory.current").read_text(encoding="ascii"))
        entries = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        files_bytes = int(entries["inactive_file"]) + int(entries["active_file"])
    except (OSError, ValueError, KeyError):
        return None  # also `max`, which is not a number
    return max(0, limit_bytes - max(0, taken_bytes - files_bytes))
