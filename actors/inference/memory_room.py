"""Whether one more model fits into memory: a pure rule, and what the machine has free."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory_bytes", "fits_alone", "fits_beside", "working_bytes"]

MEBIBYTE = 1024 * 1024
PROCESS_BYTES = 256 * MEBIBYTE
"""Interpreter, libraries and MLX's pool of a worker, beside its weights."""
USABLE_SHARE = 0.7
"""Of physical memory, where the system does not say what is free."""


def working_bytes(weights_bytes: int) -> int:
    """What a worker with these weights takes before its first row."""
    return weights_bytes + weights_bytes // 10 + PROCESS_BYTES


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


def available_memory_bytes(held_bytes: int, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What new processes may take without swapping, by the kernel's own estimate; None where nothing is known.

    Elsewhere than on Linux it is a share of the physical memory, less ``held_bytes``.
    """
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    return max(0, int(physical * USABLE_SHARE) - held_bytes)
