"""Imports structlog without rich, which it would load for tracebacks."""

from __future__ import annotations

import importlib
import sys

__all__ = ["import_structlog_alone"]


def import_structlog_alone() -> None:
    """Import structlog before any other import of it. rich takes a tenth of the start, and our logs never use it."""
    if "rich" in sys.modules:
        return
    # How Python is told that there is none.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
