"""The embedded model, made once per machine and loaded once per run, on the BLAS that the worker would choose.

The cache folder is LEANVIBE_TEST_CACHE, or the user's own cache folder, so that a second run downloads nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cache_folder import cache_folder_of_tests
from tests.database_fixture import database

__all__ = ["database"]

if TYPE_CHECKING:
    from actors.inference.mlx.load import LoadedModel


@pytest.fixture(scope="session")
def cache_folder() -> Path:
    return cache_folder_of_tests()


@pytest.fixture(scope="session")
def embedded_model(cache_folder: Path) -> Path:
    """The checkpoint folder of the embedded model."""
    from actors.inference.mlx.embedded import ensure_embedded_model

    return ensure_embedded_model(cache_folder, report=lambda _stage, _fraction: None)


@pytest.fixture(scope="session")
def loaded_model(embedded_model: Path) -> "LoadedModel":
    """The embedded model as it is served; tests must not change its parameters."""
    from actors.inference.mlx.load import load_checkpoint

    return load_checkpoint(embedded_model, "cpu")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "LoadedModel":
    """A synthetic Phi-3 of two layers; tests must not change its parameters."""
    from tests.inference.tiny_model import load_tiny_phi3

    return load_tiny_phi3(tmp_path_factory.mktemp("tiny"))
