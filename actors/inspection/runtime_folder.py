"""Private folders of this user outside the data folder, for what a server must put somewhere while its disk takes nothing.

Any user of the machine can make a folder under `/tmp` first. So a folder counts only if it is no link, belongs to this user and
can be changed by nobody else, and if nobody else can replace it.
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
    """Candidates, the best first. A service and a login shell may differ in their environment, so readers try all."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        # The system makes these for who is logged in; we make none.
        if parent and Path(parent).is_dir():
            yield Path(parent) / "leanvibe"
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  checked by `can_make` and `is_private`
        yield Path(parent) / f"leanvibe-{os.geteuid()}"


def can_make(folder: Path) -> bool:
    """Whether there is, or can be, such a folder that is ours alone: whoever may write there may answer in our place."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return is_private(folder) and os.access(folder, os.W_OK)


def is_private(folder: Path) -> bool:
    """Whether only this user, and root, can change what is in the folder, or put another in its place."""
    try:
        found = folder.lstat()
        above = folder.parent.stat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    is_in_good_hands = above.st_uid in (os.geteuid(), 0) and (not above.st_mode & 0o002 or above.st_mode & stat.S_ISVTX)
    return bool(is_ours and is_in_good_hands)


def fallback_files(data_folder: Path) -> Iterator[Path]:
    """Where the server of this data folder may have said where it listens, because its own folder takes nothing."""
    digest = hashlib.sha256(os.fsencode(data_folder.resolve())).hexdigest()[:16]
    seen = set()
    for folder in runtime_folders():
        if folder not in seen:
            seen.add(folder)
            yield folder / f"server-{digest}.json"


def is_private_file(path: Path) -> bool:
    """Whether it is a file of this user that nobody else can read or change, in a folder of which the same is true."""
    try:
        found = path.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return is_ours and is_private(path.parent)
