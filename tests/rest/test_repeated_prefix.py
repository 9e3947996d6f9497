"""A completion does not say again what stands before the cursor."""

from __future__ import annotations

import pytest

from actors.rest.assistant import without_repeated


@pytest.mark.parametrize(
    ("said", "before", "left"),
    [
        ("def add(a, b):\n    return a + b\n", "def add(a, b):\n    ", "return a + b\n"),
        ("def add(a, b):\n  return a + b", "def add(a, b):\n    ", "return a + b"),
        ("x = 1\ny = x + 1", "import os\nx = 1\n", "y = x + 1"),
        ("return a + b", "def add(a, b):\n    ", "return a + b"),
        ("def other():\n    pass", "def add(a, b):\n", "def other():\n    pass"),
        ("b", "a b", "b"),
        ("end\nend", "end\n", "end\nend"),
        ("", "x", ""),
        ("  x", "   ", "  x"),
    ],
)
def test_what_stands_before_the_cursor_is_not_said_again(said: str, before: str, left: str) -> None:
    assert without_repeated(said, before) == left
