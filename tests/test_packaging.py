"""The version stands in `pyproject.toml` and nowhere else."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from actors import version as version_module
from actors.version import VERSION

TOP = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_packages_and_stands_once() -> None:
    assert PROJECT["version"] == VERSION
    sources = [one for folder in ("actors", "runtime", "protocol") for one in (TOP / folder).rglob("*.py")]
    constants = (
        node for one in sources for node in ast.walk(ast.parse(one.read_bytes())) if isinstance(node, ast.Constant)
    )
    assert [node for node in constants if node.value == VERSION] == []


def test_a_tree_that_is_not_installed_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(_: str) -> str:
        raise version_module.PackageNotFoundError

    monkeypatch.setattr(version_module, "version", not_found)
    assert version_module._installed() == "0+unknown"
