"""Prefill budget: the division of a step between reading prompts and decoding."""

from __future__ import annotations

from actors.inference.worker.prefill_policy import (
    COMPUTED_BY,
    FIRST_CHUNKS,
    FIRST_TOKENS,
    LARGE_TOKENS,
    LEAST_TOKENS,
    MEASURED_EVERY,
    MOST_SECONDS,
    MOST_TOKENS,
    SMALL_TOKENS,
    YOUNG_SECONDS,
    PrefillBudget,
)


def measured(decode_seconds: float, token_seconds: float) -> PrefillBudget:
    budget = PrefillBudget()
    for _ in range(50):
        budget.decoded(decode_seconds, 4)
        budget.read(token_seconds * 100, 100)
    return budget


def test_a_prompt_alone_is_read_in_the_largest_chunks() -> None:
    assert measured(0.05, 0.004).tokens(decoding_rows=0, reading_rows=1) == MOST_TOKENS


def test_p03_a_slow_models_chunks_are_no_longer_than_a_cancellation_may_wait() -> None:
    for token_seconds in (0.0001, 0.004, 0.006, 0.02, 0.04, 0.5):
        tokens = measured(0.2, token_seconds).tokens(decoding_rows=0, reading_rows=1)
        assert SMALL_TOKENS <= tokens <= MOST_TOKENS
        assert tokens * token_seconds <= MOST_SECONDS or tokens == SMALL_TOKENS
        # Nor any smaller than that asks for.
        assert tokens == MOST_TOKENS or (tokens + SMALL_TOKENS) * token_seconds > MOST_SECONDS


def test_p08_reading_one_long_prompt_keeps_the_gap_of_the_others_below_three_times_their_idle_one() -> None:
    for decode_seconds, token_seconds in ((0.05, 0.004), (0.1, 0.003), (0.02, 0.0001), (0.3, 0.01)):
        tokens = measured(decode_seconds, token_seconds).tokens(decoding_rows=4, reading_rows=1)
        if tokens > LEAST_TOKENS:
            assert decode_seconds + tokens * token_seconds <= 3 * decode_seconds


def test_many_who_wait_get_more_than_few_who_see_their_text_pause() -> None:
    budget = measured(0.05, 0.004)
    assert budget.tokens(decoding_rows=1, reading_rows=8) > budget.tokens(decoding_rows=8, reading_rows=1)


def test_a_prompt_makes_progress_however_dear_reading_is() -> None:
    assert measured(0.01, 5.0).tokens(decoding_rows=8, reading_rows=1) == LEAST_TOKENS


def test_before_anything_was_measured_a_small_chunk_is_tried() -> None:
    assert 0 < PrefillBudget().tokens(decoding_rows=3, reading_rows=1) < MOST_TOKENS


def test_a_prompt_takes_its_first_two_steps_soon_while_the_process_is_young() -> None:
    budget = PrefillBudget()
    sizes = [budget.tokens(decoding_rows=0, reading_rows=1, chunks_read=chunks) for chunks in range(FIRST_CHUNKS + 1)]
    assert sizes == [FIRST_TOKENS] * FIRST_CHUNKS + [MOST_TOKENS]
    for _ in range(6):
        budget.read(YOUNG_SECONDS / 6, MOST_TOKENS)
    assert budget.tokens(decoding_rows=0, reading_rows=1, chunks_read=0) == MOST_TOKENS


def test_what_a_token_costs_in_large_chunks_is_not_forgotten_while_only_small_ones_are_read() -> None:
    budget = PrefillBudget()
    assert budget.large_chunk_token_seconds is None
    budget.read(0.1, 10)
    assert budget.large_chunk_token_seconds == 0.01
    budget.read(LARGE_TOKENS * 0.001, LARGE_TOKENS)
    budget.read(0.1, 10)
    assert budget.large_chunk_token_seconds == 0.001


def test_of_a_pass_that_reads_and_decodes_only_what_decoding_does_not_take_is_readings() -> None:
    apart, together = PrefillBudget(), PrefillBudget()
    apart.decoded(0.05, 4)
    apart.read(0.08, 20)
    together.decoded(0.05, 4)
    together.read_beside(0.13, 20)
    assert together.tokens(decoding_rows=4, reading_rows=1) == apart.tokens(decoding_rows=4, reading_rows=1) == 12


def test_a_pass_that_seems_to_have_read_for_nothing_does_not_set_reading_free() -> None:
    budget = PrefillBudget()
    budget.decoded(0.05, 4)
    for _ in range(100):
        budget.read_beside(0.04, 20)
    # A tenth of the pass is taken for reading's: 0.2 ms a token.
    assert budget.tokens(decoding_rows=4, reading_rows=1) == 252


def test_what_decoding_takes_is_known_for_a_while_and_for_about_as_many_rows() -> None:
    budget = PrefillBudget()
    assert not budget.knows_decoding_of(4)
    budget.decoded(0.05, 8)
    assert [rows for rows in range(1, 20) if budget.knows_decoding_of(rows)] == [6, 7, 8, 9, 10]
    for _ in range(MEASURED_EVERY):
        assert budget.knows_decoding_of(8)
        budget.read_beside(0.1, 10)
    assert not budget.knows_decoding_of(8)
    budget.decoded(0.05, 8)
    assert budget.knows_decoding_of(8)


def test_what_other_rows_took_is_forgotten_at_once() -> None:
    budget = PrefillBudget()
    budget.decoded(0.4, 32)
    budget.decoded(0.05, 4)
    budget.read(0.004 * 100, 100)
    assert budget.tokens(decoding_rows=4, reading_rows=1) == 12


def test_a_pass_is_made_as_wide_as_it_costs() -> None:
    budget = measured(0.05, 0.004)
    for rows in range(1, 30):
        tokens = budget.tokens(decoding_rows=rows, reading_rows=1)
        assert (tokens + rows) % COMPUTED_BY == 0
        assert abs(tokens - 0.05 / 0.004) <= COMPUTED_BY / 2
