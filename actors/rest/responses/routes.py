"""OpenAI's `/v1/responses`: responses are created, read again from any position, cancelled and deleted.

Thin: a request becomes a chat completion's `Generate`; `events.py` renders the result, live and from storage alike.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import attrs
import trio
from quart import jsonify
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.assistant.messages import ItemConversation, ReadItemContext
from actors.errors import CommandError
from actors.inference.messages import EngineHealth, GenerateWithTools, MeasurePrompt, PromptSize, is_held
from actors.responses.messages import (
    CancelResponse,
    DeleteResponse,
    FindBegun,
    NewResponse,
    ReadChain,
    ReadInput,
    ReadResponse,
    ResponseSnapshot,
    StartResponse,
)
from actors.rest.answers import event_stream
from actors.rest.models import loaded_model
from actors.rest.openai.answers import SIGN_OF_LIFE_SECONDS, sign_of_life
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.openai.requests import ChatCompletionRequest
from actors.rest.problems import problem_of
from actors.rest.references import Services
from actors.rest.responses.conversations import no_conversation
from actors.rest.responses.errors import error_event, responses_error
from actors.rest.responses.events import ResponseEvents, ResponseHead, as_sent, response_object
from actors.rest.responses.fitting import drop_oldest
from actors.rest.responses.items import Chat, referenced_ids
from actors.rest.responses.queries import ItemsQuery, StreamQuery, item_page
from actors.rest.responses.reading import all_events, as_it_stands, output_of, reader_of
from actors.rest.responses.requests import ID, ResponsesRequest, new_id, read_responses_request
from actors.rest.responses.sources import PagesOfStored, PagesOfSubscriber, ResponseSource
from actors.rest.services import caller, idempotency_key, identity, json_body, query_as
from actors.rest.stream_subscriber import START_SECONDS, StreamSubscriber
from actors.storage.messages import IdempotencyKey
from protocol.commands import Generate
from protocol.errors import ErrorCode, InvalidField
from protocol.validation import is_client_name

__all__ = ["register_responses"]

READ_SECONDS = 10.0
CANCEL_SECONDS = 20.0
TITLE_CHARACTERS = 100


def register_responses(app: QuartTrio, services: Services) -> None:
    """Register `/v1/responses` and the routes below it."""
    ignored_fields = IgnoredFields(app)
    starter = _ResponseStarter(services)

    @app.post("/v1/responses")
    async def create_response() -> Any:
        body = await json_body(any_integers=True)
        wanted = read_responses_request(body, new_id(secrets.token_hex(24)))
        who = await identity(services)
        ignored_fields.note(who.client_id, wanted.ignored)
        key = await idempotency_key(who, "response")
        if key is not None and not wanted.is_stored:
            # A response that ends with its connection cannot be returned again.
            ignored_fields.note(who.client_id, ["Idempotency-Key"])
            key = None
        begun = await starter.begin_once(who, wanted, key)
        ignored_fields.note(who.client_id, begun.left_out)
        if wanted.plain.stream:
            return event_stream(_stream(services, begun.head, begun.source))
        if wanted.plain.background:
            return jsonify(response_object(begun.head, [], "queued"))
        return jsonify(await _whole(begun.head, begun.source))

    @app.get("/v1/responses/<response_id>")
    async def get_response(response_id: str) -> Any:
        wanted: StreamQuery = query_as(StreamQuery, passes_over=True)
        client_id = (await identity(services)).client_id
        snapshot = await starter.ask(ReadResponse(client_id=client_id, id=_checked(response_id)))
        head = ResponseHead.of(snapshot)
        if not wanted.stream:
            if wanted.starting_after is not None:
                raise _wrong_query("starting_after", "may only be given with stream")
            return jsonify(as_it_stands(head, snapshot))
        after = -1 if wanted.starting_after is None else wanted.starting_after
        if snapshot.end is not None and after > (last := _last_number(head, snapshot)):
            raise _wrong_query("starting_after", f"must be at most {last}, the number of this response's last event")
        return event_stream(_stream(services, head, PagesOfStored(services.responses, client_id, response_id), after))

    @app.delete("/v1/responses/<response_id>")
    async def delete_response(response_id: str) -> Any:
        client_id = (await identity(services)).client_id
        await starter.ask(DeleteResponse(client_id=client_id, id=_checked(response_id)), CANCEL_SECONDS)
        return jsonify({"id": response_id, "object": "response", "deleted": True})

    @app.post("/v1/responses/<response_id>/cancel")
    async def cancel_response(response_id: str) -> Any:
        client_id = (await identity(services)).client_id
        snapshot = await starter.ask(CancelResponse(client_id=client_id, id=_checked(response_id)), CANCEL_SECONDS)
        return jsonify(as_it_stands(ResponseHead.of(snapshot), snapshot))

    @app.get("/v1/responses/<response_id>/input_items")
    async def list_input_items(response_id: str) -> Any:
        wanted: ItemsQuery = query_as(ItemsQuery, passes_over=True)
        client_id = (await identity(services)).client_id
        stored: NewResponse = await starter.ask(ReadInput(client_id=client_id, id=_checked(response_id)))
        return jsonify(item_page(stored.input, wanted))


@attrs.frozen(kw_only=True)
class _Begun:
    head: ResponseHead
    source: ResponseSource
    left_out: Sequence[str]


@attrs.frozen
class _ResponseStarter:
    """Creates responses."""

    services: Services

    async def ask(self, message: Any, timeout: float = READ_SECONDS) -> Any:  # noqa: ASYNC109  the ask's own
        """Ask the responses service."""
        return await self.services.responses.ask(message, timeout=timeout)

    async def begin_once(self, who: Identity, wanted: ResponsesRequest, key: IdempotencyKey | None) -> _Begun:
        """Create the response, or find the one created with the same key. If this raises, nothing was stored."""
        begun = await self._begun_before(who, key)
        if begun is not None:
            return begun
        health = await loaded_model(self.services, wanted.plain.model, "body.model")
        try:
            return await self._begin(who, wanted, health, key)
        except CommandError as refusal:
            # The conflict may come from the same request, sent twice at once, that holds the conversation.
            begun = await self._begun_before(who, key) if refusal.code is ErrorCode.CONFLICT else None
            if begun is None:
                raise
            return begun

    async def _begun_before(self, who: Identity, key: IdempotencyKey | None) -> _Begun | None:
        """Return the response that was created with this key, if there is one."""
        if key is None:
            return None
        found = await self.ask(FindBegun(client_id=who.client_id, key=key))
        return None if found is None else await self._stored(who, found)

    async def _stored(self, who: Identity, response_id: str) -> _Begun:
        snapshot = await self.ask(ReadResponse(client_id=who.client_id, id=response_id))
        source = PagesOfStored(self.services.responses, who.client_id, response_id)
        return _Begun(head=ResponseHead.of(snapshot), source=source, left_out=())

    async def _begin(
        self, who: Identity, wanted: ResponsesRequest, health: EngineHealth, key: IdempotencyKey | None
    ) -> _Begun:
        """Create the response. If this raises, nothing was stored."""
        wanted = await self._with_referenced(who.client_id, wanted)
        before, conversation = await self._before(who.client_id, wanted)
        chat = wanted.chat(before)
        generate, plain, dropped = await self._fitted(who, wanted, chat, health)
        echo = wanted.echo(health.model, plain)
        if wanted.drops_oldest:
            echo["dropped_input_items"] = dropped
        head = ResponseHead(
            id=wanted.id,
            created=wanted.created_ms // 1000,
            echo=echo,
            tool_call_format=health.tool_call_format.name,
            callable_schemas=plain.callable_schemas,
            reasoning_marks=health.reasoning.marks.name,
            begins_open=health.reasoning.begins_open(
                thinks=generate.thinks if isinstance(generate, GenerateWithTools) else None, is_held=is_held(generate)
            ),
            is_forced=plain.must_call,
            has_logprobs=wanted.has_logprobs,
        )
        if not wanted.is_stored:
            subscriber = StreamSubscriber(self.services.inference)
            started = await subscriber.start(who, generate, to_context_end=True)
            return _Begun(
                head=head, source=PagesOfSubscriber(subscriber, reader_of(head)), left_out=_named(started.left_out)
            )
        new = NewResponse(
            id=wanted.id,
            created_ms=wanted.created_ms,
            model=health.model,
            head=head.as_json(),
            input=wanted.items,
            previous_id=wanted.plain.previous_response_id,
            conversation_id=wanted.conversation_id,
            conversation_version=0 if conversation is None else conversation.version,
            conversation_leaf=0 if conversation is None else conversation.leaf,
            notifies=(wanted.plain.metadata or {}).get("notify") == "true",
            title=_title(chat),
        )
        started = await self.ask(
            StartResponse(
                client_id=who.client_id, domain=who.domain, caller=caller(), key=key, response=new, generate=generate
            ),
            START_SECONDS + READ_SECONDS,
        )
        if started.is_repeat:
            return await self._stored(who, started.stream)
        source = PagesOfStored(self.services.responses, who.client_id, wanted.id)
        return _Begun(head=head, source=source, left_out=_named(started.left_out))

    async def _before(
        self, client_id: str, wanted: ResponsesRequest
    ) -> tuple[list[dict[str, Any]], ItemConversation | None]:
        """Return all preceding items, oldest first, and the conversation, if there is one."""
        if (name := wanted.conversation_id) is not None:
            if not is_client_name(name):
                raise no_conversation(name, "body.conversation")
            reading = ReadItemContext(client_id=client_id, id=name)
            conversation: ItemConversation = await self.services.assistant.ask(reading, timeout=READ_SECONDS)
            return list(conversation.items), conversation
        previous = wanted.plain.previous_response_id
        if previous is None:
            return [], None
        if not ID.fullmatch(previous):
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"Previous response with id {previous[:64]!r} not found.",
                field="body.previous_response_id",
            )
        chain: tuple[ResponseSnapshot, ...] = await self.ask(ReadChain(client_id=client_id, id=previous))
        items: list[dict[str, Any]] = []
        for one in chain:
            items += one.response.input
            items += output_of(one)
        return items, None

    async def _with_referenced(self, client_id: str, wanted: ResponsesRequest) -> ResponsesRequest:
        """Replace references to items of earlier responses by the items themselves."""
        items = list(wanted.items)
        known: dict[str, dict[str, dict[str, Any]]] = {}
        for index, name in referenced_ids(items):
            response_id = new_id(name.split("_")[1]) if name.count("_") == 2 else ""
            if response_id not in known and ID.fullmatch(response_id):
                try:
                    snapshot = await self.ask(ReadResponse(client_id=client_id, id=response_id))
                except CommandError:
                    known[response_id] = {}
                else:
                    found = [*snapshot.response.input, *output_of(snapshot)]
                    known[response_id] = {one["id"]: one for one in found}
            item = known.get(response_id, {}).get(name)
            if item is None:
                field = f"body.input[{index}].id"
                raise CommandError(ErrorCode.NOT_FOUND, f"Item with id {name[:64]!r} not found.", field=field)
            items[index] = item
        return attrs.evolve(wanted, items=items)

    async def _fitted(
        self, who: Identity, wanted: ResponsesRequest, chat: Chat, health: EngineHealth
    ) -> tuple[Generate, ChatCompletionRequest, int]:
        """Build the engine's request. Returns also the number of items dropped, if the request allows that."""
        dropped = 0
        if wanted.drops_oldest:

            async def measure() -> PromptSize:
                generate, _ = wanted.generate(chat, health.tool_call_format)
                found: PromptSize = await self.services.inference.ask(
                    MeasurePrompt(generate, client_id=who.client_id, caller=caller()), timeout=START_SECONDS
                )
                return found

            keeps = 1 if wanted.plain.instructions else 0
            dropped = await drop_oldest(chat, measure, answer_tokens=wanted.plain.max_output_tokens, keeps=keeps)
        generate, plain = wanted.generate(chat, health.tool_call_format)
        return generate, plain, dropped


async def _stream(
    services: Services, head: ResponseHead, source: ResponseSource, after: int = -1
) -> AsyncGenerator[bytes, None]:
    """Yield the events after a number. A stream that has begun always ends with the response's end or an error."""
    events = ResponseEvents(head)
    for event in events.begin():
        if event["sequence_number"] > after:
            yield as_sent(event)
    spoke_at = trio.current_time()
    while True:
        try:
            page = await source.next()
        except CommandError as refusal:
            body, _ = responses_error(problem_of(refusal.code, refusal.message, field=refusal.field))
            yield as_sent(error_event(body, events.last_number + 1))
            return
        made = list(events.take(page.text, page.logprobs))
        if page.end is not None:
            made += events.end(page.end)
        for event in made:
            if event["sequence_number"] > after:
                yield as_sent(event)
                spoke_at = trio.current_time()
        if page.end is not None:
            return
        if trio.current_time() - spoke_at >= SIGN_OF_LIFE_SECONDS:
            yield await sign_of_life(services.inference, source.stream)
            spoke_at = trio.current_time()


async def _whole(head: ResponseHead, source: ResponseSource) -> dict[str, Any]:
    """Wait for the response to end, and return it."""
    events = ResponseEvents(head)
    for _ in events.begin():
        pass
    while True:
        page = await source.next()
        for _ in events.take(page.text, page.logprobs):
            pass
        if page.end is not None:
            *_, last = events.end(page.end)
            response: dict[str, Any] = last["response"]
            return response


def _last_number(head: ResponseHead, snapshot: ResponseSnapshot) -> int:
    return all_events(head, snapshot)[0].last_number


def _title(chat: Chat) -> str:
    asked = next((one["content"] for one in reversed(chat.messages) if one["role"] == "user"), "")
    return " ".join(asked.split())[:TITLE_CHARACTERS] or "response"


def _named(places: Sequence[str]) -> list[str]:
    """Translate places in a schema that answers leave out to this API's names."""
    name = "response_schema"
    return [f"text.format.schema{one.removeprefix(name)}" if one.startswith(name) else one for one in places]


def _checked(response_id: str) -> str:
    """Check the format of an id. Raises `CommandError` if it cannot exist."""
    if not ID.fullmatch(response_id):
        raise CommandError(ErrorCode.NOT_FOUND, f"Response with id {response_id[:64]!r} not found.", field="id")
    return response_id


def _wrong_query(name: str, problem: str) -> InvalidField:
    return InvalidField(f"{name} {problem}", field=name)
