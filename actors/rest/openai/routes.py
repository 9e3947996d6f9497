"""OpenAI's routes for models, chat completions and completions, which most editors support.

Thin: a request becomes a `Generate`, and its events become OpenAI's JSON, whole or as server-sent events.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from quart import jsonify
from quart_trio import QuartTrio

from actors.inference.embedding_messages import is_encoder
from actors.inference.messages import DescribeEngine, EngineHealth, GenerationTokens
from actors.rest.answer_reading.reader import answer_reader
from actors.rest.answers import event_stream
from actors.rest.models import HEALTH_SECONDS, encoder_health, loaded_model
from actors.rest.openai.answers import Asked, start_answers
from actors.rest.openai.chunks import ChatChunks, TextChunks, call_id
from actors.rest.openai.errors import as_client_calls
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.openai.replies import (
    ReplyHead,
    chat_completion,
    completion,
    encoder_model,
    models,
)
from actors.rest.openai.requests import (
    generate_from_chat,
    generates_from_prompts,
    read_chat,
    read_completion,
)
from actors.rest.services import Services, identity, json_body
from protocol.events import Done

__all__ = ["register_openai"]


def register_openai(app: QuartTrio, services: Services) -> None:
    """Register `/v1/models`, `/v1/chat/completions` and `/v1/completions`."""
    started_at = int(time.time())
    ignored_fields = IgnoredFields(app)

    async def engine() -> EngineHealth:
        return await services.inference.ask(DescribeEngine(), timeout=HEALTH_SECONDS)

    check_model = partial(loaded_model, services)

    @app.get("/v1/models")
    async def openai_models() -> Any:
        await identity(services)
        found = [models(await engine(), started_at)]
        encoder = await encoder_health(services)
        if encoder.state != "off":
            found.append(encoder_model(encoder, started_at))
        # The last three are Anthropic's, whose clients list models here too.
        return jsonify(
            {
                "object": "list",
                "data": found,
                "has_more": False,
                "first_id": found[0]["id"],
                "last_id": found[-1]["id"],
            }
        )

    @app.get("/v1/models/<path:name>")
    async def openai_model(name: str) -> Any:
        await identity(services)
        if is_encoder(name) and (encoder := await encoder_health(services)).state != "off":
            return jsonify(encoder_model(encoder, started_at))
        return jsonify(models(await check_model(name, "model"), started_at))

    @app.post("/v1/chat/completions")
    async def chat_completions() -> Any:
        wanted, ignored = read_chat(await _body())
        who = await identity(services)
        ignored_fields.note(who.client_id, ignored)
        health = await check_model(wanted.model, "body.model")
        generate = generate_from_chat(wanted, health.tool_call_format)
        head = ReplyHead(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            model=health.model,
            created=int(time.time()),
            is_chat=True,
            includes_usage=wanted.includes_usage,
            has_logprobs=bool(wanted.logprobs),
            is_forced=wanted.must_call,
            names_function=wanted.names_function,
            is_legacy=wanted.is_legacy,
        )
        asked = Asked(
            generates=[generate],
            made=wanted.n or 1,
            told=wanted.n or 1,
            ignores_end=bool(wanted.ignore_eos),
        )
        answers = await start_answers(services.inference, who, head, asked)
        ignored_fields.note(who.client_id, [as_client_calls(one) for one in answers.left_out])
        new_reader = answer_reader(health, generate, wanted.callable_schemas)
        if wanted.stream:
            return event_stream(answers.stream([ChatChunks(head, new_reader()) for _ in answers.subscribers]))

        def make(tokens: Sequence[GenerationTokens], done: Done) -> dict[str, Any]:
            return chat_completion(head, new_reader(), tokens, done, make_id=call_id)

        return jsonify(await answers.whole(make))

    @app.post("/v1/completions")
    async def completions() -> Any:
        wanted, ignored = read_completion(await _body())
        who = await identity(services)
        ignored_fields.note(who.client_id, ignored)
        head = ReplyHead(
            id=f"cmpl-{secrets.token_hex(12)}",
            model=(await check_model(wanted.model, "body.model")).model,
            created=int(time.time()),
            is_chat=False,
            includes_usage=wanted.includes_usage,
            has_logprobs=wanted.logprobs is not None,
        )
        prompts = wanted.prompts
        asked = Asked(
            generates=generates_from_prompts(wanted),
            made=wanted.made,
            told=wanted.n or 1,
            ignores_end=bool(wanted.ignore_eos),
            echoes=prompts if wanted.echo else (),
            reads_prompt=wanted.reads_prompt,
            makes_nothing=wanted.max_tokens == 0,
        )
        answers = await start_answers(services.inference, who, head, asked)
        if wanted.stream:
            return event_stream(answers.stream([TextChunks(head) for _ in answers.subscribers]))
        return jsonify(await answers.whole(partial(completion, head)))


async def _body() -> dict[str, Any]:
    """Read the request's JSON. Like OpenAI's Python server, accept integers of any size unless a field has bounds."""
    return await json_body(any_integers=True)
