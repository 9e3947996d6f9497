"""`server.json` and the lock: how a server is found, and why there is only one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors.inspection import server_file
from actors.inspection.server_file import (
    DataFolderBusy,
    ServerFile,
    forget_elsewhere,
    inspection_socket_path,
    lock_data_folder,
    read_server_file,
)

ABOUT = ServerFile(
    pid=os.getpid(),
    started_at="2026-01-01T00:00:00.000Z",
    rest_url="http://127.0.0.1:1",
    websocket_url="ws://127.0.0.1:2/ws",
    inspection_socket="/nowhere",
    engine="mock",
    model="mock",
)


def test_a_running_server_is_found_by_its_file(tmp_path: Path) -> None:
    lock = lock_data_folder(tmp_path)
    ABOUT.write(tmp_path)
    assert read_server_file(tmp_path) == ABOUT
    attrs.evolve(ABOUT, worker_pid=7).write(tmp_path)
    found = read_server_file(tmp_path)
    assert found is not None
    assert found.worker_pid == 7
    os.close(lock)


def test_the_file_of_a_server_that_is_gone_counts_as_none(tmp_path: Path) -> None:
    os.close(lock_data_folder(tmp_path))
    ABOUT.write(tmp_path)
    assert read_server_file(tmp_path) is None


def test_the_file_of_another_than_the_lock_holder_counts_as_none(tmp_path: Path) -> None:
    lock = lock_data_folder(tmp_path)
    attrs.evolve(ABOUT, pid=1).write(tmp_path)
    assert read_server_file(tmp_path) is None
    os.close(lock)


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "{}", '{"pid": 1}', '{"colour": 1}', "5", "\udcff"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    lock = lock_data_folder(tmp_path)
    (tmp_path / "server.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_server_file(tmp_path) is None
    os.close(lock)


def test_a_folder_that_is_not_there_has_no_server(tmp_path: Path) -> None:
    assert read_server_file(tmp_path / "nowhere") is None


def test_the_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    ABOUT.write(tmp_path)
    path = tmp_path / "server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat().st_ino
    ABOUT.write(tmp_path)
    assert path.stat().st_ino != before
    assert [one.name for one in tmp_path.iterdir()] == ["server.json"]
    assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_the_data_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    lock = lock_data_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600
    os.close(lock)


def test_a_second_server_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    lock = lock_data_folder(tmp_path)
    with pytest.raises(DataFolderBusy) as caught:
        lock_data_folder(tmp_path)
    assert f"process {os.getpid()}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    os.close(lock)
    os.close(lock_data_folder(tmp_path))


def test_taking_the_lock_forgets_what_a_killed_server_left(tmp_path: Path) -> None:
    ABOUT.write(tmp_path)
    lock = lock_data_folder(tmp_path)
    assert not (tmp_path / "server.json").exists()
    os.close(lock)


def test_whoever_looks_for_a_server_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    """A reader holds the lock for a moment, to see whether anyone else does; that is no other server."""
    import fcntl

    os.close(lock_data_folder(tmp_path))
    reader = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [reader]).start()
    os.close(lock_data_folder(tmp_path))


def test_the_socket_lies_in_the_data_folder(tmp_path: Path) -> None:
    short = Path("/tmp/x")
    assert inspection_socket_path(short) == short / "inspect.sock"


def test_a_long_path_moves_to_a_private_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Path("/tmp") / f"leanvibe-test-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setattr(server_file.platformdirs, "user_runtime_path", lambda _: runtime)
    path = inspection_socket_path(Path("/tmp") / ("d" * 90))
    assert path.parent == runtime
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert len(os.fsencode(path)) <= 100
    runtime.rmdir()


def test_where_no_runtime_folder_can_be_made_a_private_temporary_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_file.platformdirs, "user_runtime_path", lambda _: Path("/proc/nowhere"))
    path = inspection_socket_path(Path("/tmp") / ("d" * 90))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(path)) <= 100
    path.parent.rmdir()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The first private folder outside the data folder that a server may take."""
    above = Path("/tmp") / f"leanvibe-test-{os.getpid()}-{time.monotonic_ns()}"
    above.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(above))
    yield above / "leanvibe"
    shutil.rmtree(above, ignore_errors=True)


def test_op_a_server_whose_folder_takes_nothing_is_found_by_a_private_file_elsewhere(
    tmp_path: Path, runtime: Path
) -> None:
    lock = lock_data_folder(tmp_path)
    # As a disk that became read-only has it: the file of a server that was killed, and its number in the lock.
    attrs.evolve(ABOUT, rest_url="http://127.0.0.1:9").write(tmp_path)
    path = ABOUT.write_elsewhere(tmp_path)
    assert path is not None
    assert path.parent == runtime
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(runtime.stat().st_mode)) == (0o600, 0o700)
    assert read_server_file(tmp_path) == ABOUT
    assert read_server_file(tmp_path / "another") is None
    forget_elsewhere(tmp_path)
    assert not path.exists()
    ABOUT.write_elsewhere(tmp_path)
    os.close(lock)
    assert read_server_file(tmp_path) is None, "nobody holds the folder"
    os.close(lock_data_folder(tmp_path))
    assert not path.exists(), "the next server forgets it"


@pytest.mark.parametrize("how", ["others read it", "others write beside it", "a link", "of a dead process", "nonsense"])
def test_op_a_file_elsewhere_that_others_may_have_made_counts_as_none(tmp_path: Path, runtime: Path, how: str) -> None:
    lock = lock_data_folder(tmp_path)
    gone = subprocess.Popen(["true"])
    gone.wait()
    about = attrs.evolve(ABOUT, pid=gone.pid) if how == "of a dead process" else ABOUT
    path = about.write_elsewhere(tmp_path)
    assert path is not None
    match how:
        case "others read it":
            path.chmod(0o644)
        case "others write beside it":
            runtime.chmod(0o777)
        case "a link":
            path.rename(tmp_path / "mine.json")
            path.symlink_to(tmp_path / "mine.json")
        case "nonsense":
            path.write_text("{", encoding="utf-8")
    assert read_server_file(tmp_path) is None
    os.close(lock)


def test_op_without_any_private_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setattr(server_file, "runtime_folders", lambda: iter([Path("/proc/nowhere"), tmp_path / "open"]))
    assert ABOUT.write_elsewhere(tmp_path) is None
    assert list((tmp_path / "open").iterdir()) == []


def test_sv16_a_runtime_folder_that_is_forbidden_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(closed / "run"))
    closed.chmod(0)
    me, somebody = os.geteuid(), 65534
    if me == 0:
        # To root nothing is forbidden.
        os.seteuid(somebody)
    try:
        with pytest.raises(PermissionError):
            (closed / "run").stat()
        found = list(server_file.runtime_folders())
    finally:
        os.seteuid(me)
        closed.chmod(0o700)
    assert closed / "run" / "leanvibe" not in found
    assert found
