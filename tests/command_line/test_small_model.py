"""The embedded model says once that it is the small one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from actors.command_line.small_model import introduce_small_model
from actors.inference.checkpoints.catalogue import EMBEDDED_MODEL_NAME


def test_te30_the_embedded_model_introduces_itself_once_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(model: str, folder: Path, *, is_terminal: bool) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        introduce_small_model(model, folder)
        out, err = capsys.readouterr()
        assert out == ""
        return str(err)

    # Not where a program reads the answer, nor of another model; and neither uses up the one time.
    assert said(EMBEDDED_MODEL_NAME, tmp_path, is_terminal=False) == ""
    assert said("phi-3-mini", tmp_path, is_terminal=True) == ""
    # As it is typed here, from a checkout as from an installation, and whole in a narrow terminal.
    monkeypatch.setenv("LEANVIBE_COMMAND", "/srv/it/scripts/leanvibe")
    monkeypatch.setenv("COLUMNS", "60")
    assert "/srv/it/scripts/leanvibe serve --model phi-3-mini" in said("embedded", tmp_path, is_terminal=True)
    assert said(EMBEDDED_MODEL_NAME, tmp_path, is_terminal=True) == ""
    assert said(EMBEDDED_MODEL_NAME, tmp_path / "nowhere", is_terminal=True) == ""
