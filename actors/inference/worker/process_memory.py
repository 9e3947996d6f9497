"""Resident memory of this process, measured."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["resident_bytes"]


def resident_bytes() -> float:
    """Bytes resident now (Linux), or the peak so far where the system tells no more (macOS)."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        return float(int(statistics.read_text(encoding="ascii").split()[1]) * resource.getpagesize())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
