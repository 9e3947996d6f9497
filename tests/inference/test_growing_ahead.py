"""Caches of keys and values grow a few layers per step before the space is needed, so that no step grows all of them."""

from __future__ import annotations

import pytest

from actors.inference.mlx.load import LoadedModel, load_checkpoint
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import Answers, assert_solo, copy_of, make_row, make_stepper, prompt, write_tiny_phi3

pytestmark = pytest.mark.mlx_real_inference

LAYERS = 8
ROOM = 256
"""Positions that a cache grows by."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    loaded = load_checkpoint(write_tiny_phi3(tmp_path_factory.mktemp("deep") / "model", layers=LAYERS), "cpu")
    assert loaded.threads is not None, loaded.uncompiled
    return loaded


def capacities(stepper: MlxStepper) -> list[int]:
    return [0 if one.keys is None else one.keys.shape[2] for one in stepper._cache]


def answered(stepper: MlxStepper, rows: list[Row]) -> tuple[Answers, list[int], list[int]]:
    """The answers, how many layers grew in each step from when all rows had begun, and the final capacity of each."""
    answers, grown, last = Answers(), [], []
    for row in rows:
        stepper.admit(copy_of(row))
    while len(stepper._rows) < len(rows):
        answers.take(stepper.step())
    while stepper.has_work():
        before, count = capacities(stepper), len(stepper._rows)
        answers.take(stepper.step())
        if len(stepper._rows) == count:
            last = capacities(stepper)
            grown.append(sum(new > old for new, old in zip(capacities(stepper), before, strict=True)))
    return answers, grown, last


@pytest.mark.parametrize("count", [1, 3])
def test_p08_no_step_makes_all_the_room_and_the_answers_stay_the_same(deep: LoadedModel, count: int) -> None:
    rows = [make_row(number, prompt(number, ROOM - 100), 150) for number in range(count)]
    answers, grown, last = answered(make_stepper(deep), rows)
    assert last == [2 * ROOM] * LAYERS
    # A row that is alone may take many positions in one step.
    assert max(grown) <= (3 if count == 1 else 1)
    assert_solo(deep, rows, answers)


def test_p05_rows_that_end_within_their_room_are_given_no_more(deep: LoadedModel) -> None:
    rows = [make_row(number, prompt(number, ROOM - 40), 30) for number in range(3)]
    answers, grown, last = answered(make_stepper(deep), rows)
    assert (sum(grown), last) == (0, [ROOM] * LAYERS)
    assert_solo(deep, rows, answers)


def test_p08_room_that_is_needed_at_once_is_made_at_once(deep: LoadedModel) -> None:
    rows = [make_row(number, prompt(number, ROOM - 3), 20) for number in range(3)]
    answers, grown, last = answered(make_stepper(deep), rows)
    assert last == [2 * ROOM] * LAYERS
    assert max(grown) == 3, "in the three steps that there are"
    assert_solo(deep, rows, answers)
