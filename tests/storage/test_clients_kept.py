"""Rows of clients without data: made-up client ids cannot fill a disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from actors.connections.log_cursor import can_resume
from actors.errors import CommandError
from actors.storage import log
from actors.storage.log import OPEN_LOG, LogPageQuery, append_events, begin_client, read_page
from actors.storage.messages import LogEvent, Operation, Outcome
from actors.storage.tables import client_logs, events
from protocol.errors import ErrorCode
from tests.database_fixture import fresh_database
from tests.storage_service import storage_service

NOW_MS = 1_800_000_000_000
EVENT = LogEvent(type="noted", channel="tasks", data={"text": "x"})


def epoch_read(connection: Connection, client_id: str) -> str:
    page = read_page(connection, LogPageQuery(client_id=client_id, after_seq=0))
    assert (page.head, page.oldest, page.events) == (0, 1, ())
    return page.epoch


def rows(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(client_logs)).scalar_one())


def test_a_client_that_was_only_here_leaves_nothing(connection: Connection) -> None:
    assert epoch_read(connection, "me") == ""
    names = [f"invented-{number}" for number in range(1000)]
    told = [OPEN_LOG.function(connection, name).value for name in names]
    # One row, from which all their epochs are derived.
    assert rows(connection) == 1
    assert [epoch_read(connection, name) for name in names] == told
    assert len(set(told)) == len(names)


def test_a_log_begins_with_the_epoch_that_was_told_before(connection: Connection) -> None:
    told = OPEN_LOG.function(connection, "me").value
    append_events(connection, "me", [EVENT], NOW_MS)
    page = read_page(connection, LogPageQuery(client_id="me", after_seq=0))
    assert (page.epoch, page.head) == (told, 1)
    assert OPEN_LOG.function(connection, "me").value == told
    assert rows(connection) == 2


def test_another_database_has_other_epochs(connection: Connection) -> None:
    told = OPEN_LOG.function(connection, "me").value
    connection.execute(client_logs.delete())
    assert OPEN_LOG.function(connection, "me").value != told


def test_a_copy_from_before_a_log_began_gives_it_another_epoch(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    OPEN_LOG.function(connection, "me")
    copy = connection.execute(client_logs.select()).mappings().all()
    append_events(connection, "me", [EVENT] * 5, NOW_MS)
    point = read_page(connection, LogPageQuery(client_id="me", after_seq=0)).epoch, 5
    # The copy is restored and the server restarted; other events come, and the client resumes where it was.
    connection.execute(client_logs.delete())
    connection.execute(events.delete())
    connection.execute(client_logs.insert(), [dict(row) for row in copy])
    monkeypatch.setattr(log, "_THIS_START", "another start")
    append_events(connection, "me", [EVENT] * 5, NOW_MS)
    page = read_page(connection, LogPageQuery(client_id="me", after_seq=5))
    assert page.head == 5
    assert not can_resume(page, *point)


def test_a_log_keeps_its_epoch_over_a_start_of_the_server(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_events(connection, "me", [EVENT] * 5, NOW_MS)
    epoch = read_page(connection, LogPageQuery(client_id="me", after_seq=0)).epoch
    monkeypatch.setattr(log, "_THIS_START", "another start")
    assert can_resume(read_page(connection, LogPageQuery(client_id="me", after_seq=5)), epoch, 5)
    assert OPEN_LOG.function(connection, "me").value == epoch


def test_each_start_of_the_server_draws_its_own_part_of_the_epochs() -> None:
    tell = "from actors.storage import log; print(log._THIS_START)"
    told = [subprocess.run([sys.executable, "-c", tell], capture_output=True, check=True).stdout for _ in range(2)]
    assert told[0] != told[1]
    assert all(len(one.strip()) == 32 for one in told)


def test_the_clients_of_which_anything_is_kept_are_so_many_and_no_more(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAXIMUM_CLIENTS", 3)
    for name in ("a", "b"):
        append_events(connection, name, [EVENT], NOW_MS)
    begin_client(connection, "c")
    with pytest.raises(CommandError) as refused:
        append_events(connection, "d", [EVENT], NOW_MS)
    assert refused.value.code is ErrorCode.CONFLICT
    with pytest.raises(CommandError):
        begin_client(connection, "d")
    # Known clients continue.
    begin_client(connection, "a")
    assert append_events(connection, "c", [EVENT], NOW_MS)[0].seq == 1
    assert rows(connection) == 4


async def test_an_operation_that_keeps_something_counts_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAXIMUM_CLIENTS", 1)
    keeping: Operation[None, str] = Operation("keeping", lambda *_: Outcome(value="kept"), str, begins_client=True)
    passing: Operation[None, str] = Operation("passing", lambda *_: Outcome(value="passed"), str)
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=[keeping, passing]) as service:
        for _ in range(2):
            assert (await service.storage.transact(keeping, None, client_id="first")).value == "kept"
        with pytest.raises(CommandError, match="accepts no more"):
            await service.storage.transact(keeping, None, client_id="second")
        assert (await service.storage.transact(passing, None, client_id="second")).value == "passed"
