"""A client that owns no rows frees its place, and no number of its old log is mistaken for one of a new log."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, insert, inspect, select

from actors.access.store import save_token
from actors.access.tokens import StoredToken
from actors.connections.log_cursor import LogCursor, Next, can_resume
from actors.connections.tables import acknowledgements
from actors.database_operations import PRUNERS, TABLES_OF_CLIENTS
from actors.errors import CommandError
from actors.inference.tables import generations
from actors.storage import log
from actors.storage.log import NOBODY, OPEN_LOG, LogPageQuery, append_events, begin_client, prune_log, read_page
from actors.storage.messages import LogEvent, LogPage
from actors.storage.tables import client_logs

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
EVENT = LogEvent(type="noted", channel="tasks", data={"text": "x"})


def prune(connection: Connection, now_ms: int = NOW_MS) -> int:
    """Prune. Returns the deleted clients."""
    gone = 0
    for pruner in PRUNERS:
        gone = pruner(connection, now_ms)
    return gone


def known(connection: Connection) -> set[str]:
    return set(connection.execute(select(client_logs.c.client_id)).scalars()) - {NOBODY}


def page_of(connection: Connection, client_id: str, after_seq: int = 0) -> LogPage:
    return read_page(connection, LogPageQuery(client_id=client_id, after_seq=after_seq))


def forget_log_of_five(connection: Connection, client_id: str) -> str:
    """Delete a log of five events. Returns its epoch."""
    append_events(connection, client_id, [EVENT] * 5, NOW_MS - 2 * DAY_MS)
    epoch = page_of(connection, client_id).epoch
    assert prune(connection) == 1
    assert client_id not in known(connection)
    return epoch


def test_every_table_that_names_clients_is_looked_at(connection: Connection) -> None:
    schema = inspect(connection)
    naming = {
        table
        for table in schema.get_table_names()
        if any(column["name"] == "client_id" for column in schema.get_columns(table))
    }
    assert {table.name for table in TABLES_OF_CLIENTS} == naming - {"client_logs"}


def test_places_that_invented_names_took_are_free_again(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAXIMUM_CLIENTS", 3)
    for name in "abc":
        begin_client(connection, name)
    with pytest.raises(CommandError):
        begin_client(connection, "me")
    assert prune(connection) == 3
    assert prune(connection) == 0
    begin_client(connection, "me")
    assert known(connection) == {"me"}


def test_a_database_that_is_over_full_is_emptied_in_bounded_parts(connection: Connection) -> None:
    rows = [{"client_id": f"invented-{number}", "epoch": "e", "head": 0} for number in range(1100)]
    connection.execute(insert(client_logs), rows)
    assert [prune(connection) for _ in range(4)] == [500, 500, 100, 0]


def test_a_client_with_a_row_anywhere_keeps_its_log(connection: Connection) -> None:
    for name in ("told", "confirmed", "generating", "bound", "gone"):
        begin_client(connection, name)
    append_events(connection, "told", [EVENT], NOW_MS - DAY_MS + 1)
    connection.execute(
        insert(acknowledgements).values(
            client_id="confirmed", device_id="d", stream="client", epoch="e", seq=1, time_ms=NOW_MS
        )
    )
    connection.execute(
        insert(generations).values(
            stream="s", client_id="generating", domain="d", request="{}", prompt_tokens=1, started_ms=NOW_MS
        )
    )
    save_token(
        connection,
        StoredToken(
            token_id="t",
            name="n",
            digest="0" * 64,
            client_ids=("bound",),
            roles=("user",),
            created_ms=NOW_MS,
            expires_ms=None,
            revoked_ms=None,
            is_local=False,
        ),
    )
    assert prune(connection) == 1
    assert known(connection) == {"told", "confirmed", "generating", "bound"}
    # A day after its last event, a log without any other rows is deleted as well.
    assert prune_log(connection, NOW_MS + 2) == 1
    assert prune(connection) == 1
    assert known(connection) == {"confirmed", "generating", "bound"}


def test_an_old_number_is_not_taken_for_one_of_the_log_that_was_begun_again(connection: Connection) -> None:
    old = forget_log_of_five(connection, "me")
    assert not can_resume(page_of(connection, "me", 5), old, 5)
    append_events(connection, "me", [EVENT] * 5, NOW_MS)
    for seq in range(12):
        assert not can_resume(page_of(connection, "me", seq), old, seq)
    assert page_of(connection, "me").epoch != old


def test_a_connection_that_stayed_over_the_end_of_the_log_passes_nothing_over(connection: Connection) -> None:
    cursor = LogCursor()
    cursor.begin(forget_log_of_five(connection, "me"), 5)
    (event,) = append_events(connection, "me", [EVENT], NOW_MS)
    # It reads and finds another log: it is closed, and asks for everything again.
    assert cursor.judge(event) is Next.READ
    assert not can_resume(page_of(connection, "me", cursor.seq), cursor.epoch, cursor.seq)


def test_who_comes_after_logs_went_is_told_all_from_where_it_stands(connection: Connection) -> None:
    forget_log_of_five(connection, "other")
    told = OPEN_LOG.function(connection, "me").value
    stands_at = page_of(connection, "me")
    assert stands_at.epoch == told
    (event,) = append_events(connection, "me", [EVENT], NOW_MS)
    assert event.seq == stands_at.head + 1
    page = page_of(connection, "me", stands_at.head)
    assert can_resume(page, told, stands_at.head)
    assert page.events == (event,)


def test_names_that_nothing_was_told_to_change_no_epoch_when_they_go(connection: Connection) -> None:
    forget_log_of_five(connection, "other")
    told = OPEN_LOG.function(connection, "me").value
    begin_client(connection, "invented")
    assert prune(connection) == 1
    assert OPEN_LOG.function(connection, "me").value == told
