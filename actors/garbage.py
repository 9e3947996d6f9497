"""No collections while a process starts: what it imports and reads stays, and looking through it takes a fifth of a start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collect_rarely", "pause_collections", "resume_collections", "without_collections"]

_USUAL = gc.get_threshold()
OBJECTS = 50_000
"""Made and not freed again, between two looks of a program that imports and reads most of its time. Python's own 700 are
for one that works: a whole start is looked through a hundred times then."""


def pause_collections() -> None:
    """Look for no cycles from now on."""
    gc.disable()


def collect_rarely() -> None:
    """Look for cycles seldom enough that a start does not notice, and often enough for what goes on for hours."""
    gc.set_threshold(OBJECTS)


def resume_collections() -> None:
    """Look for them as usual again, among what is made from now on: all that is there already stays."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
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
