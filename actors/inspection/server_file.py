"""`DATA/server.json`, by which clients and scripts find the running server, and the lock of the data folder.

If the disk is full, the file goes to a private runtime folder of this user. Any user can create a folder under `/tmp` first,
so a runtime folder is accepted only if it is no link, belongs to this user, and others can neither change nor replace it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
from attrs import asdict, frozen

__all__ = [
    "SERVER_FILE",
    "DataFolderBusy",
    "DataFolderUnsafe",
    "ServerFile",
    "can_make",
    "check_data_folder",
    "fallback_files",
    "forget_elsewhere",
    "inspection_socket_path",
    "is_locked",
    "is_private_file",
    "lock_data_folder",
    "read_server_file",
    "runtime_folders",
]

SERVER_FILE = "server.json"
LOCK_FILE = "lock"
LOCK_ATTEMPTS = 10
LOCK_PAUSE_SECONDS = 0.02
SOCKET_PATH_BYTES = 100
"""Some systems truncate Unix socket paths at about 104 bytes."""


class DataFolderBusy(Exception):
    """Another server holds the data folder. The text says which."""


class DataFolderUnsafe(Exception):
    """Other users may change the data folder. The text says who and what to do."""


@frozen(kw_only=True)
class ServerFile:
    """Content of `server.json`."""

    pid: int
    started_at: str
    """RFC 3339, UTC."""
    rest_url: str
    websocket_url: str
    """On the REST port; on a separate port if the server is ephemeral."""
    inspection_socket: str
    engine: str
    model: str
    """Name of the initial model."""
    model_folder: str | None = None
    """Its folder with links resolved; None for the mock engine."""
    worker_pid: int | None = None
    certificate: str | None = None
    """The server's certificate, PEM, if it uses TLS; commands on this machine trust no other."""

    def write(self, folder: Path) -> None:
        """Write with mode 0600 and rename into place, so that readers see either version as a whole."""
        self._write_to(folder / SERVER_FILE)

    def write_elsewhere(self, data_folder: Path) -> Path | None:
        """Write to a private folder because the data folder is full. Returns None if there is no such folder."""
        for path in fallback_files(data_folder):
            if can_make(path.parent):
                with contextlib.suppress(OSError):
                    self._write_to(path)
                    return path
        return None

    def _write_to(self, path: Path) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".server-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=2)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def read_server_file(folder: Path) -> ServerFile | None:
    """Return the server of this data folder, or None if none is running (a stale file does not count)."""
    # First, because a disk that takes nothing also keeps the file of a server that is gone.
    elsewhere = _read_elsewhere(folder)
    if elsewhere is not None:
        return elsewhere
    try:
        content: dict[str, Any] = json.loads((folder / SERVER_FILE).read_text(encoding="utf-8"))
        found = ServerFile(**content)
        with (folder / LOCK_FILE).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Held, but perhaps by a new server that has not written its own file yet.
                return found if int(lock.read(32) or b"0") == found.pid else None
    except (OSError, ValueError, TypeError):
        return None
    return None  # nobody holds the lock, so whoever wrote the file is gone


def _read_elsewhere(folder: Path) -> ServerFile | None:
    """Read the file that a server wrote elsewhere because its data folder was full. The server must be alive and hold the folder."""
    for path in fallback_files(folder):
        if not is_private_file(path):
            continue
        try:
            found = ServerFile(**json.loads(path.read_text(encoding="utf-8")))
            os.kill(found.pid, 0)
        except (OSError, ValueError, TypeError):
            continue
        if is_locked(folder):
            return found
    return None


def forget_elsewhere(data_folder: Path) -> None:
    """Remove the files that a server of this folder wrote elsewhere, once its own folder is current or the server is gone."""
    for path in fallback_files(data_folder):
        if is_private_file(path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """True if a server holds the folder, whether it is ready or still starting."""
    for path in (folder / LOCK_FILE, folder):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return False


def lock_data_folder(folder: Path) -> int:
    """Take the folder's exclusive lock, held until the descriptor is closed. Raises `DataFolderBusy` naming the holder.

    Raises `DataFolderUnsafe` for a folder in which other users could place files that the server trusts.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_data_folder(folder)
    descriptor = _open_lock(folder)
    if not _try_lock(descriptor):
        holder = _holder(descriptor)
        os.close(descriptor)
        who = f" (process {holder})" if holder else ""
        raise DataFolderBusy(
            f"{folder} is in use by another LeanVibe server{who}; stop it, or give this one another --data-dir"
        )
    # The lock is what counts. On a disk that takes nothing, others are only told less.
    with contextlib.suppress(OSError):
        pid = f"{os.getpid()}\n".encode("ascii")
        os.pwrite(descriptor, pid, 0)
        os.ftruncate(descriptor, len(pid))
    with contextlib.suppress(OSError):
        # What a killed server left behind names ports that are nobody's now.
        (folder / SERVER_FILE).unlink(missing_ok=True)
    forget_elsewhere(folder)
    return descriptor


def check_data_folder(folder: Path) -> None:
    """Raise `DataFolderUnsafe` for a folder in which other users could change files that the server trusts. Raises `OSError`."""
    found = folder.stat()
    if found.st_mode & 0o002:
        raise DataFolderUnsafe(
            f"the data folder {folder} can be changed by every user of this machine (mode {found.st_mode & 0o7777:04o}), and "
            f"with it conversations and tokens; run chmod 700 {folder}, or give another --data-dir"
        )
    # Root is in nobody's way, and in a container often finds folders of others.
    if found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise DataFolderUnsafe(
            f"the data folder {folder} belongs to another user, who could change what is in it; give another --data-dir"
        )


def _holder(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    except OSError:
        return ""  # the folder itself is locked


def _open_lock(folder: Path) -> int:
    try:
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
    try:
        return os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # A folder can be locked as well as a file.
        return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)


def _try_lock(descriptor: int) -> bool:
    """Take the exclusive lock, retrying briefly because `read_server_file` holds it for a moment to find the holder."""
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def inspection_socket_path(folder: Path) -> Path:
    """Return the path of the inspection socket.

    It is in the data folder, or in a private runtime folder if that path is too long or the disk full.
    """
    path = folder / "inspect.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and (not folder.exists() or os.access(folder, os.W_OK)):
        return path
    runtime = platformdirs.user_runtime_path("leanvibe")
    if len(os.fsencode(runtime)) > SOCKET_PATH_BYTES - 24 or not can_make(runtime):
        runtime = Path(tempfile.mkdtemp(prefix="leanvibe-"))
    return runtime / f"{os.getpid()}.sock"


def runtime_folders() -> Iterator[Path]:
    """Yield candidate runtime folders, best first. A service and a login shell may have different environments, so readers try all."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        # The system creates these for logged-in users; we create none. `Path.is_dir` would raise if access is forbidden,
        # as by systemd's ProtectHome=.
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
    """Yield the files that the server of this data folder may have written instead of its own on a full disk."""
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
