"""`kill -9` at every step of a delivery: nothing is lost, nothing comes under two ids, and order is kept."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.database_fixture import fresh_database
from tests.notifications.push_services import PushServices
from tests.notifications.service_tree import running_service

pytestmark = pytest.mark.integration
POSTS = 20
STEPS = (
    ("before posting", 7),
    ("before reading", 1),
    ("before sending", 5),
    ("after sending", 1),
    ("after sending", 9),
    ("before recording", 2),
    ("inside recording", 1),
    ("after recording", 1),
)
"""Steps of a delivery, and the occurrence at which the process dies."""


async def process(folder: Path, services: PushServices, *arguments: str) -> tuple[int, Sequence[str]]:
    """Run the process to its end. Returns its exit status and output."""
    command = [sys.executable, "-m", "tests.notifications.delivery_process", str(folder), str(services.ca_file)]
    with trio.fail_after(60):
        ended = await trio.run_process(
            [*command, *arguments], capture_stdout=True, stderr=subprocess.DEVNULL, check=False
        )
    return ended.returncode, ended.stdout.decode().splitlines()


def without_repeats(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


@pytest.mark.parametrize(("step", "times"), STEPS)
async def test_a_server_killed_at_any_step_delivers_everything_when_it_runs_again(
    tmp_path: Path, services: PushServices, step: str, times: int
) -> None:
    fresh_database(tmp_path)
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        await service.register("browser", platform="web", subscription=services.subscription("browser"))
        await service.register("hook", platform="webhook", url=f"{services.url}/hook/mine", secret="s" * 16)
    status, said = await process(tmp_path, services, step, str(times), str(POSTS))
    assert status == -9, said
    status, said = await process(tmp_path, services, "never", "0", "1")
    assert status == 0
    assert said[-1] == "idle"
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        written = [str(row[0]) for row in service.rows("SELECT notification_id FROM notifications ORDER BY number")]
        states = service.rows("SELECT DISTINCT state FROM notification_deliveries")
    assert states == [("sent",)]
    for path in ("/push/browser", "/hook/mine"):
        arrived = [str(one.payload["notification_id"]) for one in services.received if one.path == path]
        # Duplicates had the same id, and came from the page that the crash interrupted.
        assert without_repeats(arrived) == written, path
        assert len(arrived) - len(written) <= 16
