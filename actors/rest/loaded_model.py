"""The model that answers, by the name that a request says."""

from __future__ import annotations

from actors.inference.messages import DescribeEngine, EngineHealth
from actors.refusals import CommandRefused
from actors.rest.rooms import Rooms
from protocol.errors import ErrorCode

__all__ = ["HEALTH_SECONDS", "engine_health", "loaded_model"]

HEALTH_SECONDS = 1.0


async def engine_health(rooms: Rooms) -> EngineHealth:
    """The engine in use."""
    health: EngineHealth = await rooms.inference.ask(DescribeEngine(), timeout=HEALTH_SECONDS)
    return health


async def loaded_model(rooms: Rooms, wanted: str, field: str) -> EngineHealth:
    """The engine in use, where ``wanted`` is its model. Raises `CommandRefused` of `field` for another."""
    health = await engine_health(rooms)
    if wanted != health.model:
        raise CommandRefused(
            ErrorCode.NOT_FOUND, f"the model {wanted[:64]!r} is not loaded, {health.model!r} is", field=field
        )
    return health
