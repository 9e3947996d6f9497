"""Random schemas of the costly kind against the sandbox: each is taken or refused by name, and nothing else happens."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from actors.inference.messages import GenerationRefused
from protocol.errors import ErrorCode
from tests.fuzzing.schemas import MOST_CHARACTERS, RandomSchemas

from .test_sandbox import ENDLESS, encode, figures, opened, sandbox_running
from .tiny_text import write_text_folder

pytestmark = pytest.mark.integration

SCHEMAS = 250


def test_random_schemas_are_determined_by_the_seed_and_fit_a_frame() -> None:
    first, again, other = (RandomSchemas(random.Random(seed)) for seed in (1, 1, 2))
    made = [first.schema() for _ in range(300)]
    assert made == [again.schema() for _ in range(300)]
    assert made != [other.schema() for _ in range(300)]
    texts = [json.dumps(one) for one in made]
    assert max(len(one) for one in texts) <= MOST_CHARACTERS
    everything = "".join(texts)
    for keyword in (
        "multipleOf",
        "pattern",
        "minLength",
        "uniqueItems",
        "$ref",
        "enum",
        "minItems",
        "oneOf",
        "allOf",
        "not",
    ):
        assert f'"{keyword}"' in everything


async def test_random_schemas_are_taken_or_refused_by_name(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    generator, taken = RandomSchemas(random.Random(22)), 0
    refusals: list[tuple[ErrorCode, str | None, str]] = []
    async with sandbox_running() as system:
        await opened(system, folder)
        server = (await figures(system))["fork_servers"][0]["pid"]
        for schema in (ENDLESS, *(generator.schema() for _ in range(SCHEMAS))):
            try:
                await encode(system, folder, prompt="x", response_schema=schema)
                taken += 1
            except GenerationRefused as refusal:
                refusals.append((refusal.code, refusal.field, refusal.message))
        assert {one[:2] for one in refusals} == {(ErrorCode.INVALID_FIELD, "data.response_schema")}, refusals
        assert taken > SCHEMAS / 20
        assert (await figures(system))["ended_jobs"], "one of these never ends"
        assert (await figures(system))["fork_servers"][0]["pid"] == server
