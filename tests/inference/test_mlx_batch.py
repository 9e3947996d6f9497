"""Rows in one batch do not notice each other, on a synthetic Phi-3 of two layers (promises 2, 10, 11 and 12)."""

import math
import threading
from typing import Any

import mlx.core as mx
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.mlx.load import LoadedModel
from actors.inference.sampling import Sampling
from actors.inference.worker import sampler
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.sampler import sample
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import (
    VOCABULARY,
    Answers,
    assert_solo,
    copy_of,
    make_row,
    make_stepper,
    prompt,
    run,
    solo,
)

pytestmark = pytest.mark.mlx_real_inference

HOT: dict[str, Any] = {"temperature": 1.0}


def ragged_rows(**settings: Any) -> list[Row]:
    return [make_row(number, prompt(number, length), **settings) for number, length in enumerate(RAGGED)]


RAGGED = [3, 40, 41, 30, 90, 64, 1, 75]


# --- batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_tokens", [8, 50, 1024])
def test_p12_ragged_prompts_in_one_batch_answer_as_they_do_alone(tiny: LoadedModel, chunk_tokens: int) -> None:
    rows = ragged_rows()
    answers = run(make_stepper(tiny, chunk_tokens=chunk_tokens), [copy_of(row) for row in rows])
    assert_solo(tiny, rows, answers)
    assert set(answers.finished.values()) == {"length"}
    assert len({tuple(ids) for ids in answers.ids.values()}) == len(rows), "or else the test would show nothing"


def test_a_prompt_read_in_chunks_gives_what_it_gives_when_read_at_once(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(1, 200))
    for chunk in (7, 100, 199, 200):
        assert run(make_stepper(tiny, chunk_tokens=chunk), [copy_of(row)]).ids[1] == solo(tiny, row)


def test_p12_rows_that_join_and_leave_change_nothing_for_the_others(tiny: LoadedModel) -> None:
    rows = [make_row(number, prompt(number, 5 + 13 * number), 10 + 9 * (number % 3)) for number in range(6)]
    stepper = make_stepper(tiny, chunk_tokens=32)

    def join(step: int, _answers: Answers) -> None:
        if step % 3 == 0 and step // 3 < len(rows):
            stepper.admit(copy_of(rows[step // 3]))

    assert_solo(tiny, rows, run(stepper, [], join))


def test_p10_a_cold_row_among_hot_ones_answers_as_it_does_alone(tiny: LoadedModel) -> None:
    cold = make_row(0, prompt(0, 20))
    hot = [make_row(number, prompt(number, 20), seed=number, temperature=1.5, top_k=50) for number in range(1, 6)]
    answers = run(make_stepper(tiny), [copy_of(cold), *hot])
    assert_solo(tiny, [cold], answers)


def test_log_probabilities_are_the_models_own_whatever_the_settings(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(1, 10), 6, temperature=2.0, top_k=3, repetition_penalty=1.5, logit_bias={5: 3.0}, seed=4)
    answers = run(make_stepper(tiny), [copy_of(row), make_row(2, prompt(2, 30))])
    ids = answers.ids[1]
    logits = tiny.model(mx.array([row.prompt_ids + ids]))[0]
    own = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    expected = [own[len(row.prompt_ids) - 1 + at, token].item() for at, token in enumerate(ids)]
    numpy.testing.assert_allclose(answers.log_probabilities[1], expected, atol=1e-4)


# --- seeds ------------------------------------------------------------------------------------------


def test_p11_the_same_seed_draws_the_same_tokens_alone_in_company_and_after_a_recovery(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(1, 25), 30, seed=77, temperature=1.2, top_p=0.95)
    alone = solo(tiny, row)
    neighbours = [make_row(number, prompt(number, 9 * number), 40, seed=number, **HOT) for number in range(2, 7)]
    assert run(make_stepper(tiny), [*neighbours, copy_of(row)]).ids[1] == alone
    for cut in (1, 2, 7, 15, 29):
        recovered = make_row(1, row.prompt_ids, 30, seed=77, temperature=1.2, top_p=0.95, emitted_ids=alone[:cut])
        company = [make_row(9, prompt(9, 50), 40, seed=3, **HOT)]
        assert run(make_stepper(tiny), [recovered, *company]).ids[1] == alone[cut:], f"cut at {cut}"


def test_other_seeds_draw_other_tokens(tiny: LoadedModel) -> None:
    answers = {tuple(solo(tiny, make_row(1, prompt(1, 25), 12, seed=seed, **HOT))) for seed in range(10)}
    assert len(answers) == 10


def test_rows_of_one_seed_and_prompt_draw_alike(tiny: LoadedModel) -> None:
    rows = [make_row(number, prompt(1, 25), 12, seed=5, **HOT) for number in range(3)]
    ids = run(make_stepper(tiny), rows).ids
    assert ids[0] == ids[1] == ids[2]


# --- settings of single rows ------------------------------------------------------------------------


def test_p10_each_rows_settings_are_its_own(tiny: LoadedModel) -> None:
    plain = solo(tiny, make_row(0, prompt(0, 20)))
    same = prompt(0, 20)
    rows = [
        make_row(0, same),
        make_row(1, same, seed=1, temperature=3.0, top_k=1),
        make_row(2, same, seed=2, temperature=3.0, top_p=1e-6),
        make_row(3, same, seed=3, temperature=3.0, min_p=1.0),
        make_row(4, same, logit_bias={17: 100.0}),
        make_row(5, same, logit_bias={plain[0]: -100.0}),
        make_row(6, same, seed=6, temperature=3.0),
        make_row(7, same, 5),
        make_row(8, same, stop_ids=frozenset({plain[4]})),
    ]
    answers = run(make_stepper(tiny), [copy_of(row) for row in rows])
    for truncated in (0, 1, 2, 3):
        assert answers.ids[truncated] == plain, "only the likeliest is left"
    assert answers.ids[4] == [17] * 12
    assert plain[0] not in answers.ids[5]
    assert answers.ids[6] != plain
    assert (answers.ids[7], answers.finished[7]) == (plain[:5], "length")
    stop_at = plain.index(plain[4]) + 1
    assert (answers.ids[8], answers.finished[8]) == (plain[:stop_at], "stop")
    assert_solo(tiny, rows, answers)


@pytest.mark.parametrize(
    "settings",
    [{"repetition_penalty": 1.7}, {"presence_penalty": 1.9}, {"frequency_penalty": 1.9}, {"repetition_penalty": 0.4}],
)
def test_penalties_follow_their_definitions_and_touch_one_row(tiny: LoadedModel, settings: dict[str, float]) -> None:
    row = make_row(1, prompt(1, 12), 25, **settings)
    company = make_row(2, prompt(2, 30), 25)
    answers = run(make_stepper(tiny), [copy_of(row), copy_of(company)])
    expected: list[int] = []
    while len(expected) < 25:
        scores = numpy.asarray(tiny.model(mx.array([row.prompt_ids + expected]))[0, -1]).copy()
        for token in set(row.prompt_ids + expected):
            penalty = settings.get("repetition_penalty", 1.0)
            scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
        for token in set(expected):
            scores[token] -= settings.get("presence_penalty", 0.0)
            scores[token] -= settings.get("frequency_penalty", 0.0) * expected.count(token)
        expected.append(int(scores.argmax()))
    assert answers.ids[1] == expected
    assert_solo(tiny, [company], answers)
    assert expected != solo(tiny, make_row(1, prompt(1, 12), 25)), "or else the penalty did nothing"


def test_truncation_keeps_exactly_the_tokens_it_names() -> None:
    # Probabilities 0.4, 0.3, 0.2, 0.1; each of many positions is a draw of its own.
    logits = mx.log(mx.array([[0.1, 0.4, 0.2, 0.3]]))

    def drawn(**truncation: Any) -> set[int]:
        rows = [make_row(0, [0], emitted_ids=[0] * at, seed=3, temperature=1.0, **truncation) for at in range(400)]
        return set(sample(mx.broadcast_to(logits, (400, 4)), rows, {}).token_ids)

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {1, 3}
    assert drawn(top_k=4) == {0, 1, 2, 3}
    assert drawn(top_p=0.39) == {1}
    assert drawn(top_p=0.5) == {1, 3}
    assert drawn(top_p=0.75) == {1, 2, 3}
    assert drawn(min_p=0.6) == {1, 3}
    assert drawn(min_p=0.6, top_k=1) == {1}


def test_mlx_chooses_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Off the CPU the scores stay in MLX's arrays; the same rules then run on those.
    logits = mx.random.normal((40, 500), key=mx.random.key(1)) * 3
    rows = [
        make_row(number, [0], seed=number, temperature=0.2 * number, top_p=1 - 0.02 * number, top_k=number % 3 * 20)
        for number in range(40)
    ]
    with_numpy = sample(logits, rows, {})
    monkeypatch.setattr(sampler, "array_library", lambda: mx)
    with_mlx = sample(logits, rows, {})
    assert with_mlx.token_ids == with_numpy.token_ids
    numpy.testing.assert_allclose(with_mlx.log_probabilities, with_numpy.log_probabilities, atol=1e-5)


def test_draws_follow_the_probabilities_at_their_temperature() -> None:
    probabilities = numpy.array([0.1, 0.4, 0.2, 0.3])
    for temperature in (0.5, 1.0, 2.0):
        rows = [make_row(0, [0], emitted_ids=[0] * at, seed=11, temperature=temperature) for at in range(1500)]
        logits = mx.broadcast_to(mx.log(mx.array(probabilities, dtype=mx.float32)), (1500, 4))
        counts = numpy.bincount(sample(logits, rows, {}).token_ids, minlength=4) / 1500
        expected = probabilities ** (1 / temperature)
        numpy.testing.assert_allclose(counts, expected / expected.sum(), atol=0.05)


def test_what_is_not_asked_for_cuts_nothing_off() -> None:
    # Of rounded probabilities the sum may reach one before the last: a row with top_p 1 keeps that one too.
    scores = mx.array(numpy.random.default_rng(1).standard_normal((4, 49_152)).astype(numpy.float32))
    everything = [make_row(0, [0], temperature=1.0, top_k=49_152).sampling] * 4
    assert sampler._truncated(scores - mx.max(scores), everything).min().item() > -math.inf


# --- leaving ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps_before", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("leaving", range(4))
def test_a_row_cancelled_in_prefill_leaves_the_others_as_they_were(
    tiny: LoadedModel, leaving: int, steps_before: int
) -> None:
    # Four prompts of similar length are read side by side, eight tokens a row and step, beside one that decodes.
    rows = [make_row(number, prompt(number, length), 8) for number, length in enumerate([40, 52, 46, 56])]
    decoding = make_row(9, prompt(9, 6), 30)
    stepper = make_stepper(tiny, chunk_tokens=32)

    def cancel(step: int, _answers: Answers) -> None:
        if step == 1:
            for row in rows:
                stepper.admit(copy_of(row))
        if step == 1 + steps_before:
            assert steps_before == 0 or stepper._prefill is not None, "it is being read"
            stepper.cancel(leaving)

    answers = run(stepper, [copy_of(decoding)], cancel)
    assert leaving not in answers.ids
    assert_solo(tiny, [row for row in [*rows, decoding] if row.row != leaving], answers)


def test_all_rows_of_a_prefill_may_leave(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=16)
    for number in range(3):
        stepper.admit(make_row(number, prompt(number, 40)))
    stepper.step()
    for number in range(3):
        stepper.cancel(number)
    assert not stepper.has_work()
    row = make_row(5, prompt(5, 40))
    assert_solo(tiny, [row], run(stepper, [copy_of(row)]))


def test_rows_cancelled_while_they_wait_or_decode_are_gone_from_the_next_step(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny)
    rows = [make_row(number, prompt(number, 10 + number), 20) for number in range(4)]
    answers = Answers()
    for row in rows:
        stepper.admit(copy_of(row))
    stepper.admit(make_row(8, prompt(8, 500)))
    for _ in range(3):
        answers.take(stepper.step())
    stepper.cancel(1)
    stepper.cancel(8)
    stepper.cancel(99)
    result = stepper.step()
    assert 1 not in result.rows
    assert 8 not in result.rows
    answers.take(result)
    while stepper.has_work():
        answers.take(stepper.step())
    assert_solo(tiny, [rows[0], rows[2], rows[3]], answers)


def test_after_clear_nothing_is_left_and_nothing_is_held(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=32)
    for number in range(4):
        stepper.admit(make_row(number, prompt(number, 10 if number < 2 else 200)))
    for _ in range(3):
        stepper.step()
    assert stepper.memory()["kv"] > 0
    stepper.clear()
    assert not stepper.has_work()
    assert stepper.memory()["kv"] == 0
    row = make_row(1, prompt(1, 10))
    assert_solo(tiny, [row], run(stepper, [copy_of(row)]))


def test_a_row_that_ends_frees_its_share_of_the_cache(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=1024)
    stepper.admit(make_row(1, prompt(1, 700), 3))
    stepper.admit(make_row(2, prompt(2, 10), 40))
    while len(stepper._rows) < 2:
        stepper.step()
    both = stepper.memory()["kv"]
    while len(stepper._rows) == 2:
        stepper.step()
    stepper.step()
    assert stepper.memory()["kv"] < both / 2, "neither its row nor the padding that it asked of the other is kept"


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_p12_any_order_of_joining_and_leaving_leaves_the_rest_as_they_are_alone(
    tiny: LoadedModel, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 60), min_size=2, max_size=6))
    rows = [
        make_row(number, prompt(number, length), data.draw(st.integers(1, 12)), seed=number, temperature=number % 2)
        for number, length in enumerate(lengths)
    ]
    joins = [data.draw(st.integers(0, 8)) for _ in rows]
    leaves = [data.draw(st.none() | st.integers(0, 16)) for _ in rows]
    prefix_bytes = data.draw(st.sampled_from([0, 10**7]))
    stepper = make_stepper(tiny, chunk_tokens=data.draw(st.sampled_from([4, 16, 64])), prefix_bytes=prefix_bytes)
    answers = Answers()
    for step in range(200):
        for row, join, leave in zip(rows, joins, leaves, strict=True):
            if join == step:
                stepper.admit(copy_of(row))
            if leave == step:
                stepper.cancel(row.row)
        if stepper.has_work():
            answers.take(stepper.step())
        elif step > 16:
            break
    for row, join, leave in zip(rows, joins, leaves, strict=True):
        expected = solo(tiny, row)
        got = answers.ids.get(row.row, [])
        assert got == expected[: len(got)]
        assert (leave is not None and leave >= join) or got == expected


# --- faults of single rows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(logit_bias={VOCABULARY: 1.0}),
        Sampling(logit_bias={-1: 1.0}),
        Sampling(repetition_penalty="much"),  # type: ignore[arg-type]
        Sampling(logit_bias={3: "more"}),  # type: ignore[dict-item]
    ],
)
def test_p02_a_row_whose_settings_raise_fails_alone(tiny: LoadedModel, sampling: Sampling) -> None:
    rows = ragged_rows()
    bad = make_row(50, prompt(50, 42), sampling=sampling)
    answers = run(make_stepper(tiny), [*[copy_of(row) for row in rows[:3]], bad, *[copy_of(row) for row in rows[3:]]])
    assert list(answers.failed) == [50]
    assert "Error" in answers.failed[50]
    assert 50 not in answers.ids
    assert_solo(tiny, rows, answers)


def test_p02_a_row_whose_settings_raise_later_fails_then(tiny: LoadedModel) -> None:
    # There is nothing to count before the first token, so this one begins well.
    bad = make_row(50, prompt(50, 42), frequency_penalty="much")
    company = make_row(1, prompt(1, 42))
    answers = run(make_stepper(tiny), [bad, copy_of(company)])
    assert (len(answers.ids[50]), list(answers.failed)) == (1, [50])
    assert_solo(tiny, [company], answers)


@pytest.mark.parametrize(("ids", "reason"), [([], "empty"), ([1, VOCABULARY], str(VOCABULARY)), ([-1, 2], "-1")])
def test_a_prompt_that_is_none_is_not_admitted(tiny: LoadedModel, ids: list[int], reason: str) -> None:
    stepper = make_stepper(tiny)
    with pytest.raises(ValueError, match=reason):
        stepper.admit(make_row(1, ids))
    assert not stepper.has_work()


def test_p19_only_the_thread_that_made_it_may_use_it(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny)
    caught: list[Exception] = []

    def use(stepper: MlxStepper) -> None:
        for action in (lambda: stepper.admit(make_row(1, [1])), stepper.step, stepper.clear, lambda: stepper.cancel(1)):
            try:
                action()
            except RuntimeError as error:
                caught.append(error)

    thread = threading.Thread(target=use, args=(stepper,))
    thread.start()
    thread.join()
    assert len(caught) == 4
