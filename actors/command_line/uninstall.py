"""`leanvibe uninstall`: show what is on disk, and remove it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from attrs import evolve

from actors.command_line.options import data_dir_option, fail, settings_from
from actors.command_line.printing import print_json, print_line
from actors.command_line.remains import BACKUP, LOCK, Remains, find_remains, remove, unknown_files
from actors.command_line.service_managers import Launchd, Systemd
from actors.inspection.server_file import DataFolderBusy, DataFolderUnsafe, lock_data_folder
from actors.settings import Settings

__all__ = ["uninstall"]


@click.command()
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--backups", is_flag=True, help="Remove backups and copies of the database in the data folder, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; without --yes it only lists.")
def uninstall(data_dir: Path | None, config: Path | None, backups: bool, yes: bool, as_json: bool) -> None:
    """Show what LeanVibe keeps on disk, and remove it: conversations, tasks, tokens, models and compiled kernels.

    Backups in the data folder are kept unless --backups is given. Files that LeanVibe did not make are kept, and links are not followed.
    A database in PostgreSQL stays. The program itself is removed by what installed it.

    Example: leanvibe uninstall
    """
    settings = settings_from(data_dir=data_dir, config=config)
    settings = evolve(settings, data_dir=settings.data_dir.absolute(), cache_dir=settings.cache_dir.absolute())
    _check(settings)
    try:
        everything = find_remains(settings.data_dir, settings.cache_dir)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}")
    chosen = [one for one in everything if backups or one.kind != BACKUP]
    kept = [one.path for one in everything if one not in chosen]
    kept += [path for folder in _folders(settings) for path in unknown_files(folder, everything)]
    removed: list[Path] = []
    if not as_json:
        _show(chosen, kept, settings)
    if chosen and not as_json and not yes:
        click.confirm("Remove all of it? This cannot be undone", abort=True)
    if chosen and (yes or not as_json):
        removed = _remove(chosen, settings, keeps_folder=bool(kept))
    if as_json:
        listed = [{"path": str(one.path), "kind": one.kind, "bytes": one.bytes} for one in chosen]
        print_json({"found": listed, "removed": [str(one) for one in removed], "kept": [str(one) for one in kept]})
        return
    if removed:
        print_line(f"removed {len(removed)} entries")
    print_line(f"the program is removed by what installed it: {_program_removal()}")


def _check(settings: Settings) -> None:
    """End the command if something must be done first, or a link must not be followed."""
    managers = [Launchd()] if sys.platform == "darwin" else [Systemd(is_system=False), Systemd(is_system=True)]
    for manager in managers:
        if manager.all_files()[0].exists():
            word = " --system" if manager.is_system else ""
            fail(f"the service is installed; remove it first: leanvibe service uninstall{word}")
    for folder in _folders(settings):
        if folder.is_symlink():
            fail(
                f"{folder} is a link to {folder.readlink()}, and links are not followed; "
                "name the folder itself (--data-dir, LEANVIBE_CACHE_DIR)"
            )


def _folders(settings: Settings) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((settings.data_dir, settings.cache_dir)))


def _show(chosen: list[Remains], kept: list[Path], settings: Settings) -> None:
    for one in chosen:
        print_line(f"{one.kind}\t{_size(one.bytes)}\t{one.path}")
    for path in kept:
        print_line(f"kept\t\t{path}")
    if settings.database is not None:
        print_line("kept\t\tthe PostgreSQL database that the settings name")
    if not chosen:
        print_line(f"nothing of LeanVibe is in {' or '.join(map(str, _folders(settings)))}")


def _size(number: int) -> str:
    return f"{number / 2**20:.1f} MiB" if number >= 2**20 else f"{-(-number // 2**10)} KiB"


def _remove(chosen: list[Remains], settings: Settings, *, keeps_folder: bool) -> list[Path]:
    """Remove the listed files under the lock of the data folder; an error says what was removed before it."""
    removed: list[Path] = []
    with _stopped(settings):
        for one in chosen:
            try:
                remove(one)
            except OSError as error:
                fail(
                    f"{error.filename or one.path} cannot be removed: {error.strerror}; {len(removed)} entries were removed before"
                )
            removed.append(one.path)
        (settings.data_dir / LOCK).unlink(missing_ok=True)
    for folder in _folders(settings):
        # Only where nothing is left in it.
        with suppress(OSError):
            folder.rmdir()
    return removed


@contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """No server runs on the data folder for the block."""
    if not settings.data_dir.exists():
        yield
        return
    try:
        lock = lock_data_folder(settings.data_dir)
    except (DataFolderBusy, DataFolderUnsafe) as error:
        fail(str(error))
    except OSError as error:
        fail(f"the data folder {settings.data_dir} cannot be used: {error.strerror}")
    try:
        yield
    finally:
        os.close(lock)


def _program_removal() -> str:
    """The command that fits the place where the program lies."""
    place = Path(sys.prefix)
    if "pipx" in place.parts:
        return "pipx uninstall leanvibe"
    if {"uv", "tools"} <= set(place.parts):
        return "uv tool uninstall leanvibe"
    return f"{shlex.quote(sys.executable)} -m pip uninstall leanvibe"
