"""A notification server in a process of its own that dies at a given step; for tests of `kill -9`.

Arguments: data folder, CA file, name of the step and the occurrence at which to die (or `never 0`), then the number of
notifications to post.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

from actors.notifications import outbox
from actors.notifications.delivery_rules import RetrySchedule
from tests.notifications.service_tree import running_service
from tests.server_fixture import eventually

SCHEDULE = RetrySchedule(base_seconds=0.05, maximum_seconds=0.2, maximum_attempts=1000)


def main() -> None:
    """Post, deliver, and print `idle` when nothing is pending; or die on the way."""
    folder, ca_file, step, times, posts = sys.argv[1:]
    left = int(times)

    def failpoint(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if step == "inside recording":
        original = outbox.record

        def record(*arguments: object) -> object:
            outcome = original(*arguments)  # type: ignore[arg-type]
            failpoint("inside recording")
            return outcome

        object.__setattr__(outbox.RECORD, "function", record)

    async def run() -> None:
        async with running_service(
            Path(folder), push_ca_file=Path(ca_file), schedule=SCHEDULE, failpoint=failpoint
        ) as service:
            for number in range(int(posts)):
                failpoint("before posting")
                print("posted", await service.post(f"n{number}"), flush=True)
            due = "SELECT 1 FROM notification_devices WHERE due_ms IS NOT NULL"
            await eventually(lambda: not service.rows(due), seconds=50)
            print("idle", flush=True)

    trio.run(run)


if __name__ == "__main__":
    main()
