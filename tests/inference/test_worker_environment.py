"""The environment of a worker: the variables that it needs, and no password."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.child_environment import child_environment
from tests.server_fixture import running_server

SECRETS = {
    "LEANVIBE_DATABASE": "postgresql://me:s3cret@db/x",
    "LEANVIBE_TOKEN": "s3cret",
    "DATABASE_URL": "postgresql://me:s3cret@db/x",
    "PGPASSWORD": "s3cret",
    "OPENAI_API_KEY": "s3cret",
    "HF_TOKEN": "s3cret",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "GITHUB_TOKEN": "s3cret",
    "HTTPS_PROXY": "http://me:s3cret@proxy:3128",
    "HF_ENDPOINT": "https://me:s3cret@mirror",
    "PYTHONPATH_PASSWORD": "s3cret",
    "SOMETHING_ELSE": "s3cret",
}
NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/var/tmp",
    "OMP_NUM_THREADS": "1",
    "LD_LIBRARY_PATH": "/opt/cuda",
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_HOME": "/models",
    "NUMBA_CACHE_DIR": "/cache",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": "/src",
}


def test_op_the_environment_of_a_child_is_an_allow_list() -> None:
    assert child_environment({**SECRETS, **NEEDED}) == NEEDED


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs macOS's own way to read an environment")
async def test_op_a_worker_knows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    async with running_server(tmp_path, spare_worker="on") as server:
        pid = (await server.engine()).worker_pid
        environment = Path(f"/proc/{pid}/environ").read_bytes()  # noqa: ASYNC240  no file of a disk
    assert b"s3cret" not in environment
    assert b"PATH=" in environment
