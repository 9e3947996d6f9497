"""A prompt is read in the pass in which the rows of the batch decode, where compiled code computes both."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.inference.kernels import layers
from actors.inference.mlx.load import LoadedModel, load_checkpoint
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.prefill_policy import MEASURED_EVERY
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import (
    Answers,
    assert_solo,
    copy_of,
    make_row,
    make_stepper,
    prompt,
    run,
    write_tiny_phi3,
)

pytestmark = pytest.mark.mlx_real_inference


def decoding(stepper: MlxStepper, rows: list[Row]) -> Answers:
    """Rows that have begun to answer."""
    answers = Answers()
    for row in rows:
        stepper.admit(copy_of(row))
    while len(stepper._rows) < len(rows):
        answers.take(stepper.step())
    answers.take(stepper.step())
    return answers


def count_passes(stepper: MlxStepper, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The passes through all layers, from now on."""
    thread_pool, passes = stepper._model.model.compiled._thread_pool, []
    original = thread_pool.run

    def run_counted(function: object, *arguments: object) -> None:
        if function is layers.forward:
            passes.append(function)
        original(function, *arguments)

    monkeypatch.setattr(thread_pool, "run", run_counted)
    return passes


def test_p08_one_pass_reads_a_chunk_and_decodes_every_row(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = make_stepper(tiny, chunk_tokens=16)
    rows = [make_row(number, prompt(number, 9 + number), 60) for number in range(3)]
    answers = decoding(stepper, rows)
    passes = count_passes(stepper, monkeypatch)
    late = [make_row(10 + number, prompt(10 + number, 40), 5) for number in range(2)]
    for row in late:
        stepper.admit(copy_of(row))
    for _ in range(3):
        passes.clear()
        result = stepper.step()
        answers.take(result)
        assert len(passes) == 1
        assert result.prefilled_tokens == 16
        assert [one.row for one in result.emitted] == [0, 1, 2]
    answers.take(result := stepper.step())
    while result.prefilled_tokens:
        passes.clear()
        answers.take(result := stepper.step())
        assert len(passes) == 1
    later = run(stepper, [])
    for row, ids in later.ids.items():
        answers.ids.setdefault(row, []).extend(ids)
    assert_solo(tiny, [*rows, *late], answers)


def test_rows_that_end_in_the_pass_leave_and_those_that_were_read_go_on(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=64)
    rows = [make_row(number, prompt(number, 9), 3 + number) for number in range(3)]
    answers = decoding(stepper, rows)
    late = make_row(10, prompt(10, 30), 9)
    stepper.admit(copy_of(late))
    answers.take(result := stepper.step())
    assert result.prefilled_tokens == 30
    assert [one.row for one in result.emitted] == [0, 1, 2, 10], "the first token of the prompt comes in the same step"
    assert answers.finished == {0: "length"}
    later = run(stepper, [])
    for row, ids in later.ids.items():
        answers.ids.setdefault(row, []).extend(ids)
    assert_solo(tiny, [*rows, late], answers)


def test_from_time_to_time_rows_decode_alone_to_be_measured(tiny: LoadedModel) -> None:
    stepper = MlxStepper(tiny, {}, None, prefix_bytes=0)
    answers = decoding(stepper, [make_row(number, prompt(number, 9), 400) for number in range(2)])
    stepper.step()
    # Nothing decides how large the chunks are but that they are the least.
    stepper._budget.read_beside(1000.0, 1)
    stepper.admit(make_row(9, prompt(9, 1900), 2))
    read = []
    for _ in range(2 * MEASURED_EVERY + 2):
        result = stepper.step()
        answers.take(result)
        assert [one.row for one in result.emitted][:2] == [0, 1]
        read.append(result.prefilled_tokens)
    alone = [index for index, tokens in enumerate(read) if not tokens]
    assert len(alone) == 2
    assert alone[1] - alone[0] == MEASURED_EVERY + 1


def test_without_compiled_code_a_step_decodes_and_then_reads(tmp_path: Path) -> None:
    loaded = load_checkpoint(write_tiny_phi3(tmp_path / "tiny"), "cpu", may_compile=False)
    stepper = make_stepper(loaded, chunk_tokens=16)
    rows = [make_row(number, prompt(number, 9), 20) for number in range(2)]
    answers = decoding(stepper, rows)
    late = make_row(9, prompt(9, 40), 5)
    stepper.admit(copy_of(late))
    result = stepper.step()
    answers.take(result)
    assert (result.prefilled_tokens, [one.row for one in result.emitted]) == (16, [0, 1])
    later = run(stepper, [])
    for row, ids in later.ids.items():
        answers.ids.setdefault(row, []).extend(ids)
    assert_solo(loaded, [*rows, late], answers)
