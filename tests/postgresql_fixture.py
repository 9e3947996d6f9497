"""A private PostgreSQL cluster for tests: made once a run, on a Unix socket alone, as a user who is not root.

Import `postgresql_database` and `postgresql_engine` into a folder's `conftest.py`. Debian's package is enough; where
there is none the tests are skipped, which fails a run of CI.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from actors.storage.database import database_url, open_engine
from actors.storage.schema import prepare_database

__all__ = ["empty_postgresql_database", "fresh_postgresql_database", "postgresql_database", "postgresql_engine"]

START_SECONDS = 30.0
TEMPLATE = "migrated"
_numbers = itertools.count(1)


def _programs() -> Path | None:
    """Folder of `initdb` and `postgres`; Debian does not put it on the path."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@functools.cache
def _cluster() -> Path:
    """Folder of the socket of a running cluster, which ends with this process."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    # A short path: a Unix socket's may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="leanvibe-pg-", dir="/tmp"))
    who: dict[str, Any] = {}
    name = getpass.getuser()
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        name = "postgres" if _has_user("postgres") else "nobody"
        user = pwd.getpwnam(name)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
        check=True, capture_output=True, cwd="/", **who,
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off",
                "-c", "max_connections=50", "-c", "shared_buffers=32MB",
            ],
            stdout=log, stderr=log, cwd="/", **who,
        )  # fmt: skip

    def end() -> None:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    engine = sqlalchemy.create_engine(_url(folder, "postgres"), isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
            break
        except sqlalchemy.exc.OperationalError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
    engine.dispose()
    prepare_database(_url(folder, TEMPLATE))
    return folder


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _url(folder: Path, name: str) -> URL:
    return database_url(f"postgresql://tester@/{name}?host={folder}", folder)


def fresh_postgresql_database(template: str = TEMPLATE) -> URL:
    """A migrated database of its own."""
    folder = _cluster()
    name = f"test_{next(_numbers)}"
    engine = sqlalchemy.create_engine(_url(folder, "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return _url(folder, name)


def empty_postgresql_database() -> URL:
    """A database without any table."""
    return fresh_postgresql_database("template1")


@pytest.fixture
def postgresql_database() -> URL:
    """A migrated, empty database."""
    return fresh_postgresql_database()


@pytest.fixture
def postgresql_engine(postgresql_database: URL) -> Iterator[Engine]:
    """The writing engine of a migrated database."""
    engine = open_engine(postgresql_database, writes=True)
    yield engine
    engine.dispose()
