"""OpenAI's `/v1/conversations`: conversations and their items are created, read, changed and deleted."""

from __future__ import annotations

import secrets
from typing import Any

from attrs import field, frozen
from quart import jsonify
from quart_trio import QuartTrio

from actors.assistant.messages import (
    AddItems,
    BeginItems,
    DeleteItem,
    ForgetItems,
    ItemConversation,
    ItemPage,
    LabelItems,
    ListItems,
    ReadItem,
    ReadItems,
)
from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.references import Services
from actors.rest.responses.items import readable_items
from actors.rest.responses.queries import ItemsQuery, item_list
from actors.rest.responses.requests import item_id, labels
from actors.rest.services import idempotency_key, identity, json_body, query_as
from protocol.codec import structure
from protocol.errors import ErrorCode, InvalidField
from protocol.validation import is_client_name

__all__ = ["no_conversation", "register_response_conversations"]

SERVICE_SECONDS = 10.0
MAXIMUM_NEW_ITEMS = 20
"""Items in one request, as at OpenAI."""
_KNOWN = ("items", "metadata")


@frozen(kw_only=True)
class _Labels:
    metadata: dict[str, Any] | None = field(default=None, validator=labels)


def no_conversation(name: str, path: str = "id") -> CommandError:
    """Build the error for a conversation that does not exist."""
    return CommandError(ErrorCode.NOT_FOUND, f"Conversation with id {name[:64]!r} not found.", field=path)


@frozen
class _Requests:
    """Parses requests about conversations and asks the service that stores them."""

    services: Services
    ignored_fields: IgnoredFields

    async def ask(self, message: Any) -> Any:
        """Ask the assistant, which stores all conversations."""
        return await self.services.assistant.ask(message, timeout=SERVICE_SECONDS)

    async def body(self, client_id: str, *known: str) -> dict[str, Any]:
        """Return the known fields that are not null. Others are ignored and named."""
        body = await json_body(any_integers=True)
        self.ignored_fields.note(client_id, [name[:64] for name in body if name not in known])
        return {name: value for name, value in body.items() if name in known and value is not None}

    def items(self, client_id: str, given: Any) -> tuple[dict[str, Any], ...]:
        """Parse items to store, each with an id. Raises `InvalidField`."""
        if not isinstance(given, list):
            raise InvalidField("body.items must be an array of items", field="body.items")
        draw = secrets.token_hex(24)
        items, passed_over = readable_items(
            given, lambda kind, index: item_id(draw, kind, str(index)), name="items", most=MAXIMUM_NEW_ITEMS
        )
        if any(one["type"] == "item_reference" for one in items):
            raise InvalidField("body.items must be items, not references", field="body.items")
        self.ignored_fields.note(client_id, passed_over)
        return tuple(items)


def register_response_conversations(app: QuartTrio, services: Services) -> None:
    """Register `/v1/conversations` and the routes below it."""
    requests = _Requests(services, IgnoredFields(app))
    _register_items(app, services, requests)

    @app.post("/v1/conversations")
    async def create_response_conversation() -> Any:
        who = await identity(services)
        body = await requests.body(who.client_id, *_KNOWN)
        made = ItemConversation(
            id=f"conv_{secrets.token_hex(24)}",
            created_ms=now_milliseconds(),
            metadata=_labels_of(body),
        )
        creation = BeginItems(
            client_id=who.client_id,
            conversation=made,
            items=requests.items(who.client_id, body.get("items", [])),
            key=await idempotency_key(who, "response_conversation"),
        )
        return jsonify(_object(await requests.ask(creation)))

    @app.get("/v1/conversations/<conversation_id>")
    async def get_response_conversation(conversation_id: str) -> Any:
        who = await identity(services)
        return jsonify(_object(await requests.ask(ReadItems(client_id=who.client_id, id=_checked(conversation_id)))))

    @app.post("/v1/conversations/<conversation_id>")
    async def update_response_conversation(conversation_id: str) -> Any:
        who = await identity(services)
        body = await requests.body(who.client_id, "metadata")
        change = LabelItems(client_id=who.client_id, id=_checked(conversation_id), metadata=_labels_of(body))
        return jsonify(_object(await requests.ask(change)))

    @app.delete("/v1/conversations/<conversation_id>")
    async def delete_response_conversation(conversation_id: str) -> Any:
        who = await identity(services)
        await requests.ask(ForgetItems(client_id=who.client_id, id=_checked(conversation_id)))
        return jsonify({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


def _register_items(app: QuartTrio, services: Services, requests: _Requests) -> None:
    @app.get("/v1/conversations/<conversation_id>/items")
    async def list_conversation_items(conversation_id: str) -> Any:
        wanted: ItemsQuery = query_as(ItemsQuery, passes_over=True)
        who = await identity(services)
        page: ItemPage = await requests.ask(
            ListItems(
                client_id=who.client_id,
                id=_checked(conversation_id),
                after=wanted.after,
                limit=wanted.limit,
                is_ascending=wanted.order == "asc",
            )
        )
        return jsonify(item_list(page.items, has_more=page.has_more))

    @app.post("/v1/conversations/<conversation_id>/items")
    async def add_conversation_items(conversation_id: str) -> Any:
        who = await identity(services)
        body = await requests.body(who.client_id, "items")
        if "items" not in body:
            raise InvalidField("body.items is required", field="body.items")
        addition = AddItems(
            client_id=who.client_id,
            id=_checked(conversation_id),
            items=requests.items(who.client_id, body["items"]),
            key=await idempotency_key(who, "conversation_items"),
        )
        return jsonify(item_list(await requests.ask(addition), has_more=False))

    @app.get("/v1/conversations/<conversation_id>/items/<item>")
    async def get_conversation_item(conversation_id: str, item: str) -> Any:
        who = await identity(services)
        reading = ReadItem(client_id=who.client_id, id=_checked(conversation_id), item_id=item[:256])
        return jsonify(await requests.ask(reading))

    @app.delete("/v1/conversations/<conversation_id>/items/<item>")
    async def delete_conversation_item(conversation_id: str, item: str) -> Any:
        who = await identity(services)
        deletion = DeleteItem(client_id=who.client_id, id=_checked(conversation_id), item_id=item[:256])
        return jsonify(_object(await requests.ask(deletion)))


def _labels_of(body: dict[str, Any]) -> dict[str, Any]:
    given: _Labels = structure({name: body[name] for name in ("metadata",) if name in body}, _Labels, prefix="body")
    return given.metadata or {}


def _checked(name: str) -> str:
    """Check the format of an id. Raises `CommandError` if it cannot exist."""
    if not is_client_name(name):
        raise no_conversation(name)
    return name


def _object(conversation: ItemConversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_ms // 1000,
        "metadata": conversation.metadata,
    }
