"""A server that is killed in the middle of 1,000 writes to a board: what it answered is there, nothing is there by half."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select, text

from actors.storage.database import open_engine
from actors.storage.log import LogPageQuery, read_page
from actors.storage.schema import prepare_database
from actors.tasks.tables import history, tasks
from protocol.task_model import TaskStatus
from tests.database_fixture import fresh_database
from tests.tasks.board_kit import BoardStore

ROUNDS = 8
WRITES = 1000
PROGRAM = """
import itertools, json, random, sys
from pathlib import Path
import trio
from actors.storage.database import database_url
from actors.storage.messages import IdempotencyKey
from actors.tasks.messages import CreateTask, MoveTask
from actors.tasks.store import OPERATIONS, QUERIES
from actors.tasks.actor import Tasks
from protocol.task_model import TaskStatus
from protocol.tasks import TaskCreate, TaskMove
from runtime import ChildSpec
from tests.storage_service import storage_service

numbers = itertools.count(int(sys.argv[2]))

async def write(service, chosen):
    made = []
    def said(**what):
        return {"client_id": "me", "device_id": "d", **what}
    while True:
        number = next(numbers)
        key = IdempotencyKey(client_id="me", device_id="d", command_id=str(number), digest="d")
        if len(made) < 3 or chosen.random() < 0.3:
            task = await service.ask(CreateTask(**said(data=TaskCreate(title=str(number)), key=key)), timeout=30)
            made.append(task)
        else:
            place = chosen.randrange(len(made))
            beside = chosen.choice(made)
            data = {"task_id": made[place].id, "version": made[place].version, "status": made[place].status}
            if beside.id != made[place].id and beside.status is made[place].status:
                data["before"] = beside.id
            task = await service.ask(MoveTask(**said(data=TaskMove(**data), key=key)), timeout=30)
            made[place] = task
        print(json.dumps([number, task.id, task.version]), flush=True)

async def main():
    def children(system, storage):
        return [ChildSpec(id="tasks", start=lambda: Tasks(storage, system.reference("nowhere")))]
    url = database_url(None, Path(sys.argv[1]))
    async with storage_service(url, operations=OPERATIONS, queries=QUERIES, children=children) as service:
        async with trio.open_nursery() as nursery:
            for seed in range(4):
                nursery.start_soon(write, service.system.reference("tasks"), random.Random(seed))

trio.run(main)
"""


@pytest.mark.integration
def test_a_board_survives_being_killed_at_random_points_of_a_thousand_writes(tmp_path: Path) -> None:
    url = fresh_database(tmp_path)
    answered: dict[int, tuple[str, int]] = {}
    chosen = random.Random(11)
    for round_number in range(ROUNDS):
        first = round_number * 100_000
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(first)], stdout=subprocess.PIPE, text=True
        )
        # The last round writes what is missing of the thousand.
        most = WRITES - len(answered) if round_number == ROUNDS - 1 else chosen.randrange(20, 200)
        with process:
            assert process.stdout is not None
            for _ in range(max(1, most)):
                line = process.stdout.readline()
                assert line, "the writer ended by itself"
                number, task_id, version = json.loads(line)
                answered[number] = (task_id, version)
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    number, task_id, version = json.loads(line)
                    answered[number] = (task_id, version)
        prepare_database(url)
        engine = open_engine(url, writes=False)
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
            stored = {row.id: row for row in connection.execute(select(tasks))}
            entries = connection.execute(select(history).order_by(history.c.number)).all()
            page = read_page(
                connection, LogPageQuery(client_id="me", after_seq=0, maximum_events=10**6, maximum_bytes=10**9)
            )
            keys = connection.execute(text("SELECT count(*) FROM idempotency")).scalar()
            columns = {status: BoardStore(connection).column(status) for status in TaskStatus}
        engine.dispose()
        newest: dict[str, int] = {}
        for task_id, version in answered.values():
            newest[task_id] = max(version, newest.get(task_id, 0))
        for task_id, version in newest.items():
            assert stored[task_id].version >= version
        # Each version of each task has exactly one history row, one record and, but for keys dealt out anew, one event.
        versions = Counter(one.task_id for one in entries)
        assert versions == {task_id: row.version for task_id, row in stored.items()}
        assert keys == len(entries)
        assert page.head == len(page.events) >= len(entries)
        last = {}
        for event in page.events:
            task = json.loads(event.data)["task"]
            last[task["id"]] = (task["version"], task["position"])
        assert last == {task_id: (row.version, row.position) for task_id, row in stored.items()}
        positions = [row.position for row in stored.values()]
        assert len(set(positions)) == len(positions)
        assert len(columns[TaskStatus.TODO]) == min(100, len(stored))
    assert len(answered) >= WRITES
