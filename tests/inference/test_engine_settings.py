"""What a worker is started with, and what one that stands by is told: the same."""

import argparse
from pathlib import Path

import pytest

from actors.inference.engine import EngineSettings
from actors.inference.shelf import ServableModel
from actors.inference.worker.__main__ import read_arguments

MODEL = ServableModel(name="tiny", folder=Path("/models/tiny"), adapter=Path("/adapters/polite"))


@pytest.mark.parametrize("long_context", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_a_worker_that_stands_by_is_told_what_a_new_one_is_started_with(long_context: bool, drafts: bool) -> None:
    settings = EngineSettings(
        engine="mlx", cache_folder=Path("/cache"), model=MODEL, prefix_bytes=7, drafts=drafts, long_context=long_context,
    )  # fmt: skip
    started = read_arguments(settings.command(3)[3:])
    told = argparse.Namespace(**(vars(read_arguments(settings.standby_command(3)[3:])) | settings.load_frame()))
    told.standby = False
    assert vars(told) == vars(started)
    assert (started.long_context, started.drafts) == (long_context, drafts)
