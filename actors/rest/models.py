"""Models: lookup of the one that is loaded, and an operator's routes to list, load and unload them."""

from __future__ import annotations

from typing import Any

import attrs
from quart import jsonify
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.inference.embedding_messages import ENCODER_MODEL, DescribeEncoder, EncoderHealth, is_encoder
from actors.inference.messages import DescribeEngine, EngineHealth, InferenceRequest, ListModels, LoadModel, UnloadModel
from actors.rest.services import Services
from protocol.errors import ErrorCode, InvalidField
from runtime import ActorRef

__all__ = ["HEALTH_SECONDS", "encoder_health", "engine_health", "loaded_model", "not_an_encoder", "register_models"]

LIST_SECONDS = 10.0
"""File sizes are summed, which takes a while on a cold disk."""
CHANGE_SECONDS = 900.0
"""Draining one model and loading another from a slow disk. A change continues after its client has gone."""
HEALTH_SECONDS = 1.0


def register_models(app: QuartTrio, inference: ActorRef[InferenceRequest]) -> None:
    """Register `GET /models`, `POST /models/NAME/load` and `POST /models/NAME/unload`; hub ids keep their slash."""

    @app.get("/models")
    async def list_models() -> Any:
        states = await inference.ask(ListModels(), timeout=LIST_SECONDS)
        return jsonify({"models": [attrs.asdict(one) for one in states]})

    @app.post("/models/<path:name>/load")
    async def load_model(name: str) -> Any:
        return jsonify(attrs.asdict(await inference.ask(LoadModel(name), timeout=CHANGE_SECONDS)))

    @app.post("/models/<path:name>/unload")
    async def unload_model(name: str) -> Any:
        return jsonify(attrs.asdict(await inference.ask(UnloadModel(name), timeout=CHANGE_SECONDS)))


async def engine_health(services: Services) -> EngineHealth:
    """Describe the active engine."""
    health: EngineHealth = await services.inference.ask(DescribeEngine(), timeout=HEALTH_SECONDS)
    return health


async def loaded_model(services: Services, wanted: str, field: str) -> EngineHealth:
    """Describe the active engine if ``wanted`` is its model. Otherwise raises `CommandError` about `field`.

    Raises `InvalidField` for the encoder, which cannot generate text.
    """
    health = await engine_health(services)
    if wanted != health.model and is_encoder(wanted):
        raise InvalidField(
            f"{field} {ENCODER_MODEL} makes embeddings and cannot generate text: use {health.model!r}", field=field
        )
    if wanted != health.model:
        raise CommandError(
            ErrorCode.NOT_FOUND, f"the model {wanted[:64]!r} is not loaded; {health.model!r} is", field=field
        )
    return health


async def encoder_health(services: Services) -> EncoderHealth:
    """Describe the encoder."""
    health: EncoderHealth = await services.encoder.ask(DescribeEncoder(), timeout=HEALTH_SECONDS)
    return health


async def not_an_encoder(services: Services, wanted: str, field: str = "body.model") -> Exception:
    """Build the exception for embeddings requested from a model that is not the encoder."""
    if wanted == (await engine_health(services)).model:
        return InvalidField(
            f"{field} {wanted!r} generates text and makes no embeddings: use {ENCODER_MODEL!r}", field=field
        )
    return CommandError(
        ErrorCode.NOT_FOUND,
        f"the model {wanted[:64]!r} does not exist; {ENCODER_MODEL!r} makes embeddings",
        field=field,
    )
