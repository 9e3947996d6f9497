"""Ollama's `/api/embed` and the older `/api/embeddings`; the encoder in Ollama's lists of models."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from attrs import Attribute, field, frozen
from quart import Response
from quart_trio import QuartTrio

from actors.inference.embedding_messages import DIMENSIONS, Embedded, EmbedTexts, EncoderHealth, is_encoder
from actors.rest.models import not_an_encoder
from actors.rest.ollama.fields import RULES_OF_EMBED, RULES_OF_EMBEDDINGS
from actors.rest.ollama.replies import modified
from actors.rest.ollama.requests import model_name
from actors.rest.openai.embeddings import MAXIMUM_INPUTS, Inputs, embed
from actors.rest.openai.fields import FieldRule, sort_by_rules
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.services import Services, caller, identity, json_body
from protocol.codec import encode, structure
from protocol.json_text import json_type
from protocol.validation import FieldFault, between, length

__all__ = ["encoder_running", "encoder_shown", "encoder_tag", "register_ollama_embeddings"]

LATEST = ":latest"


def _texts(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise FieldFault(attribute.name, f"must be a string or an array of strings, not {json_type(value)}")
    if len(value) > MAXIMUM_INPUTS:
        raise FieldFault(attribute.name, f"may have at most {MAXIMUM_INPUTS} elements, not {len(value)}")
    for index, one in enumerate(value):
        if not isinstance(one, str):
            raise FieldFault(f"{attribute.name}[{index}]", f"must be a string, not {json_type(one)}")


@frozen(kw_only=True)
class EmbedRequest:
    """Body of `POST /api/embed` and `POST /api/embeddings`."""

    model: str = field(validator=length(1, 256, "characters"))
    input: Any = field(default=None, validator=_texts, repr=False)
    prompt: str | None = field(default=None, repr=False)
    truncate: bool | None = None
    """Ollama truncates long texts unless this is false."""
    dimensions: int | None = field(default=None, validator=between(1, DIMENSIONS))

    @property
    def texts(self) -> Inputs:
        """The texts to embed. An empty text alone only asks to load the model."""
        given = self.prompt if self.input is None else self.input
        if isinstance(given, str):
            return (given,) if given else ()
        return tuple(given or ())


def register_ollama_embeddings(app: QuartTrio, services: Services) -> None:
    """Register `/api/embed` and `/api/embeddings`."""
    ignored_fields = IgnoredFields(app)

    async def answer(rules: dict[str, FieldRule], name: str) -> tuple[EmbedRequest, Embedded]:
        body = await json_body(any_integers=True)
        taken, ignored = sort_by_rules(body, rules)
        wanted: EmbedRequest = structure(taken, EmbedRequest, prefix="body")
        who = await identity(services)
        ignored_fields.note(who.client_id, ignored)
        if not is_encoder(model_name(wanted.model)):
            raise await not_an_encoder(services, model_name(wanted.model))
        message = EmbedTexts(
            client_id=who.client_id,
            caller=caller(),
            inputs=wanted.texts,
            truncates=wanted.truncate is not False,
            dimensions=wanted.dimensions,
        )
        given = taken.get(name)
        return wanted, await embed(services, message, f"body.{name}", is_one=not isinstance(given, list))

    @app.post("/api/embed")
    async def ollama_embed() -> Any:
        began = time.monotonic()
        wanted, made = await answer(RULES_OF_EMBED, "input")
        return Response(b"".join(_reply(wanted.model, made, began)), content_type="application/json")

    @app.post("/api/embeddings")
    async def ollama_embeddings() -> Any:
        _, made = await answer(RULES_OF_EMBEDDINGS, "prompt")
        return Response(
            b'{"embedding":%s}' % (made.vectors[0] if made.vectors else b"[]"), content_type="application/json"
        )


def _reply(model: str, made: Embedded, began: float) -> Iterable[bytes]:
    yield b'{"embeddings":['
    yield b",".join(made.vectors)
    told = {
        "model": model,
        "total_duration": round(1e9 * (time.monotonic() - began)),
        "load_duration": round(1e9 * made.load_seconds),
        "prompt_eval_count": made.tokens,
    }
    yield b"]," + encode(told).removeprefix(b"{")


def encoder_tag(encoder: EncoderHealth) -> dict[str, Any]:
    """The encoder's entry in `/api/tags`."""
    return {
        "name": encoder.model + LATEST,
        "model": encoder.model + LATEST,
        "size": encoder.size_bytes,
        "digest": encoder.digest,
        **modified(encoder.modified_seconds),
        "details": {
            "parent_model": "",
            "format": "safetensors",
            "family": "bert",
            "families": ["bert"],
            "parameter_size": "22.7M",
            "quantization_level": "F32",
        },
        "state": encoder.state,
    }


def encoder_running(encoder: EncoderHealth) -> dict[str, Any]:
    """The encoder's entry in `/api/ps`."""
    return {**encoder_tag(encoder), "size_vram": 0, "context_length": encoder.context_tokens}


def encoder_shown(encoder: EncoderHealth) -> dict[str, Any]:
    """The encoder's answer of `/api/show`."""
    facts = {
        "general.architecture": "bert",
        "general.basename": encoder.model,
        "bert.context_length": encoder.context_tokens,
        "bert.embedding_length": encoder.dimensions,
    }
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": encoder_tag(encoder)["details"],
        "model_info": facts,
        "capabilities": ["embedding"],
        **modified(encoder.modified_seconds),
        "provenance": "verified",
        "state": encoder.state,
    }
