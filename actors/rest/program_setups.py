"""`GET /programs`: configuration for other programs that use this server, with the address that the client used."""

from __future__ import annotations

import functools
from typing import Any

import trio
from quart import jsonify, request
from quart_trio import QuartTrio

from actors.program_setup.programs import Served
from actors.program_setup.setups import program_setups
from actors.rest.models import engine_health
from actors.rest.services import Services, identity, query_as
from protocol.codec import unstructure
from protocol.program_setup import ProgramList

__all__ = ["register_program_setups"]


def register_program_setups(app: QuartTrio, services: Services) -> None:
    """Register the route."""

    @app.get("/programs")
    async def list_program_setups() -> Any:
        wanted: ProgramList = query_as(ProgramList)
        who = await identity(services)
        engine = await engine_health(services)
        served = Served(
            address=wanted.address or f"{request.scheme}://{request.host}",
            model=engine.model,
            context_tokens=engine.context_tokens,
            has_tokens=who.token_id is not None,
        )
        # Paths of this machine are shown to operators only.
        line = services.command_line if who.is_operator else _plain_line
        # The first of these imports the YAML library.
        made = await trio.to_thread.run_sync(functools.partial(program_setups, served, line))
        return jsonify(unstructure(made))


def _plain_line(*words: str) -> str:
    return " ".join(("leanvibe", *words))
