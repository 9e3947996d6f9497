"""Private folders outside the data folder, for files that a server must write while the disk of its data folder is full.

Any user of the machine can create a folder under `/tmp` first. So a folder counts only if it is not a link, belongs to this
user, and can be neither changed nor replaced by others.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["can_make", "fallback_files", "is_private_file", "runtime_folders"]


def runtime_folders() -> Iterator[Path]:
    """Yield candidates, best first. A service and a login shell may have different environments, so readers try all."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        # The system makes these for who is logged in; we make none. `Path.is_dir` would raise where the way there is forbidden,
        # as systemd's ProtectHome= does.
        if parent and os.path.isdir(parent):  # noqa: PTH112
            yield Path(parent) / "leanvibe"
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  checked by `can_make` and `is_private`
        yield Path(parent) / f"leanvibe-{os.geteuid()}"


def can_make(folder: Path) -> bool:
    """True if the folder is, or can be created, private: anyone who can write there could impersonate the server."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return is_private(folder) and os.access(folder, os.W_OK)


def is_private(folder: Path) -> bool:
    """True if only this user and root can change or replace the folder."""
    try:
        found = folder.lstat()
        above = folder.parent.stat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    is_in_good_hands = above.st_uid in (os.geteuid(), 0) and (not above.st_mode & 0o002 or above.st_mode & stat.S_ISVTX)
    return bool(is_ours and is_in_good_hands)


def fallback_files(data_folder: Path) -> Iterator[Path]:
    """Yield the files in which the server of this data folder may have written its address while its own folder was full."""
    digest = hashlib.sha256(os.fsencode(data_folder.resolve())).hexdigest()[:16]
    seen = set()
    for folder in runtime_folders():
        if folder not in seen:
            seen.add(folder)
            yield folder / f"server-{digest}.json"


def is_private_file(path: Path) -> bool:
    """True if the file belongs to this user and others can neither read nor change it or its folder."""
    try:
        found = path.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return is_ours and is_private(path.parent)
