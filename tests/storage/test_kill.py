"""A process killed while writing loses nothing that it had acknowledged, and leaves nothing half done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from actors.storage.database import open_engine
from actors.storage.log import LogPageQuery, read_page
from actors.storage.schema import prepare_database
from tests.database_fixture import fresh_database

ROUNDS = 8
PROGRAM = """
import sys
from pathlib import Path
import trio
from sqlalchemy import text
from actors.storage.database import database_url
from actors.storage.messages import IdempotencyKey, LogEvent, Operation, Outcome
from tests.storage_service import storage_service

def note(connection, wanted):
    connection.execute(text("INSERT INTO notes VALUES (:one)"), {"one": wanted})
    return Outcome(value=wanted, events=(LogEvent(type="noted", channel="tasks", data={"n": wanted}),))

NOTE = Operation("note", note, int)

async def write(service, numbers):
    for number in numbers:
        key = IdempotencyKey(client_id="me", device_id="d", command_id=str(number), digest="d")
        await service.storage.transact(NOTE, number, client_id="me", key=key, timeout=30)
        print(number, flush=True)

async def main():
    first = int(sys.argv[2])
    async with storage_service(database_url(None, Path(sys.argv[1])), operations=(NOTE,)) as service:
        async with trio.open_nursery() as nursery:
            for writer in range(4):
                nursery.start_soon(write, service, range(first + writer, first + 100_000, 4))

trio.run(main)
"""


@pytest.mark.integration
def test_every_answered_write_survives_being_killed_at_random_and_none_is_there_by_half(tmp_path: Path) -> None:
    url = fresh_database(tmp_path)
    engine = open_engine(url, writes=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (n INTEGER PRIMARY KEY)"))
    engine.dispose()
    answered: set[int] = set()
    chosen = random.Random(7)
    for round_number in range(ROUNDS):
        first = round_number * 100_000
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(first)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            for _ in range(chosen.randrange(1, 60)):
                line = process.stdout.readline()
                assert line, "the writer ended by itself"
                answered.add(int(line))
            os.kill(process.pid, signal.SIGKILL)
            # Acknowledgements before its death are in the pipe; nobody received a line that was cut off.
            answered.update(
                int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
            )
        prepare_database(url)
        engine = open_engine(url, writes=False)
        with engine.connect() as connection:
            stored = set(connection.execute(text("SELECT n FROM notes")).scalars())
            page = read_page(
                connection, LogPageQuery(client_id="me", after_seq=0, maximum_events=10**6, maximum_bytes=10**9)
            )
            outcomes = connection.execute(text("SELECT count(*) FROM idempotency")).scalar()
        engine.dispose()
        assert answered <= stored
        # A write, its event and its idempotency record are one.
        assert [one.seq for one in page.events] == list(range(1, len(stored) + 1))
        assert (page.head, outcomes) == (len(stored), len(stored))
