"""Fixtures of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from actors.notifications.delivery_rules import may_become
from actors.storage.database import open_engine
from protocol.notifications import DeliveryState
from tests.database_fixture import connection, database, database_engine, fresh_database
from tests.notifications.push_services import PushServices, push_services
from tests.notifications.store_kit import Service
from tests.postgresql_fixture import fresh_postgresql_database
from tests.server_fixture import engineless_server, server

__all__ = ["connection", "database", "database_engine", "engineless_server", "server", "service", "services"]


_NOTE_STEPS = {
    "sqlite": """
        CREATE TRIGGER note_step AFTER UPDATE OF state ON notification_deliveries WHEN old.state != new.state
        BEGIN INSERT INTO steps VALUES (old.state, new.state); END
    """,
    "postgresql": """
        CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO steps VALUES (old.state, new.state); RETURN NULL; END $$;
        CREATE TRIGGER note_step AFTER UPDATE OF state ON notification_deliveries FOR EACH ROW
        WHEN (old.state != new.state) EXECUTE FUNCTION note_step()
    """,
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def either_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Yield the writing engine of a migrated database of each kind."""
    is_sqlite = request.param == "sqlite"
    engine = open_engine(fresh_database(tmp_path) if is_sqlite else fresh_postgresql_database(), writes=True)
    if is_sqlite:
        # Durability across power failures is tested in storage; here it would only take time.
        raw = engine.raw_connection()
        raw.cursor().execute("PRAGMA synchronous=OFF")
        raw.close()
    yield engine
    engine.dispose()


@pytest.fixture
def service(either_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Yield the service's store; at the end, every transition of every delivery must have been an allowed one."""
    with either_engine.begin() as opened:
        opened.execute(text("CREATE TABLE steps (before TEXT, after TEXT)"))
        opened.execute(text(_NOTE_STEPS[either_engine.dialect.name]))
    yield Service(either_engine, monkeypatch)
    with either_engine.begin() as opened:
        for before, after in opened.execute(text("SELECT DISTINCT before, after FROM steps")):
            assert may_become(DeliveryState(before), DeliveryState(after)), f"{before} became {after}"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[PushServices]:
    """Run stand-ins of push services. At the end they must have found nothing wrong with the requests."""
    folder = tmp_path / "services"
    folder.mkdir()
    async with push_services(folder) as running:
        yield running
    assert running.problems == []
