"""The version of the installed package, stated in `pyproject.toml` alone."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]


def _installed() -> str:
    try:
        return version("leanvibe")
    except PackageNotFoundError:
        # A source tree on `sys.path` that was never installed, as in a zipped copy.
        return "0+unknown"


VERSION = _installed()
