"""What a worker is started with, and what one that stands by is told: the same."""

import argparse
from pathlib import Path

import pytest

from actors.inference.engine import EngineSettings
from actors.inference.model_registry import ServableModel
from actors.inference.worker.__main__ import read_arguments
from actors.settings import Settings
from actors.wiring import engine_settings

MODEL = ServableModel(name="tiny", folder=Path("/models/tiny"), adapter=Path("/adapters/polite"))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("memory_bounded", [False, True])
@pytest.mark.parametrize("long_context", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_a_worker_that_stands_by_is_told_what_a_new_one_is_started_with(
    memory_bounded: bool, long_context: bool, drafts: bool, compiled: bool
) -> None:
    settings = EngineSettings(
        engine="mlx", cache_folder=Path("/cache"), model=MODEL, prefix_bytes=7, drafts=drafts, long_context=long_context,
        memory_bounded=memory_bounded, compiled=compiled,
    )  # fmt: skip
    started = read_arguments(settings.command(3)[3:])
    told = argparse.Namespace(**(vars(read_arguments(settings.standby_command(3)[3:])) | settings.load_frame()))
    told.standby = False
    assert vars(told) == vars(started)
    assert (started.memory_bounded, started.long_context, started.drafts, started.compiled) == (
        memory_bounded, long_context, drafts, compiled,
    )  # fmt: skip


@pytest.mark.parametrize(("mebibytes", "is_bounded"), [(0, False), (1, True)])
def test_where_a_setting_bounds_the_weights_the_worker_is_told_so(mebibytes: int, is_bounded: bool) -> None:
    settings = engine_settings(Settings(model_memory_mebibytes=mebibytes))
    assert read_arguments(settings.command(3)[3:]).memory_bounded is is_bounded
