"""Whether one more model fits into memory: a pure rule, and what the machine has free."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "available_memory_bytes", "fits_alone", "fits_beside", "loading_bytes", "measured_free_bytes", "working_bytes",
]  # fmt: skip

MEBIBYTE = 1024 * 1024
PROCESS_BYTES = 256 * MEBIBYTE
"""Interpreter, libraries and MLX's pool of a worker, beside its weights."""
LOADING_FACTOR = 1.2
"""Peak of memory over weights while a CPU's float32 is made of what the files hold: measured, and an upper bound that
`test_a_model_is_in_memory_once_while_it_is_loaded_and_looked_at` holds the loader to."""
CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its own limits (cgroup v2)."""
USABLE_SHARE = 0.7
"""Of physical memory, where the system does not say what is free."""


def loading_bytes(weights_bytes: int) -> int:
    """The most that weights of that size take while they are loaded on a CPU."""
    return int(weights_bytes * LOADING_FACTOR)


def working_bytes(weights_bytes: int) -> int:
    """What a worker with these weights takes before its first row, at most."""
    return loading_bytes(weights_bytes) + PROCESS_BYTES


def fits_beside(weights_bytes: int, held_bytes: int, *, bound_bytes: int, free_bytes: int | None) -> bool:
    """Whether a model may be loaded while ``held_bytes`` of weights stay loaded.

    A bound above zero limits all weights together and nothing else is asked; without one it is what the machine has free,
    and where that is unknown (None) the answer is yes.
    """
    if bound_bytes:
        return weights_bytes + held_bytes <= bound_bytes
    return free_bytes is None or working_bytes(weights_bytes) <= free_bytes


def fits_alone(weights_bytes: int, held_bytes: int, *, bound_bytes: int, free_bytes: int | None) -> bool:
    """Whether it could be loaded once ``held_bytes`` of other weights are given back."""
    if bound_bytes:
        return weights_bytes <= bound_bytes
    return free_bytes is None or working_bytes(weights_bytes) <= free_bytes + held_bytes


def available_memory_bytes(held_bytes: int, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """What new processes may take without swapping; None where nothing is known.

    Elsewhere than on Linux it is a share of the physical memory, less ``held_bytes``, whatever other programs hold.
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
    """What is free by the kernel's own estimate and within a container's limit; None where the kernel does not tell."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    within = _free_within_limit(cgroup)
    return free_bytes if within is None else min(free_bytes, within)


def _free_within_limit(cgroup: Path) -> int | None:
    """What the limit of a cgroup leaves; None where there is no limit, or no cgroup v2.

    Pages of files count as taken there and are given back when memory is wanted, as in the kernel's estimate: a checkpoint
    that was just hashed must not stand in its own way.
    """
    try:
        limit_bytes = int((cgroup / "memory.max").read_text(encoding="ascii"))
        taken_bytes = int((cgroup / "memory.current").read_text(encoding="ascii"))
        entries = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        files_bytes = int(entries["inactive_file"]) + int(entries["active_file"])
    except (OSError, ValueError, KeyError):
        return None  # also `max`, which is no number
    return max(0, limit_bytes - max(0, taken_bytes - files_bytes))
