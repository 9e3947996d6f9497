"""From confidence to how often an answer is right: a rising map, and one file for one manifest."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.calibration import (
    CALIBRATION_NAME,
    MINIMUM_ITEMS,
    Calibration,
    Point,
    fit,
    manifest_sha256,
    read_calibration,
    write_calibration,
)
from actors.inference.checkpoints.errors import ModelFileMissing
from actors.inference.checkpoints.manifest import write_manifest
from actors.inference.messages import GenerationDone
from actors.inference.model_registry import CheckpointRegistry, ServableModel

from .service_kit import FakeRegistry, inference_service

MEASURED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=MINIMUM_ITEMS, max_size=60)
HALF = Calibration(points=(Point(confidence=0.2, rate=0.1), Point(confidence=0.8, rate=0.5)), items=20)


@given(measured=MEASURED, asked=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_map_never_falls_and_stays_a_share(measured: list[tuple[float, bool]], asked: list[float]) -> None:
    calibration = fit(measured)
    rates = [calibration.rate(one) for one in sorted(asked)]
    assert all(low <= high for low, high in itertools.pairwise(rates))
    assert all(0 <= one <= 1 for one in rates)
    assert calibration.items == len(measured)


@given(measured=MEASURED)
def test_all_answers_together_keep_their_share(measured: list[tuple[float, bool]]) -> None:
    points = fit(measured).points
    share = sum(is_right for _, is_right in measured) / len(measured)
    assert points[0].rate <= share <= points[-1].rate


def test_surer_answers_that_were_right_more_often_are_told_apart() -> None:
    unsure = [(0.3, number == 0) for number in range(10)]
    sure = [(0.9, number != 0) for number in range(10)]
    assert fit(unsure + sure).points == (
        Point(confidence=pytest.approx(0.3), rate=0.1),
        Point(confidence=pytest.approx(0.9), rate=0.9),
    )


def test_surer_answers_that_were_right_less_often_are_one_with_the_others() -> None:
    measured = [(0.3, True)] * 10 + [(0.9, False)] * 10
    assert [one.rate for one in fit(measured).points] == [0.5]


def test_between_two_points_lies_a_line_and_beyond_them_nothing_new() -> None:
    assert [HALF.rate(one) for one in (0.0, 0.2, 0.5, 0.8, 1.0)] == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.5])


def test_too_few_answers_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit([(0.5, True)] * (MINIMUM_ITEMS - 1))


@pytest.mark.parametrize(
    "points",
    [
        (),
        (Point(confidence=0.5, rate=1.1),),
        (Point(confidence=0.5, rate=0.5), Point(confidence=0.5, rate=0.6)),
        (Point(confidence=0.5, rate=0.5), Point(confidence=0.6, rate=0.4)),
    ],
    ids=["none", "no share", "one confidence", "falling"],
)
def test_what_is_no_such_map_is_not_taken(points: tuple[Point, ...]) -> None:
    with pytest.raises(ValueError, match=r"points|between|rise"):
        Calibration(points=points, items=20)


def checkpoint(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    write_manifest(folder, {"name": "tiny"})
    return folder


def test_it_is_kept_beside_the_manifest_that_it_was_measured_for(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    assert read_calibration(folder) is None
    before = manifest_sha256(folder)
    write_calibration(folder, HALF, before)
    assert read_calibration(folder) == HALF
    # It is no part of the checkpoint.
    write_manifest(folder, {"name": "tiny"})
    assert (manifest_sha256(folder), read_calibration(folder)) == (before, HALF)
    write_manifest(folder, {"name": "another"})
    assert read_calibration(folder) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"manifest_sha256": "HASH", "points": [], "items": 20}', '{"manifest_sha256": "HASH", "points": [1], "items": 20}'])  # fmt: skip
def test_a_damaged_file_is_none(tmp_path: Path, content: str) -> None:
    folder = checkpoint(tmp_path / "tiny")
    (folder / CALIBRATION_NAME).write_text(content.replace("HASH", manifest_sha256(folder)), encoding="utf-8")
    assert read_calibration(folder) is None


def test_without_a_manifest_there_is_nothing_to_bind_it_to(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing):
        manifest_sha256(tmp_path)


def test_the_shelf_gives_it_for_the_model_alone_and_not_for_one_with_an_adapter(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    write_calibration(folder, HALF, manifest_sha256(folder))
    model = ServableModel(name="tiny", folder=folder)
    model_registry = CheckpointRegistry(started_with=model, cache_folder=tmp_path)
    assert model_registry.calibration(model) == HALF
    assert model_registry.calibration(ServableModel(name="tiny", folder=folder, adapter=tmp_path)) is None


@pytest.mark.integration
@pytest.mark.parametrize(("model", "expected"), [("mock", 0.5), ("other", None)], ids=["calibrated", "not measured"])
async def test_done_is_calibrated_where_the_model_in_use_was_measured_and_it_was_asked_for(
    model: str, expected: float | None
) -> None:
    model_registry = FakeRegistry(names=(model,), calibrations={"mock": HALF})
    async with inference_service(model_registry=model_registry) as service:
        for asks, calibrated in ((True, expected), (False, None)):
            last = await service.last(await service.start("count to 3", wants_calibrated=asks))
            assert isinstance(last, GenerationDone)
            assert (last.done.confidence, last.done.calibrated) == (1.0, calibrated)
