"""`DATA/cli-token`: the token of this machine's command line, readable by the server's own user alone."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

__all__ = ["LOCAL_TOKEN_FILE", "read_local_token", "remove_local_token", "write_local_token"]

LOCAL_TOKEN_FILE = "cli-token"  # noqa: S105  a file name
MAXIMUM_BYTES = 256


def read_local_token(folder: Path) -> str | None:
    """Return the token, or None if the file is missing or other users could have read or written it."""
    try:
        with (folder / LOCAL_TOKEN_FILE).open("rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
                return None
            return file.read(MAXIMUM_BYTES).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_local_token(folder: Path, token: str) -> None:
    """Write the file with mode 0600 and rename it into place. Raises `OSError`."""
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".cli-token-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        Path(temporary).replace(folder / LOCAL_TOKEN_FILE)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_local_token(folder: Path) -> None:
    """Remove the file if it exists. Raises `OSError`."""
    path = folder / LOCAL_TOKEN_FILE
    # A read-only disk refuses to remove even a file that does not exist.
    if path.is_symlink() or path.exists():
        path.unlink(missing_ok=True)
