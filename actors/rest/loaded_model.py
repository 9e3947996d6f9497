"""The model that answers, by the name that a request says."""

from __future__ import annotations

from actors.inference.messages import DescribeEngine, EngineHealth
from actors.refusals import CommandRefused
from actors.rest.services import Services
from protocol.errors import ErrorCode

__all__ = ["HEALTH_SECONDS", "engine_health", "loaded_model"]

HEALTH_SECONDS = 1.0


async def engine_health(services: Services) -> EngineHealth:
    """The engine in use."""
    health: EngineHealth = await services.inference.ask(DescribeEngine(), timeout=HEALTH_SECONDS)
    return health


async def loaded_model(services: Services, wanted: str, field: str) -> EngineHealth:
    """The engine in use, where ``wanted`` is its model. Raises `CommandRefused` of `field` for another."""
    health = await engine_health(services)
    if wanted != health.model:
        raise CommandRefused(
            ErrorCode.NOT_FOUND, f"the model {wanted[:64]!r} is not loaded, {health.model!r} is", field=field
        )
    return health
