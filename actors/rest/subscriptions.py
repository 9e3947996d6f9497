"""Routes of subscriptions: the events that a device receives over its WebSocket."""

from __future__ import annotations

from typing import Any

from quart import Response, jsonify
from quart_trio import QuartTrio

from actors.connections.messages import ChangeSubscription, ReadSubscription
from actors.errors import CommandError
from actors.rest.conditional import ConditionalWrites, judges_conditions, set_tag, tag_of
from actors.rest.services import Services, body_as, idempotency_key, identity
from protocol.codec import unstructure
from protocol.commands import Subscribe
from protocol.errors import ErrorCode
from protocol.validation import is_client_name

__all__ = ["register_subscriptions"]

SERVICE_SECONDS = 5.0


def register_subscriptions(app: QuartTrio, services: Services) -> None:
    """Register `/subscriptions/{device_id}`."""
    subscriptions = ConditionalWrites()

    async def read(client_id: str, device_id: str) -> Response:
        reading = ReadSubscription(client_id=client_id, device_id=device_id)
        response: Response = jsonify(
            unstructure(await services.connection_registry.ask(reading, timeout=SERVICE_SECONDS))
        )
        return response

    @app.get("/subscriptions/<device_id>")
    async def read_subscription(device_id: str) -> Any:
        who = await identity(services)
        return await read(who.client_id, _device(device_id))

    @app.put("/subscriptions/<device_id>")
    @judges_conditions
    async def change_subscription(device_id: str) -> Any:
        who = await identity(services)
        wanted: Subscribe = await body_as(Subscribe)
        key = await idempotency_key(who, "subscribe")
        change = ChangeSubscription(client_id=who.client_id, device_id=_device(device_id), data=wanted, key=key)

        async def current() -> str:
            return tag_of(await read(who.client_id, device_id))

        async with subscriptions.writing((who.client_id, device_id), current):
            response: Response = jsonify(
                unstructure(await services.connection_registry.ask(change, timeout=SERVICE_SECONDS))
            )
        set_tag(response, tag_of(response))
        return response


def _device(device_id: str) -> str:
    if not is_client_name(device_id):
        raise CommandError(
            ErrorCode.INVALID_FIELD,
            "path.device_id must be 1 to 64 letters, digits, dots, dashes and underscores",
            field="path.device_id",
        )
    return device_id
