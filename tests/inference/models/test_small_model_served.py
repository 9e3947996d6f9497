"""A small checkpoint of each shape through the step loop itself: a ragged batch gives the reference's greedy ids."""

from pathlib import Path

import numpy
import pytest

from actors.inference.sampling import Sampling
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.start import load_stepper
from actors.inference.worker.stepper import Row
from tests.inference.golden.phi3_shapes import NEW_TOKENS, SHAPES, TRAINED_LENGTH, prompts
from tests.inference.models.small_checkpoints import write_small

REFERENCE = numpy.load(Path(__file__).parents[1] / "golden" / "phi3_reference.npz")
BLAS = BlasReport(name="test", choice="shipped", warning=None)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_a_ragged_batch_emit_what_the_reference_does(shape: str, tmp_path: Path) -> None:
    stepper = load_stepper(write_small(tmp_path / shape, shape=shape), shape, BLAS, lambda _stage: None, prefix_bytes=0)
    report = stepper.report()
    wanted = {}
    for number, ids in enumerate(prompts(shape)):
        if len(ids) + NEW_TOKENS > report["context_tokens"]:
            continue  # what admission refuses
        wanted[number] = REFERENCE[f"{shape}/{number}/greedy"].tolist()
        stepper.admit(
            Row(
                row=number, prompt_ids=ids, emitted_ids=[], max_tokens=NEW_TOKENS, stop_ids=frozenset(),
                sampling=Sampling(),
            )
        )  # fmt: skip
    emitted: dict[int, list[int]] = {number: [] for number in wanted}
    while stepper.has_work():
        for one in stepper.step().emitted:
            emitted[one.row].append(one.token_id)
    assert emitted == wanted
    is_longrope = shape.startswith("longrope")
    assert len(wanted) == (1 if is_longrope else 3)
    assert report["context_tokens"] == (TRAINED_LENGTH if is_longrope else 128)
    assert any("served up to 24 of 96 tokens" in warning for warning in report["warnings"]) == is_longrope
