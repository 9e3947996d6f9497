"""The server's settings for a worker: a single value, which arrives unchanged."""

from pathlib import Path

import attrs
import msgspec
import pytest

from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import PROTOCOL, Load, ModelFiles, WaitForModel, pack_frame, read_to_worker
from actors.settings import Settings

DERIVED = {"prefix_bytes", "is_memory_bounded", "compiles_beside", "grammars_at_need", "warms_up"}
"""What is computed of a setting with another name, or is for the first start alone."""
MODEL = ModelFiles("tiny", Path("/models/tiny"), Path("/adapters/polite"))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("is_memory_bounded", [False, True])
@pytest.mark.parametrize("long_context", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_a_worker_that_stands_by_is_told_what_a_new_one_is_started_with(
    is_memory_bounded: bool, long_context: bool, drafts: bool, compiled: bool
) -> None:
    config = WorkerConfig(
        engine="mlx", cache_dir=Path("/cache"), prefix_bytes=7, drafts=drafts, long_context=long_context,
        is_memory_bounded=is_memory_bounded, compiled=compiled,
    )  # fmt: skip
    for frame in (WaitForModel(PROTOCOL, config), Load(PROTOCOL, config, MODEL)):
        assert read_to_worker(pack_frame(frame)[5:]) == frame


@pytest.mark.parametrize(("mebibytes", "is_bounded"), [(0, False), (1, True)])
def test_where_a_setting_bounds_the_weights_the_worker_is_told_so(mebibytes: int, is_bounded: bool) -> None:
    assert WorkerConfig.of(Settings(model_memory_mebibytes=mebibytes)).is_memory_bounded is is_bounded


def test_in3_a_setting_of_a_worker_needs_only_its_field_in_both() -> None:
    names = set(WorkerConfig.__struct_fields__) - DERIVED
    assert names <= set(attrs.fields_dict(Settings))
    settings = Settings(
        engine="mock", cache_dir=Path("/cache"), blas="openblas", prefix_mebibytes=3, drafts=False, long_context=True,
        compiled=False, mock_step_seconds=0.5, worker_faults="[]",
    )  # fmt: skip
    config = WorkerConfig.of(settings)
    assert {name: getattr(config, name) for name in names} == {name: getattr(settings, name) for name in names}
    assert config.prefix_bytes == 3 * 1024 * 1024


def test_te50_the_worker_of_one_question_answers_it_without_warming_up_before() -> None:
    assert not WorkerConfig.of(Settings(), is_ephemeral=True).warms_up
    assert WorkerConfig.of(Settings()).warms_up


def test_a_setting_of_another_type_is_noticed_before_a_worker_starts() -> None:
    with pytest.raises(msgspec.ValidationError, match="drafts"):
        WorkerConfig.of(attrs.evolve(Settings(), drafts="yes"))
