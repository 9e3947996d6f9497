"""Routes of conversations: list, read, export and delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.assistant.messages import DeleteConversation, GetConversation, ListConversations
from actors.errors import CommandError
from actors.rest.conditional import ConditionalWrites, judges_conditions, set_tag
from actors.rest.conversation_export import as_markdown
from actors.rest.preconditions import content_tag
from actors.rest.services import REST_DEVICE, Services, idempotency_key, identity
from protocol.codec import encode, structure, unstructure
from protocol.conversations import ConversationDelete, ConversationGet, ConversationList, ConversationTurns, Turn
from protocol.errors import ErrorCode

__all__ = ["register_conversations"]

SERVICE_SECONDS = 10.0


def register_conversations(app: QuartTrio, services: Services) -> None:
    """Register `/conversations`."""
    conversations = ConditionalWrites()

    @app.get("/conversations/<client_id>")
    async def list_conversations(client_id: str) -> Any:
        who = await identity(services, client_id)
        data: ConversationList = structure(_query(("after",), ("limit",)), ConversationList, prefix="query")
        listing = ListConversations(client_id=who.client_id, device_id=REST_DEVICE, data=data)
        return jsonify(unstructure(await services.assistant.ask(listing, timeout=SERVICE_SECONDS)))

    @app.get("/conversations/<client_id>/<name>")
    async def get_conversation(client_id: str, name: str) -> Any:
        who = await identity(services, client_id)
        structure({"conversation": name}, ConversationGet, prefix="path")
        given = {"conversation": name, **_query((), ("after", "before", "limit"), ("all_ways",))}
        data: ConversationGet = structure(given, ConversationGet, prefix="query")
        page = await _page(services, who, data)
        response: Response = jsonify(unstructure(page))
        part = "" if len(given) == 1 else "." + content_tag(encode(given))
        set_tag(response, _tag(page) + part)
        return response

    @app.delete("/conversations/<client_id>/<name>")
    @judges_conditions
    async def delete_conversation(client_id: str, name: str) -> Any:
        who = await identity(services, client_id)
        data: ConversationDelete = structure({"conversation": name}, ConversationDelete, prefix="path")
        key = await idempotency_key(who, "conversation_delete")
        deletion = DeleteConversation(client_id=who.client_id, device_id=REST_DEVICE, data=data, key=key)

        async def current() -> str:
            return _tag(await _page(services, who, ConversationGet(conversation=name, limit=1)))

        async with conversations.writing((who.client_id, name), current):
            with _named_by_path():
                return jsonify(unstructure(await services.assistant.ask(deletion, timeout=SERVICE_SECONDS)))

    @app.get("/conversations/<client_id>/<name>/export")
    async def export_conversation(client_id: str, name: str) -> Any:
        who = await identity(services, client_id)
        kind = request.args.get("format", "json")
        if kind not in ("json", "markdown"):
            raise CommandError(ErrorCode.INVALID_FIELD, "format must be json or markdown", field="query.format")
        turns: list[Turn] = []
        after: int | None = 0
        while after is not None:
            wanted = {"conversation": name, "after": after, "all_ways": True}
            data: ConversationGet = structure(wanted, ConversationGet, prefix="path")
            page = await _page(services, who, data)
            turns += page.turns
            after = page.next
        ending = "md" if kind == "markdown" else "json"
        whole = ConversationTurns(conversation=page.conversation, turns=turns)
        response: Response
        if kind == "markdown":
            response = Response(as_markdown(whole), content_type="text/markdown; charset=utf-8")
        else:
            response = jsonify(unstructure(whole))
        # The name has passed its validator: letters, digits, dots, dashes and underscores.
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
        return response


def _tag(page: ConversationTurns) -> str:
    """Tag of the whole conversation. Its size, end or running answer changes with every turn."""
    return content_tag(encode(unstructure(page.conversation)))


async def _page(services: Services, who: Identity, data: ConversationGet) -> ConversationTurns:
    reading = GetConversation(client_id=who.client_id, device_id=REST_DEVICE, data=data)
    with _named_by_path():
        return await services.assistant.ask(reading, timeout=SERVICE_SECONDS)


@contextmanager
def _named_by_path() -> Iterator[None]:
    """Report an error about the conversation at its place in the path."""
    try:
        yield
    except CommandError as refusal:
        if refusal.field == "data.conversation":
            refusal.field = "path.conversation"
        raise


def _query(names: tuple[str, ...], numbers: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """Parse the query's parameters: ``numbers`` as integers, ``flags`` as booleans. Raises `CommandError` for
    unknown ones.
    """
    parameters: dict[str, Any] = {}
    for name, value in request.args.items():
        if name not in names + numbers + flags:
            path = f"query.{name[:64]}"
            raise CommandError(ErrorCode.INVALID_FIELD, f"{path} is not a parameter of this route", field=path)
        is_number = name in numbers and value.isascii() and value.isdigit()
        # Anything else stays text, which the codec rejects by name.
        parameters[name] = int(value[:20]) if is_number else value
        if name in flags and value in ("true", "false"):
            parameters[name] = value == "true"
    return parameters
