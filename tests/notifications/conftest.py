"""Fixtures of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from actors.notifications.delivery_rules import may_become
from protocol.notifications import DeliveryState
from tests.database_fixture import connection, database, database_engine
from tests.notifications.push_services import PushServices, push_services
from tests.notifications.store_kit import Room
from tests.server_fixture import engineless_server, server

__all__ = ["connection", "database", "database_engine", "engineless_server", "room", "server", "services"]


@pytest.fixture
def room(database_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The room's store; at the end, every step that any delivery took must have been an allowed one."""
    # What happens when the power fails is storage's to test; here it only takes time.
    raw = database_engine.raw_connection()
    raw.cursor().execute("PRAGMA synchronous=OFF")
    raw.close()
    with database_engine.begin() as opened:
        opened.execute(text("CREATE TABLE steps (before TEXT, after TEXT)"))
        opened.execute(
            text(
                "CREATE TRIGGER note_step AFTER UPDATE OF state ON notification_deliveries WHEN old.state != new.state "
                "BEGIN INSERT INTO steps VALUES (old.state, new.state); END"
            )
        )
    yield Room(database_engine, monkeypatch)
    with database_engine.begin() as opened:
        for before, after in opened.execute(text("SELECT DISTINCT before, after FROM steps")):
            assert may_become(DeliveryState(before), DeliveryState(after)), f"{before} became {after}"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[PushServices]:
    """Stand-ins of push services that found nothing wrong with what they were sent."""
    folder = tmp_path / "services"
    folder.mkdir()
    async with push_services(folder) as running:
        yield running
    assert running.problems == []
