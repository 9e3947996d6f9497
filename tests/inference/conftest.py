"""The embedded model, made once per machine and loaded once per run, on the BLAS that the worker would choose.

The cache folder is LEANVIBE_TEST_CACHE, or the user's own cache folder, so that a second run downloads nothing.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from actors.inference.worker.blas import load_blas

if TYPE_CHECKING:
    from actors.inference.models.load import LoadedModel


def _cache_folder() -> Path:
    named = os.environ.get("LEANVIBE_TEST_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("leanvibe")


# Test modules import MLX when they are collected, and a BLAS has to be there before that.
if "mlx.core" not in sys.modules:
    load_blas("auto", _cache_folder())


@pytest.fixture(scope="session")
def cache_folder() -> Path:
    return _cache_folder()


@pytest.fixture(scope="session")
def embedded_model(cache_folder: Path) -> Path:
    """The checkpoint folder of the embedded model."""
    from actors.inference.models.embedded import ensure_embedded_model

    return ensure_embedded_model(cache_folder, report=lambda _stage, _fraction: None)


@pytest.fixture(scope="session")
def loaded_model(embedded_model: Path) -> "LoadedModel":
    """The embedded model in float32; tests must not change its parameters."""
    from actors.inference.models.load import load_checkpoint

    return load_checkpoint(embedded_model, "cpu")
