"""A small checkpoint of each shape through the step loop itself: a ragged batch gives the reference's greedy ids."""

from pathlib import Path

import numpy
import pytest

from actors.inference.sampling import Sampling
from actors.inference.worker import startup
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.startup import load_stepper
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


def test_a_longrope_model_can_be_served_to_its_full_length_and_says_at_what_price(tmp_path: Path) -> None:
    shape = "longrope"
    folder = write_small(tmp_path / shape, shape=shape)
    stepper = load_stepper(folder, shape, BLAS, lambda _stage: None, prefix_bytes=0, long_context=True)
    report = stepper.report()
    assert report["context_tokens"] == 96
    (told,) = [warning for warning in report["warnings"] if "long_context" in warning]
    assert "up to 24 tokens its text differs from the reference" in told
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["canary_long_context"]["passed"]
    ids = prompts(shape)[0]
    stepper.admit(
        Row(
            row=0, prompt_ids=ids, emitted_ids=[], max_tokens=NEW_TOKENS, stop_ids=frozenset(), sampling=Sampling(),
        )
    )  # fmt: skip
    emitted: list[int] = []
    while stepper.has_work():
        emitted += [one.token_id for one in stepper.step().emitted]
    assert emitted == REFERENCE[f"{shape}/0/greedy"].tolist()


def test_a_model_without_longrope_has_no_word_of_it(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "plain", shape="plain")
    report = load_stepper(folder, "plain", BLAS, lambda _stage: None, prefix_bytes=0, long_context=True).report()
    assert report["context_tokens"] == 128
    assert not [warning for warning in report["warnings"] if "long_context" in warning]
    assert "canary_long_context" not in {check["name"] for check in report["checks"]}


def test_te50_a_small_model_that_is_not_warmed_up_says_nothing_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small(tmp_path / "plain", shape="plain")

    def load() -> tuple[bool, set[str]]:
        stages: set[str] = set()
        stepper = load_stepper(folder, "plain", BLAS, stages.add, prefix_bytes=0, warms_up=False)
        return bool(stepper.report()["warm_steps"]), stages

    is_measured, stages = load()
    assert not is_measured
    assert "warming up" not in stages
    # A large one might take longer for its first step than one may that nothing is known of.
    monkeypatch.setattr(startup, "UNMEASURED_BYTES", 1)
    is_measured, stages = load()
    assert is_measured
    assert "warming up" in stages
