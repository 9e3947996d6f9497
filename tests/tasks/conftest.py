"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actors.storage.database import open_engine
from tests.database_fixture import connection, database, database_engine, fresh_database
from tests.postgresql_fixture import fresh_postgresql_database
from tests.server_fixture import engineless_server, server
from tests.tasks.board_kit import BoardStore

__all__ = ["board", "connection", "database", "database_engine", "either_database", "engineless_server", "server"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def either_database(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A migrated database, of each kind."""
    return fresh_database(tmp_path) if request.param == "sqlite" else fresh_postgresql_database()


@pytest.fixture
def board(either_database: URL) -> Iterator[BoardStore]:
    """The tasks service's store in one write transaction, on each kind of database."""
    engine = open_engine(either_database, writes=True)
    with engine.connect() as opened, opened.begin():
        yield BoardStore(opened)
    engine.dispose()
