"""Progress display of a soak test."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["progress", "seconds_progress"]


class _Asking(Progress):
    """Polls the progress each time it is drawn, which rich does in a separate thread."""

    done: Callable[[], float] = staticmethod(lambda: 0.0)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            task.completed = int(self.done())
        return super().get_renderables()


@contextmanager
def progress(what: str, total: float, done: Callable[[], float]) -> Iterator[None]:
    """A bar on standard error while the block runs; nothing where that is no terminal.

    ``done`` is called in another thread, a few times a second: it should only read a number.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:g}/{task.total:g}"))
    bar = _Asking(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not sys.stderr.isatty())
    bar.done = done
    with bar:
        bar.add_task(what, total=total)
        yield


@contextmanager
def seconds_progress(what: str, seconds: float) -> Iterator[None]:
    """The same for what lasts so many seconds."""
    began = time.monotonic()
    with progress(f"{what}, seconds", round(seconds), lambda: min(seconds, time.monotonic() - began)):
        yield
