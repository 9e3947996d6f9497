"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`.

Thin: a request becomes a `Generate`, and its events become Anthropic's JSON, whole or as server-sent events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from quart import jsonify, request
from quart_trio import QuartTrio

from actors.inference.messages import GenerationRefused, MeasurePrompt, PromptSize
from actors.rest.answer_reading.reader import answer_reader
from actors.rest.answers import event_stream
from actors.rest.anthropic.errors import anthropic_error, left_out_as_called
from actors.rest.anthropic.replies import (
    PING,
    MessageEvents,
    MessageHead,
    error_event,
    message,
    message_start,
    new_id,
)
from actors.rest.anthropic.requests import MessagesRequest, check_version, generate_from, read_messages_request
from actors.rest.models import loaded_model
from actors.rest.openai.answers import SIGN_OF_LIFE_SECONDS
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.problems import problem_of
from actors.rest.services import Services, caller, identity, json_body
from actors.rest.stream_subscriber import START_SECONDS, StreamSubscriber

__all__ = ["register_anthropic"]


def register_anthropic(app: QuartTrio, services: Services) -> None:
    """Register `/v1/messages` and `/v1/messages/count_tokens`."""
    ignored_fields = IgnoredFields(app)

    async def read(*, needs_length: bool) -> MessagesRequest:
        check_version(request.headers.get("anthropic-version"))
        body = await json_body(any_integers=True)
        wanted = read_messages_request(body, needs_length=needs_length)
        ignored_fields.note((await identity(services)).client_id, wanted.ignored)
        return wanted

    @app.post("/v1/messages")
    async def messages() -> Any:
        wanted = await read(needs_length=True)
        health = await loaded_model(services, wanted.plain.model, "body.model")
        generate = generate_from(wanted, health.tool_call_format)
        subscriber = StreamSubscriber(services.inference)
        who = await identity(services)
        started = await subscriber.start(who, generate, to_context_end=True)
        ignored_fields.note(who.client_id, left_out_as_called(started.left_out))
        head = MessageHead(
            id=new_id("msg"),
            model=health.model,
            prompt_tokens=started.prompt_tokens,
            new_reader=answer_reader(health, generate, wanted.callable_schemas),
            is_forced=wanted.choice.must_call,
        )
        if wanted.plain.stream:
            return event_stream(_stream(head, subscriber))
        text, done = await subscriber.all_of_it()
        return jsonify(message(head, text, done, subscriber.stop_text))

    @app.post("/v1/messages/count_tokens")
    async def count_tokens() -> Any:
        wanted = await read(needs_length=False)
        health = await loaded_model(services, wanted.plain.model, "body.model")
        who = await identity(services)
        measured: PromptSize = await services.inference.ask(
            MeasurePrompt(generate_from(wanted, health.tool_call_format), client_id=who.client_id, caller=caller()),
            timeout=START_SECONDS,
        )
        return jsonify({"input_tokens": measured.prompt_tokens})


async def _stream(head: MessageHead, subscriber: StreamSubscriber) -> AsyncGenerator[bytes, None]:
    """Yield the answer as events. A stream that has begun always ends with `message_stop` or an error."""
    yield message_start(head)
    events = MessageEvents(head)
    try:
        while (tokens := await subscriber.take_within(SIGN_OF_LIFE_SECONDS)) != []:
            if tokens is None:
                yield PING
                continue
            for event in events.take("".join(one.text for one in tokens)):
                yield event
    except GenerationRefused as refusal:
        body, _ = anthropic_error(problem_of(refusal.code, refusal.message, field=refusal.field))
        yield error_event(body)
        return
    assert subscriber.done is not None
    for event in events.end(subscriber.done, subscriber.stop_text):
        yield event
