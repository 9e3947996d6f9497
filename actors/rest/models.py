"""Which models there are, and changing the one in use. The routes are an operator's."""

from __future__ import annotations

from typing import Any

import attrs
from quart import jsonify
from quart_trio import QuartTrio

from actors.inference.messages import InferenceRequest, ListModels, LoadModel, UnloadModel
from runtime import ActorRef

__all__ = ["register_models"]

LIST_SECONDS = 10.0
"""Sizes are summed over files, which a cold disk takes its time for."""
CHANGE_SECONDS = 900.0
"""Draining one model and loading another from a slow disk. A change goes on when its asker has gone."""


def register_models(app: QuartTrio, inference: ActorRef[InferenceRequest]) -> None:
    """`GET /models`, `POST /models/NAME/load`, `POST /models/NAME/unload`; hub ids keep their slash."""

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
