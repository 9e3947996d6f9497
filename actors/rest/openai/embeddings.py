"""OpenAI's `/v1/embeddings`.

The encoder's worker formats the vectors as JSON text, so that here they are only concatenated and a large answer does
not block the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import Attribute, field, frozen
from quart import Response
from quart_trio import QuartTrio

from actors.inference.embedding_messages import DIMENSIONS, Embedded, EmbeddingRefused, EmbedTexts, is_encoder
from actors.rest.models import not_an_encoder
from actors.rest.openai.fields import EMBEDDING_RULES, sort_by_rules
from actors.rest.openai.ignored import IgnoredFields
from actors.rest.services import Services, caller, identity, json_body
from protocol.codec import encode, structure
from protocol.errors import InvalidField
from protocol.json_text import json_type
from protocol.validation import FieldFault, between, length

__all__ = ["EMBED_SECONDS", "MAXIMUM_INPUTS", "embed", "read_inputs", "register_embeddings"]

EMBED_SECONDS = 600.0
"""The default timeout of OpenAI's own clients."""
MAXIMUM_INPUTS = 2048
MAXIMUM_IDS = 8192
"""Token ids of one input. The encoder takes far fewer, and reports their number."""
MAXIMUM_ID = 2**31
ENCODINGS = ("float", "base64")
FORMS = "must be a string, an array of strings, an array of token ids or an array of such arrays"

Inputs = tuple[str | tuple[int, ...], ...]


def _encoding(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and value not in ENCODINGS:
        raise FieldFault(attribute.name, "must be float or base64")


@frozen(kw_only=True)
class EmbeddingsRequest:
    """Body of `POST /v1/embeddings` without `input`, which has four forms."""

    model: str = field(validator=length(1, 256, "characters"))
    dimensions: int | None = field(default=None, validator=between(1, DIMENSIONS))
    encoding_format: str | None = field(default=None, validator=_encoding)
    user: str | None = None


def register_embeddings(app: QuartTrio, services: Services) -> None:
    """Register `/v1/embeddings`."""
    ignored_fields = IgnoredFields(app)

    @app.post("/v1/embeddings")
    async def embeddings() -> Any:
        body = await json_body(any_integers=True)
        taken, ignored = sort_by_rules(body, EMBEDDING_RULES)
        raw = taken.pop("input", None)
        wanted: EmbeddingsRequest = structure(taken, EmbeddingsRequest, prefix="body")
        who = await identity(services)
        ignored_fields.note(who.client_id, ignored)
        if not is_encoder(wanted.model):
            raise await not_an_encoder(services, wanted.model)
        inputs = read_inputs(raw)
        message = EmbedTexts(
            client_id=who.client_id,
            caller=caller(),
            inputs=inputs,
            dimensions=wanted.dimensions,
            is_base64=wanted.encoding_format == "base64",
        )
        made = await embed(services, message, "body.input", is_one=not _is_several(raw))
        return Response(b"".join(_reply(made)), content_type="application/json")


async def embed(services: Services, message: EmbedTexts, name: str, *, is_one: bool) -> Embedded:
    """Ask the encoder. Raises `EmbeddingRefused` with the client's field: ``name``, or `name[3]` in a list of inputs."""
    try:
        made: Embedded = await services.encoder.ask(message, timeout=EMBED_SECONDS)
    except EmbeddingRefused as refusal:
        if refusal.field is None:
            raise
        place = name if is_one else refusal.field.replace("inputs", name, 1)
        place = "body.model" if refusal.field == "model" else place
        raise EmbeddingRefused(refusal.code, f"{place}: {refusal.message}", field=place) from None
    return made


def read_inputs(raw: Any, name: str = "body.input") -> Inputs:
    """Parse texts or lists of token ids. Raises `InvalidField` at the first element that is neither."""
    if isinstance(raw, str):
        _check_text(raw, name)
        return (raw,)
    if not isinstance(raw, list):
        raise InvalidField(
            f"{name} {FORMS}, not {json_type(raw)}" if raw is not None else f"{name} {FORMS}", field=name
        )
    if not raw:
        raise InvalidField(f"{name} must not be empty", field=name)
    if isinstance(raw[0], int) and not isinstance(raw[0], bool):
        _check_ids(raw, name)
        return (tuple(raw),)
    if len(raw) > MAXIMUM_INPUTS:
        raise InvalidField(f"{name} may have at most {MAXIMUM_INPUTS} elements, not {len(raw)}", field=name)
    is_text = isinstance(raw[0], str)
    for index, one in enumerate(raw):
        if isinstance(one, str) and is_text:
            _check_text(one, f"{name}[{index}]")
        elif isinstance(one, list) and not is_text:
            _check_ids(one, f"{name}[{index}]")
        else:
            raise InvalidField(f"{name} {FORMS}, and [{index}] is {json_type(one)}", field=f"{name}[{index}]")
    return tuple(one if isinstance(one, str) else tuple(one) for one in raw)


def _is_several(raw: Any) -> bool:
    return isinstance(raw, list) and not isinstance(raw[0], int)


def _check_text(text: str, name: str) -> None:
    if not text:
        raise InvalidField(f"{name} must not be empty", field=name)


def _check_ids(ids: list[Any], name: str) -> None:
    if not ids:
        raise InvalidField(f"{name} must not be empty", field=name)
    if len(ids) > MAXIMUM_IDS:
        raise InvalidField(f"{name} has {len(ids)} token ids, more than any model here accepts", field=name)
    if set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) >= MAXIMUM_ID:
        raise InvalidField(f"{name} must contain token ids, integers from 0", field=name)


def _reply(made: Embedded) -> Iterable[bytes]:
    yield b'{"object":"list","data":['
    for index, vector in enumerate(made.vectors):
        yield b'%s{"object":"embedding","index":%d,"embedding":' % (b"," if index else b"", index)
        yield vector
        yield b"}"
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    yield b"]," + encode({"model": made.model, "usage": usage}).removeprefix(b"{")
