"""Routes of the assistant that answer whole."""

from __future__ import annotations

import secrets
from typing import Any

import attrs
from quart import jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.assistant.messages import AnswerTurn, TurnAnswer
from actors.refusals import CommandRefused
from actors.rest.assistant_requests import (
    CompleteRequest,
    ProcessRequest,
    assist_of,
    command_of,
    rest_field,
    without_repeated,
)
from actors.rest.services import Services, body_as, caller, identity
from protocol.codec import unstructure
from protocol.commands import Assist, Generate, Intent
from protocol.errors import ErrorCode

__all__ = ["register_assistant"]

ANSWER_SECONDS = 600.0
"""Longest a whole answer may take; a client that wants less closes its connection."""
SERVICE_SECONDS = 10.0
SEED_BITS = 53


def register_assistant(app: QuartTrio, services: Services) -> None:
    """Register `/ai/process` and `/ai/complete`."""

    async def answer(who: Identity, data: Assist | Generate, max_tokens: int | None) -> TurnAnswer:
        if "Idempotency-Key" in request.headers:
            # An answer takes no key: asking again is a new answer, and saying nothing would promise otherwise.
            raise CommandRefused(
                ErrorCode.INVALID_FIELD, "Idempotency-Key is not taken by this route", field="Idempotency-Key"
            )
        turn = AnswerTurn(client_id=who.client_id, data=data, max_tokens=max_tokens, domain=who.domain, caller=caller())
        try:
            return await services.assistant.ask(turn, timeout=ANSWER_SECONDS)
        except CommandRefused as refusal:
            raise CommandRefused(
                refusal.code,
                refusal.message,
                field=rest_field(refusal.field),
                retry_after_ms=refusal.retry_after_ms,
                current=refusal.current,
            ) from None

    @app.post("/ai/process")
    async def process() -> Any:
        wanted: ProcessRequest = await body_as(ProcessRequest)
        data = command_of(wanted, services.answer_defaults)
        if isinstance(data, Generate) and data.seed is None:
            data = attrs.evolve(data, seed=secrets.randbits(SEED_BITS))
        answered = await answer(await identity(services), data, wanted.max_tokens)
        return jsonify({"type": wanted.type, **_body(answered)})

    @app.post("/ai/complete")
    async def complete() -> Any:
        wanted: CompleteRequest = await body_as(CompleteRequest)
        answered = await answer(await identity(services), assist_of(wanted), wanted.max_tokens)
        blocks = answered.fields["suggestions"]
        said = blocks[0]["code"] if blocks else answered.text
        before = wanted.content if wanted.cursor is None else wanted.content[: wanted.cursor]
        if wanted.intent is Intent.SUGGEST:
            # Other intents give code again with changes, or quote it.
            said = without_repeated(said, before)
        return jsonify({"completion": said, **_body(answered)})


def _body(answered: TurnAnswer) -> dict[str, Any]:
    return {"content": answered.text, **unstructure(answered.done), **answered.fields}
