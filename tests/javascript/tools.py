"""Where `scripts/prepare_javascript` put things; a test that needs one it lacks is skipped, which CI counts as failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

__all__ = ["FOLDER", "REPOSITORY", "chromium", "npm_file"]

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]


def npm_file(name: str) -> Path:
    """A file under node_modules."""
    path = FOLDER / "node_modules" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed; ./scripts/prepare_javascript does it")
    return path


def chromium() -> str:
    """The browser's program."""
    for name in ("chromium", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("no Chromium; ./scripts/prepare_javascript installs it")
