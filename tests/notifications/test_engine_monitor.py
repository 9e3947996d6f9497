"""Notifications about the engine: one for each lasting change of state."""

from pathlib import Path
from typing import Any

import pytest

from actors.inference.messages import DescribeEngine
from actors.notifications import engine_monitor
from actors.notifications.engine_monitor import EngineState
from tests.notifications.service_tree import engine_health, running_service
from tests.server_fixture import eventually


def told(*observations: tuple[float, str, int]) -> list[str]:
    state = EngineState()
    kinds = [state.observe(what, restarts, at) for at, what, restarts in observations]
    return [one for one in kinds if one is not None]


def test_a_first_load_that_takes_long_is_no_news() -> None:
    assert told((0, "loading", 0), (60, "loading", 0), (61, "ready", 0), (90, "ready", 0)) == []


def test_an_engine_that_never_comes_up_is_told_of_and_so_is_its_coming() -> None:
    assert told((0, "down", 0), (4, "down", 0), (5, "down", 0), (60, "down", 0)) == ["engine_degraded"]
    observations = ((0, "down", 0), (5, "down", 0), (9, "ready", 0), (14, "ready", 0), (30, "ready", 0))
    assert told(*observations) == ["engine_degraded", "engine_recovered"]


def test_a_short_loss_is_a_restart_told_once_it_is_steady() -> None:
    observations = ((0, "ready", 0), (1, "down", 0), (2, "loading", 1), (3, "ready", 1), (7, "ready", 1))
    assert told(*observations) == []
    assert told(*observations, (8, "ready", 1), (20, "ready", 1)) == ["engine_restarted"]


def test_a_crash_loop_is_told_of_once() -> None:
    observations = [(0.0, "ready", 0)]
    for number in range(1, 20):
        observations += [(number * 2.0, "down", number), (number * 2.0 + 1, "ready", number)]
    observations += [(60.0, "ready", 19), (80.0, "ready", 19)]
    assert told(*observations) == ["engine_restarted"]


def test_a_long_loss_is_told_of_and_its_end_as_well() -> None:
    observations = ((0, "ready", 0), (1, "down", 0), (6, "down", 0), (20, "loading", 1), (30, "ready", 1))
    assert told(*observations) == ["engine_degraded"]
    assert told(*observations, (35, "ready", 1), (60, "ready", 1)) == ["engine_degraded", "engine_recovered"]


async def test_every_known_client_hears_of_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_monitor, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(engine_monitor, "STEADY_SECONDS", 0.1)
    health: list[Any] = [engine_health()]

    def describe(_: DescribeEngine) -> Any:
        return health[0]

    async with running_service(tmp_path, health=describe) as service:
        await service.prefer("anna")
        await service.prefer("bert")
        await service.prefer("cleo", event_types=["message"])
        watch = service.system.reference("notifications/engine_monitor")
        await eventually(lambda: watch.current_incarnation() is not None)
        await service.inference.expect(DescribeEngine)
        health[0] = engine_health("down", problem="the worker was killed")

        async def titles(client_id: str) -> list[str]:
            return [one.title for one in (await service.list(client_id)).notifications]

        async def is_told(count: int) -> bool:
            return len(await titles("anna")) == count and len(await titles("bert")) == count

        await eventually(lambda: is_told(1))
        health[0] = engine_health("ready", restarts=1)
        await eventually(lambda: is_told(2))
        assert await titles("bert") == ["The model answers again", "The model is not available"]
        assert (await service.list("bert")).notifications[1].body == "phi: the worker was killed"
        assert (await service.list("cleo")).unread == 0
