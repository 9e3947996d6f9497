"""Fixtures of the stored responses' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from actors.storage.database import open_engine
from tests.database_fixture import fresh_database
from tests.postgresql_fixture import fresh_postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """A transaction on a new database of each kind."""
    url = fresh_database(tmp_path) if request.param == "sqlite" else fresh_postgresql_database()
    engine = open_engine(url, writes=True)
    with engine.begin() as opened:
        yield opened
    engine.dispose()
