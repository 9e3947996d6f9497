"""No collections while a process starts: what it imports and reads stays, and looking through it takes a fifth of a start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pause_collections", "resume_collections", "without_collections"]


def pause_collections() -> None:
    """Look for no cycles from now on."""
    gc.disable()


def resume_collections() -> None:
    """Look for them again, among what is made from now on: all that is there already stays."""
    gc.freeze()
    gc.enable()


@contextmanager
def without_collections() -> Iterator[None]:
    """Look for no cycles in the block; then as before, for what was made in it too."""
    were_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if were_on:
            gc.enable()
