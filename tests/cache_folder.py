"""Where tests keep what is dear to make: LEANVIBE_TEST_CACHE, or the user's own cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_folder_of_tests"]


def cache_folder_of_tests() -> Path:
    """The folder, which a second run finds filled."""
    named = os.environ.get("LEANVIBE_TEST_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("leanvibe")
