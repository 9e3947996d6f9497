"""A migrated SQLite database for tests of stores: made once, copied for each test."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from actors.storage.database import database_url, open_engine
from actors.storage.schema import prepare_database

__all__ = ["connection", "database", "database_engine", "fresh_database"]


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="leanvibe-test-database-"))
    url = database_url(None, folder)
    prepare_database(url)
    return Path(str(url.database))


def fresh_database(folder: Path) -> URL:
    """A migrated database of its own in ``folder``, quicker than migrating it there."""
    url = database_url(None, folder)
    shutil.copyfile(_template(), Path(str(url.database)))
    return url


@pytest.fixture
def database(tmp_path: Path) -> URL:
    """A migrated, empty database."""
    return fresh_database(tmp_path)


@pytest.fixture
def database_engine(database: URL) -> Iterator[Engine]:
    """The writing engine of a migrated database."""
    engine = open_engine(database, writes=True)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(database_engine: Engine) -> Iterator[Connection]:
    """One write transaction, rolled back at the end."""
    with database_engine.connect() as opened:
        yield opened
