"""Files that LeanVibe stores on this machine, by name. Nothing else is ever removed."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["BACKUP", "Remains", "find_remains", "remove", "unknown_files"]

DATA, MODEL, CACHE, BACKUP = "data", "models", "cache", "backup"
_DATA_FILES = {
    "leanvibe.sqlite3": DATA,
    "leanvibe.sqlite3-wal": DATA,
    "leanvibe.sqlite3-shm": DATA,
    "leanvibe.sqlite3-journal": DATA,
    ".leanvibe.sqlite3.copy.*": DATA,
    "leanvibe.sqlite3.before-*": BACKUP,
    "*.backup": BACKUP,
    "server.json": DATA,
    "inspect.sock": DATA,
    "vapid.pem": DATA,
    "chat-history": DATA,
    "small-model-introduced": DATA,
}
_CACHE_FOLDERS = {"models": MODEL, "encoders": MODEL, "blas": CACHE, "machine-code": CACHE}
LOCK = "lock"
"""Of the data folder; removed last, since it is held meanwhile."""


@frozen
class Remains:
    """A file or folder made by LeanVibe."""

    path: Path
    kind: str
    """`data`, `models`, `cache` or `backup`."""
    bytes: int
    """Of it and all in it; a link counts as itself."""


def find_remains(data_folder: Path, cache_folder: Path) -> list[Remains]:
    """Return our files and folders that exist, without following links. Raises ``OSError``."""
    found = []
    for path in _entries(data_folder):
        kind = next((kind for name, kind in _DATA_FILES.items() if fnmatch.fnmatchcase(path.name, name)), None)
        # A folder of such a name is somebody else's.
        if kind is not None and not (path.is_dir() and not path.is_symlink()):
            found.append(Remains(path, kind, _size(path)))
    cached = (path for path in _entries(cache_folder) if path.name in _CACHE_FOLDERS)
    found += [Remains(path, _CACHE_FOLDERS[path.name], _size(path)) for path in cached]
    return found


def unknown_files(folder: Path, remains: list[Remains]) -> list[Path]:
    """Return other files in our folder, which are left in place."""
    known = {one.path for one in remains} | {folder / LOCK}
    return [path for path in _entries(folder) if path not in known]


def remove(one: Remains) -> None:
    """Remove it; of a link, the link. Raises ``OSError``."""
    if one.path.is_symlink() or not one.path.is_dir():
        one.path.unlink(missing_ok=True)
    else:
        # It opens folders without following links, so that none can be put in its way either.
        shutil.rmtree(one.path)


def _entries(folder: Path) -> Iterator[Path]:
    """In order; none of a folder that is a link or not there."""
    try:
        is_folder = stat.S_ISDIR(folder.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        yield from sorted(folder.iterdir())


def _size(path: Path) -> int:
    total = path.lstat().st_size
    if path.is_dir() and not path.is_symlink():
        for where, folders, files in os.walk(path):
            for name in (*folders, *files):
                total += (Path(where) / name).lstat().st_size
    return total
