"""Each thing that a request may not ask for is refused with the field's name and the numbers on both sides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.messages import GenerationRefused
from actors.inference.request_rules import check_request, sampling_of
from actors.inference.sampling import Sampling, position_key
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import ErrorCode

VOCABULARY, CONTEXT, DEFAULT = 300, 1000, 64


def check(generate: Generate, prompt_tokens: int = 10) -> int:
    return check_request(
        generate,
        prompt_tokens=prompt_tokens,
        vocabulary_size=VOCABULARY,
        context_tokens=CONTEXT,
        default_max_tokens=DEFAULT,
    )


def refusal_of(prompt_tokens: int = 10, **fields: Any) -> GenerationRefused:
    with pytest.raises(GenerationRefused) as caught:
        check(Generate(**{"prompt": "x", **fields}), prompt_tokens)
    return caught.value


def test_top_k_beyond_the_vocabulary_names_both_numbers() -> None:
    refusal = refusal_of(top_k=VOCABULARY + 1)
    assert (refusal.code, refusal.field) == (ErrorCode.INVALID_FIELD, "data.top_k")
    assert str(VOCABULARY) in refusal.message
    assert str(VOCABULARY + 1) in refusal.message
    assert check(Generate(prompt="x", top_k=VOCABULARY)) == DEFAULT


def test_a_bias_for_a_token_beyond_the_vocabulary_names_the_token() -> None:
    refusal = refusal_of(logit_bias={"299": 1.0, "300": 1.0})
    assert (refusal.code, refusal.field) == (ErrorCode.INVALID_FIELD, "data.logit_bias.300")
    assert "300" in refusal.message
    assert check(Generate(prompt="x", logit_bias={"299": 1.0})) == DEFAULT


def test_a_prompt_longer_than_the_context_names_both_numbers() -> None:
    refusal = refusal_of(prompt_tokens=CONTEXT)
    assert (refusal.code, refusal.field) == (ErrorCode.CONTEXT_LENGTH_EXCEEDED, "data.prompt")
    assert f"{CONTEXT} tokens" in refusal.message
    assert f"maximum context length is {CONTEXT} tokens" in refusal.message
    chat = [ChatMessage(Role.USER, "x")]
    assert refusal_of(prompt_tokens=CONTEXT + 5, prompt=None, messages=chat).field == "data.messages"


def test_an_answer_that_does_not_fit_names_all_three_numbers() -> None:
    refusal = refusal_of(prompt_tokens=900, max_tokens=101)
    assert (refusal.code, refusal.field) == (ErrorCode.CONTEXT_LENGTH_EXCEEDED, "data.max_tokens")
    for number in ("900", "101", str(CONTEXT)):
        assert number in refusal.message


def test_an_empty_prompt_is_refused() -> None:
    assert refusal_of(prompt_tokens=0).code is ErrorCode.INVALID_FIELD


@given(prompt_tokens=st.integers(1, CONTEXT - 1), wanted=st.none() | st.integers(1, CONTEXT))
def test_what_is_accepted_fits_and_is_what_was_asked_for(prompt_tokens: int, wanted: int | None) -> None:
    try:
        granted = check(Generate(prompt="x", max_tokens=wanted), prompt_tokens)
    except GenerationRefused:
        assert wanted is not None
        assert prompt_tokens + wanted > CONTEXT
        return
    assert prompt_tokens + granted <= CONTEXT
    assert granted == (min(DEFAULT, CONTEXT - prompt_tokens) if wanted is None else wanted)


def test_every_sampling_field_reaches_the_worker() -> None:
    generate = Generate(
        prompt="x",
        temperature=0.7,
        top_p=0.8,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.2,
        presence_penalty=0.3,
        frequency_penalty=0.4,
        logit_bias={"7": -3.5},
        seed=99,
    )
    assert sampling_of(generate, 5) == Sampling(
        temperature=0.7,
        top_p=0.8,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.2,
        presence_penalty=0.3,
        frequency_penalty=0.4,
        logit_bias={7: -3.5},
        seed=5,
    )


def test_no_two_draws_on_a_grid_share_a_key() -> None:
    seeds = [*range(200), *(2**53 - one for one in range(200)), *(2**bit for bit in range(8, 53))]
    keys = {position_key(seed, position) for seed in set(seeds) for position in range(300)}
    assert len(keys) == len(set(seeds)) * 300
    assert all(0 <= key < 2**64 for key in keys)


@given(st.integers(0, 2**53), st.integers(0, 100_000))
def test_a_key_depends_on_seed_and_position(seed: int, position: int) -> None:
    key = position_key(seed, position)
    assert key == position_key(seed, position)
    assert key != position_key(seed + 1, position)
    assert key != position_key(seed, position + 1)


def test_neighbouring_keys_share_no_half() -> None:
    # The generator takes the two halves as its key, so neither alone may carry the whole difference.
    keys = [position_key(seed, position) for seed in range(64) for position in range(64)]
    assert len({key >> 32 for key in keys}) > 4090
    assert len({key & 0xFFFFFFFF for key in keys}) > 4090


@pytest.mark.parametrize(("prompt_tokens", "longest"), [(10, 500), (900, 100)])
def test_te40_a_length_that_is_wished_for_gives_way_to_the_context(prompt_tokens: int, longest: int) -> None:
    assert check(Generate(prompt="x", max_tokens_if_room=500), prompt_tokens) == longest
    assert check(Generate(prompt="x", max_tokens_if_room=500, max_tokens=7), prompt_tokens) == 7
