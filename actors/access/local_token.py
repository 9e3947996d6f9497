"""`DATA/cli-token`: the token by which this machine's command line enters, readable by the server's own user alone."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

__all__ = ["LOCAL_TOKEN_FILE", "read_local_token", "remove_local_token", "write_local_token"]

LOCAL_TOKEN_FILE = "cli-token"  # noqa: S105  a file name
MAXIMUM_BYTES = 256


def read_local_token(folder: Path) -> str | None:
    """The token; None where there is none, or where others might have read or put it."""
    try:
        with (folder / LOCAL_TOKEN_FILE).open("rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
                return None
            return file.read(MAXIMUM_BYTES).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_local_token(folder: Path, token: str) -> None:
    """Rename into place, mode 0600 from its first moment. Raises `OSError`."""
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".cli-token-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        Path(temporary).replace(folder / LOCAL_TOKEN_FILE)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_local_token(folder: Path) -> None:
    """See to it that there is none. Raises `OSError`."""
    path = folder / LOCAL_TOKEN_FILE
    # A disk that is read-only refuses to remove what is not there, too.
    if path.is_symlink() or path.exists():
        path.unlink(missing_ok=True)
