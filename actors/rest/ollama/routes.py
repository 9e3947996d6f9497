"""Ollama's routes under `/api`: version, tags, ps, show, chat, generate, embed. Those for model files are in
`model_files.py`.

Thin: a request becomes a `Generate`, and its events become lines of JSON.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from quart import Response, jsonify
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.errors import CommandError
from actors.inference.embedding_messages import is_encoder
from actors.inference.messages import (
    EngineHealth,
    GenerationRefused,
    GenerationTokens,
    ListModels,
    LoadModel,
    ModelState,
    UnloadModel,
)
from actors.rest.answer_reading.reader import answer_reader
from actors.rest.answers import streamed_answer
from actors.rest.models import encoder_health, engine_health, loaded_model
from actors.rest.ollama.embeddings import (
    encoder_running,
    encoder_shown,
    encoder_tag,
    register_ollama_embeddings,
)
from actors.rest.ollama.errors import left_out_as_called, ollama_error
from actors.rest.ollama.model_files import register_model_files
from actors.rest.ollama.replies import (
    AnswerLines,
    ReplyHead,
    answer,
    empty_answer,
    running_model,
    shown_model,
    tag,
)
from actors.rest.ollama.requests import (
    ModelRequest,
    OllamaRequest,
    generate_from,
    model_name,
    read_chat_request,
    read_generate_request,
)
from actors.rest.openai.answers import SIGN_OF_LIFE_SECONDS
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.problems import problem_of
from actors.rest.services import Services, identity, json_body
from actors.rest.stream_subscriber import StreamSubscriber
from protocol.codec import encode, structure
from protocol.errors import ErrorCode

__all__ = ["API_VERSION", "LINES", "register_ollama"]

API_VERSION = "0.12.11"
"""The version of Ollama's API that is reported. Clients ask for it and require a recent one."""
LINES = "application/x-ndjson"
LIST_SECONDS = 10.0
CHANGE_SECONDS = 900.0


def register_ollama(app: QuartTrio, services: Services) -> None:
    """Register the supported routes of `/api`."""
    ignored_fields = IgnoredFields(app)

    @app.get("/api/version")
    async def version() -> Any:
        return jsonify({"version": API_VERSION})

    @app.get("/api/tags")
    async def tags() -> Any:
        who = await identity(services)
        # Clients that may not change the model see only the active one.
        models = [
            one for one in await _models(services) if one.state != "absent" and (who.is_operator or one.is_in_use)
        ]
        encoder = await encoder_health(services)
        listed = [tag(one) for one in models] + ([encoder_tag(encoder)] if encoder.state != "off" else [])
        return jsonify({"models": listed})

    @app.get("/api/ps")
    async def running() -> Any:
        await identity(services)
        health = await engine_health(services)
        models = [one for one in await _models(services) if one.is_in_use and health.state == "ready"]
        encoder = await encoder_health(services)
        running = [encoder_running(encoder)] if encoder.state == "ready" else []
        return jsonify({"models": [running_model(one, health) for one in models] + running})

    @app.post("/api/show")
    async def show() -> Any:
        wanted = model_name((await named_model()).model)
        who = await identity(services)
        if is_encoder(wanted) and (encoder := await encoder_health(services)).state != "off":
            return jsonify(encoder_shown(encoder))
        found = [
            one for one in await _models(services) if wanted in (one.name, one.full_name) and one.state != "absent"
        ]
        if not found or not (who.is_operator or found[0].is_in_use):
            raise CommandError(ErrorCode.NOT_FOUND, f"model {wanted[:64]!r} not found", field="body.model")
        return jsonify(shown_model(found[0], await engine_health(services) if found[0].is_in_use else None))

    @app.post("/api/chat")
    async def chat() -> Any:
        return await _answer(services, ignored_fields, read_chat_request, is_chat=True)

    @app.post("/api/generate")
    async def generate() -> Any:
        return await _answer(services, ignored_fields, read_generate_request, is_chat=False)

    register_ollama_embeddings(app, services)
    register_model_files(app, services, named_model, LINES)


async def named_model() -> ModelRequest:
    """Parse a request about a model, which older clients name in `name`. Raises `InvalidField`."""
    body = await json_body(any_integers=True)
    fields = {"model": body.get("model", body.get("name")), "stream": body.get("stream")}
    named: ModelRequest = structure(
        {name: one for name, one in fields.items() if one is not None}, ModelRequest, prefix="body"
    )
    return named


async def _models(services: Services) -> tuple[ModelState, ...]:
    models: tuple[ModelState, ...] = await services.inference.ask(ListModels(), timeout=LIST_SECONDS)
    return models


async def _answer(
    services: Services, ignored_fields: IgnoredFields, read: Callable[[dict[str, Any]], OllamaRequest], *, is_chat: bool
) -> Response:
    wanted = read(await json_body(any_integers=True))
    who = await identity(services)
    ignored_fields.note(who.client_id, wanted.ignored)
    health = await loaded_model(services, model_name(wanted.plain.model), "body.model")
    generate = None if wanted.is_empty else generate_from(wanted, health.tool_call_format)
    head = ReplyHead(
        model=wanted.plain.model,
        is_chat=is_chat,
        now=time.time,
        has_logprobs=wanted.plain.logprobs is True,
        new_reader=None
        if generate is None or generate.messages is None
        else answer_reader(health, generate, wanted.callable_schemas),
    )
    if generate is None:
        return await _load(services, who, wanted, head, health)
    subscriber = StreamSubscriber(services.inference)
    started = await subscriber.start(who, generate, to_context_end=True)
    ignored_fields.note(who.client_id, left_out_as_called(started.left_out))
    if wanted.is_streamed:
        return streamed_answer(_lines(head, subscriber), LINES)
    tokens = [one async for one in _all_of(subscriber)]
    assert subscriber.done is not None
    return jsonify(answer(head, tokens, subscriber.done))


async def _all_of(subscriber: StreamSubscriber) -> AsyncGenerator[GenerationTokens, None]:
    while taken := await subscriber.take():
        for one in taken:
            yield one


async def _load(
    services: Services, who: Identity, wanted: OllamaRequest, head: ReplyHead, health: EngineHealth
) -> Response:
    """Carry out an empty request, with which Ollama's clients load and unload a model."""
    if wanted.unloads:
        if not who.is_operator:
            raise CommandError(ErrorCode.FORBIDDEN, "this needs a token with the role operator", field="keep_alive")
        await services.inference.ask(UnloadModel(health.model), timeout=CHANGE_SECONDS)
    elif health.state != "ready":
        await services.inference.ask(LoadModel(health.model), timeout=CHANGE_SECONDS)
    reply = empty_answer(head, "unload" if wanted.unloads else "load")
    return Response(encode(reply) + b"\n", content_type=LINES if wanted.is_streamed else "application/json")


async def _lines(head: ReplyHead, subscriber: StreamSubscriber) -> AsyncGenerator[bytes, None]:
    """Yield the answer as lines. A stream that has begun always ends with `done` or an error."""
    lines = AnswerLines(head)
    try:
        while (tokens := await subscriber.take_within(SIGN_OF_LIFE_SECONDS)) != []:
            if tokens is None:
                # An empty line keeps clients and proxies from timing out.
                yield _line(head.line(""))
                continue
            for one in lines.take(tokens):
                yield _line(one)
    except GenerationRefused as refusal:
        yield _line(ollama_error(problem_of(refusal.code, refusal.message, field=refusal.field))[0])
        return
    assert subscriber.done is not None
    for one in lines.end(subscriber.done):
        yield _line(one)


def _line(data: dict[str, Any]) -> bytes:
    return encode(data) + b"\n"
