"""The model that answers, by the name that a request says."""

from __future__ import annotations

from actors.inference.embedding_messages import ENCODER_MODEL, DescribeEncoder, EncoderHealth, is_encoder
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.refusals import CommandRefused
from actors.rest.services import Services
from protocol.errors import ErrorCode, InvalidField

__all__ = ["HEALTH_SECONDS", "encoder_health", "engine_health", "loaded_model", "not_an_encoder"]

HEALTH_SECONDS = 1.0


async def engine_health(services: Services) -> EngineHealth:
    """The engine in use."""
    health: EngineHealth = await services.inference.ask(DescribeEngine(), timeout=HEALTH_SECONDS)
    return health


async def loaded_model(services: Services, wanted: str, field: str) -> EngineHealth:
    """The engine in use, where ``wanted`` is its model. Raises `CommandRefused` of `field` for another.

    Raises `InvalidField` for the encoder, which is a model and writes no text.
    """
    health = await engine_health(services)
    if wanted != health.model and is_encoder(wanted):
        raise InvalidField(
            f"{field} {ENCODER_MODEL} makes embeddings and writes no text: {health.model!r} does", field=field
        )
    if wanted != health.model:
        raise CommandRefused(
            ErrorCode.NOT_FOUND, f"the model {wanted[:64]!r} is not loaded, {health.model!r} is", field=field
        )
    return health


async def encoder_health(services: Services) -> EncoderHealth:
    """The encoder."""
    health: EncoderHealth = await services.encoder.ask(DescribeEncoder(), timeout=HEALTH_SECONDS)
    return health


async def not_an_encoder(services: Services, wanted: str, field: str = "body.model") -> Exception:
    """What to raise where embeddings are asked of another model than the encoder."""
    if wanted == (await engine_health(services)).model:
        return InvalidField(
            f"{field} {wanted!r} writes text and makes no embeddings: {ENCODER_MODEL!r} does", field=field
        )
    return CommandRefused(
        ErrorCode.NOT_FOUND, f"the model {wanted[:64]!r} is not here; {ENCODER_MODEL!r} makes embeddings", field=field
    )
