"""No log holds a client's text, whatever the database reports about it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from actors.logging import configure_logging
from actors.storage.messages import Operation, Outcome, Query
from runtime import HandlerFailed
from tests.storage_service import storage_service

SECRET = "what-a-client-said"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lack_the_rest(connection: Connection, said: str) -> Outcome[None]:
    """Insert a row without its required columns: PostgreSQL's error shows the row."""
    connection.execute(text("INSERT INTO client_logs (client_id) VALUES (:said)"), {"said": said})
    return Outcome(value=None)


def ask_nonsense(connection: Connection, said: str) -> None:
    connection.execute(text("SELECT nothing FROM client_logs WHERE client_id = :said"), {"said": said})


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["pipe", "terminal"])
@pytest.mark.parametrize("kind", ["database", "postgresql_database"])
async def test_op_no_parameter_of_a_statement_stands_in_the_log(
    kind: str, stream: type[io.StringIO], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url: URL = request.getfixturevalue(kind)
    log = stream()
    monkeypatch.setattr("sys.stderr", log)
    configure_logging("debug")
    write = Operation("lack_the_rest", lack_the_rest, type(None))
    read: Query[Any, Any] = Query("ask_nonsense", ask_nonsense)
    async with storage_service(url, operations=(write,), queries=(read,)) as service:
        with pytest.raises(HandlerFailed):
            await service.storage.transact(write, SECRET, client_id="a")
        with pytest.raises(Exception, match="cannot be read"):
            await service.storage.read(read, SECRET)
    said = log.getvalue()
    assert "operation failed" in said
    assert "read failed" in said
    assert SECRET not in said
