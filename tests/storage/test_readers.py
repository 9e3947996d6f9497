"""What becomes of a reader's connections when it stops."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import trio
import trio.testing
from sqlalchemy import Connection, text

from actors.storage.database import FILE_NAME, database_url
from actors.storage.messages import Query
from tests.database_fixture import fresh_database
from tests.server_fixture import eventually
from tests.storage_room import storage_room


def open_files(database: Path) -> int:
    """How many descriptors of this process lead to the database."""
    wanted, found = database.stat(), 0
    for descriptor in Path("/dev/fd").iterdir():
        try:
            found += os.path.samestat(os.fstat(int(descriptor.name)), wanted)
        except OSError:
            # The one that listed them.
            continue
    return found


async def test_a_query_that_runs_when_the_room_stops_leaves_no_connection_open(tmp_path: Path) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(connection: Connection, _: None) -> None:
        connection.execute(text("SELECT 1")).all()
        has_begun.set()
        may_end.wait()

    slow = Query("slow", wait)
    fresh_database(tmp_path)
    database = tmp_path / FILE_NAME
    async with trio.open_nursery() as nursery:
        async with storage_room(database_url(None, tmp_path), queries=[slow]) as room:

            async def ask() -> None:
                # Whatever an ask is told whose room has stopped meanwhile.
                with suppress(Exception):
                    await room.storage.read(slow, None)

            nursery.start_soon(ask)
            await eventually(has_begun.is_set)
            assert open_files(database) >= 1

            async def let_it_end() -> None:
                # The room has told its reader to stop by now, or does so in this moment.
                await trio.testing.wait_all_tasks_blocked(0.05)
                may_end.set()

            nursery.start_soon(let_it_end)
        assert open_files(database) == 0
