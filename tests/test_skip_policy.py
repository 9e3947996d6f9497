"""What CI may skip on which platform: every reason in the tests is one that somewhere is none."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skip_policy import ALLOWED, is_forgiven

TOP = Path(__file__).resolve().parent.parent


@functools.cache
def reasons() -> tuple[tuple[str, str], ...]:
    """Reasons of `skipif` and `pytest.skip` with the file that has them, as far as they are written there."""
    return tuple(_reasons())


def _reasons() -> Iterator[tuple[str, str]]:
    for folder, folders, names in os.walk(TOP / "tests"):
        folders[:] = [one for one in folders if one != "node_modules"]
        for name in sorted(names):
            text = (Path(folder) / name).read_text(encoding="utf-8") if name.endswith(".py") else ""
            if "skip" in text:
                yield from _in_file(name, text)


def _in_file(name: str, text: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.endswith("mark.skipif"):
            given = [one.value for one in node.keywords if one.arg == "reason"]
        elif called == "pytest.skip":
            given = node.args[:1]
        else:
            continue
        for one in given:
            said = "".join(
                part.value for part in ast.walk(one) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            if said:
                yield name, said


OF_EVERY_PLATFORM = ("needs a machine of another kind",)
"""Of tests that try this policy or the mutations."""


def test_sk1_macos_may_skip_what_only_linux_has() -> None:
    found = [one for one in reasons() if not any(other in one[1] for other in OF_EVERY_PLATFORM)]
    assert len(found) > 15
    assert [one for one in found if not is_forgiven(one[1], "darwin")] == []


def test_sk2_linux_skips_nothing_that_it_can_have() -> None:
    forgiven = {text for _, text in reasons() if is_forgiven(text, "linux")}
    assert all("macOS" in one or "GPU" in one for one in forgiven), forgiven


@pytest.mark.parametrize("reason", ALLOWED["darwin"])
def test_every_reason_of_the_table_is_in_use(reason: str) -> None:
    assert reason == "needs Linux" or any(reason in text for _, text in reasons()), reason
