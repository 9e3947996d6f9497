"""Answers that follow a JSON Schema: refused before admission or valid afterwards, batched with free neighbours."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from actors.inference.messages import GenerationRefused, GenerationTokens
from actors.inference.structured_output import BadSchema, Grammars
from actors.inference.text.text_model import CheckpointText
from protocol.errors import ErrorCode
from protocol.events import FinishReason
from tests.inference.service_kit import InferenceService, inference_service

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 16},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "languages": {"type": "array", "items": {"enum": ["Python", "Rust", "C"]}, "maxItems": 2},
    },
    "required": ["name", "age", "languages"],
    "additionalProperties": False,
}


def _optional(count: int, prefix: str = "p") -> dict[str, Any]:
    """An object with this many optional properties."""
    properties = {f"{prefix}{number}": {"type": "integer"} for number in range(count)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def real_room(embedded_model: Path, cache_folder: Path) -> AbstractAsyncContextManager[InferenceService]:
    return inference_service(
        engine="mlx",
        checkpoint=embedded_model,
        cache_folder=cache_folder,
        has_sandbox=True,
        patience_seconds=120,
    )


@pytest.fixture(scope="module")
def grammars(embedded_model: Path) -> Grammars:
    text = CheckpointText(embedded_model)
    return Grammars(embedded_model / "tokenizer.json", text.vocabulary_size, sorted(text.stop_token_ids))


@pytest.mark.mlx_real_inference
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://example.org/elsewhere.json"},
        {"not": {"pattern": "x"}},
        {"enum": ["x" * 70_000]},
        _optional(1300),
        {"anyOf": [_optional(400), {"type": "object", "properties": {"deep": _optional(900)}}]},
    ],
)
def test_p14_a_bad_or_huge_schema_is_refused_with_its_reason(grammars: Grammars, schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchema, match=r"\w"):
        grammars.check(schema)


@pytest.mark.mlx_real_inference
@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"anyOf": [_optional(20, f"o{number}_") for number in range(30)]}, '{"o7_3":-12,"o7_9":4}'),
        ({"anyOf": [_optional(10, f"o{number}_") for number in range(60)]}, '{"o59_0":1}'),
        (_optional(1200), '{"p3":1,"p700":22}'),
        ({"type": "array", "items": _optional(600)}, '[{},{"p599":1},{"p1":5,"p2":6}]'),
        (
            {
                "anyOf": [
                    {"type": "array", "items": {"anyOf": [{"const": one}, {"type": "array"}]}} for one in range(600)
                ]
            },
            "[7,[]]",
        ),
    ],
    ids=["thirty-objects", "sixty-objects", "1200-optional", "array-of-optional", "600-arrays"],
)
def test_p14_what_is_accepted_can_be_followed_to_its_end(
    grammars: Grammars, embedded_model: Path, schema: dict[str, Any], text: str
) -> None:
    import tokenizers

    grammars.check(schema)
    tokenizer = tokenizers.Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    matcher = grammars.matcher(schema, [])
    for token_id in tokenizer.encode(text, add_special_tokens=False).ids:
        assert matcher.mask()[token_id // 32] >> (token_id % 32) & 1
        matcher.take(token_id)
    matcher.mask()


@pytest.mark.mlx_real_inference
def test_a_matcher_goes_on_after_what_was_emitted(grammars: Grammars, embedded_model: Path) -> None:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    ids = tokenizer.encode('{"name":"Bo","age":5,"languages":["C"]}', add_special_tokens=False).ids
    for cut in range(len(ids)):
        fresh, resumed = grammars.matcher(PERSON, ids[:cut]), grammars.matcher(PERSON, [])
        for token_id in ids[:cut]:
            resumed.take(token_id)
        assert (fresh.mask() == resumed.mask()).all()
        assert fresh.mask()[ids[cut] // 32] >> (ids[cut] % 32) & 1


@pytest.mark.mlx_real_inference
async def test_p14_every_reply_is_valid_or_ends_with_length_while_batched_with_others(
    embedded_model: Path, cache_folder: Path
) -> None:
    async with real_room(embedded_model, cache_folder) as service:
        with pytest.raises(GenerationRefused) as refused:
            await service.start("x", response_schema={"type": "nonsense"})
        assert (refused.value.code, refused.value.field) == (ErrorCode.INVALID_FIELD, "data.response_schema")

        free = await service.start("The capital of France is", max_tokens=24)
        constrained = [
            await service.start(f"Person number {number} as JSON: ", response_schema=PERSON, max_tokens=60, **hot)
            for number, hot in enumerate([{}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.5, "seed": 2}])
        ]
        short = await service.start("A person as JSON: ", response_schema=PERSON, max_tokens=3)
        for stream in constrained:
            done = await service.done(stream)
            if done.finish_reason is FinishReason.STOP:
                jsonschema.validate(json.loads(service.text(stream)), PERSON)
            else:
                assert done.usage.completion_tokens == 60
        assert (await service.done(short)).finish_reason is FinishReason.LENGTH
        together = await service.answer(free)
        assert together == (await service.complete("The capital of France is", max_tokens=24)).text


@pytest.mark.mlx_real_inference
async def test_p14_a_pattern_that_outgrows_its_limits_on_the_way_ends_its_row_as_its_askers_fault(
    embedded_model: Path, cache_folder: Path
) -> None:
    # What an answer may come to is more than admission can look at: here, after some forty tokens of noise.
    pattern = {"type": "string", "pattern": "^(.*a.{10}b.*|.*c.{11}d.*|.*e.{12}f)$"}
    async with real_room(embedded_model, cache_folder) as service:
        free = await service.start("The capital of France is", max_tokens=24)
        noise = await service.start("x", response_schema=pattern, temperature=2.0, seed=1, max_tokens=400)
        failure = await service.failure(noise)
        assert failure.code is ErrorCode.INVALID_FIELD
        assert failure.message.startswith(
            "data.response_schema can no longer be enforced: its patterns or alternatives are too complex"
        )
        assert await service.answer(free) == (await service.complete("The capital of France is", max_tokens=24)).text


@pytest.mark.mlx_real_inference
async def test_p15_logprobs_are_of_the_tokens_that_were_emitted(embedded_model: Path, cache_folder: Path) -> None:
    async with real_room(embedded_model, cache_folder) as service:
        stream = await service.start("The capital of France is", max_tokens=4, logprobs=3)
        await service.done(stream)
        events = [one for one in service.events[stream] if isinstance(one, GenerationTokens)]
        described = [token for event in events for token in event.logprobs or ()]
        assert [one["token_id"] for one in described] == [token for event in events for token in event.token_ids]
        assert "".join(one["token"] for one in described) == service.text(stream)
        assert b"".join(bytes(one["bytes"]) for one in described).decode() == service.text(stream)
        for one in described:
            values = [other["logprob"] for other in one["top"]]
            assert len(values) == 3
            assert values == sorted(values, reverse=True)
            # Greedy: the emitted token is the likeliest.
            assert one["top"][0]["token_id"] == one["token_id"]
            assert one["logprob"] == pytest.approx(values[0], abs=1e-5)
