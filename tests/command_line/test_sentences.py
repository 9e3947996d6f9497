"""Wrong places and wrong addresses: each is a sentence that says what to do, and none a stack."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from actors.inspection import server_file
from actors.inspection.server_file import DataFolderUnsafe, inspection_socket_path, lock_data_folder
from actors.storage.database import database_url
from actors.storage.errors import DatabaseUnusable
from actors.storage.schema import prepare_database
from tests.system.serving_process import REPOSITORY, environment

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("", "not a database URL"),
        (f"postgresql://me:{SECRET}@host:port/x", "not a database URL"),
        (f"postgresql://me:{SECRET}@[::1/x", "not a database URL"),
        (f"mysql://me:{SECRET}@host/x", "not mysql://"),
        ("postgres://host/x", "may begin with postgresql://"),
        ("postgresql+asyncpg://host/x", "no other driver"),
        ("sqlite+pysqlcipher:////x", "no other driver"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:////x?mode=ro&uri=true", "no options"),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/x", "check that PostgreSQL runs there"),
        (f"postgresql://127.0.0.1:1/x?password={SECRET}", "check that PostgreSQL runs there"),
        ("sqlite:////proc/nowhere/x", "cannot be created"),
        ("sqlite:////", "cannot be used"),
        (f"sqlite:///{__file__}", "is not a database"),
    ],
)
def test_op_a_wrong_database_is_a_sentence_without_its_password(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match=said) as refused:
        prepare_database(database_url(url, tmp_path))
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_op_a_data_folder_that_others_may_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for mode in (0o777, 0o1777, 0o702):
        folder.chmod(mode)
        with pytest.raises(DataFolderUnsafe, match=f"mode {mode:04o}.*chmod 700"):
            lock_data_folder(folder)
    for mode in (0o700, 0o750, 0o755, 0o775):
        folder.chmod(mode)
        os.close(lock_data_folder(folder))
    found = folder.stat()
    # As somebody who is neither its owner nor root.
    monkeypatch.setattr(server_file.os, "geteuid", lambda: found.st_uid + 1)
    if found.st_uid == 0:
        os.chown(folder, 12_345, -1)
    with pytest.raises(DataFolderUnsafe, match="belongs to another user"):
        lock_data_folder(folder)


@pytest.mark.parametrize("fault", ["another's", "open to all", "a link", "in an open folder"])
def test_op_a_runtime_folder_in_which_others_may_write_is_not_used(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path("/tmp") / f"leanvibe-test-{os.getpid()}" / "leanvibe"
    runtime.mkdir(mode=0o700, parents=True)
    try:
        match fault:
            case "another's":
                monkeypatch.setattr(server_file.os, "geteuid", lambda: runtime.stat().st_uid + 1)
            case "open to all":
                runtime.chmod(0o777)
            case "a link":
                runtime.rmdir()
                runtime.symlink_to(tmp_path)
            case "in an open folder":
                runtime.parent.chmod(0o777)
        monkeypatch.setattr(server_file.platformdirs, "user_runtime_path", lambda _: runtime)
        path = inspection_socket_path(Path("/tmp") / ("d" * 90))
        assert path.parent != runtime
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.parent.rmdir()
    finally:
        if runtime.is_symlink():
            runtime.unlink()
        else:
            runtime.rmdir()
        runtime.parent.rmdir()


@pytest.mark.integration
def test_op_a_current_folder_that_was_removed_is_a_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    command = [sys.executable, "-m", "actors.command_line.main", "status"]
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(gone), *command],
        env={**environment(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "leanvibe: the current folder has been removed; change to another one (cd ~) and try again\n"
