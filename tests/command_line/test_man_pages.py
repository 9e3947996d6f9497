"""Manual pages: one for each command, out of its help, and without a fault to the program that shows them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from actors.command_line.main import leanvibe
from actors.command_line.man_pages import man_page, man_pages


def plain(page: str) -> str:
    """The page as it is read on a terminal without bold or underlines."""
    shown = subprocess.run(
        ["groff", "-man", "-K", "utf8", "-T", "utf8", "-P", "-c", "-P", "-b", "-P", "-u", "-w", "all", "-W", "break"],
        input=page, text=True, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert shown.stderr == ""
    return shown.stdout


def test_dr12_every_command_has_a_manual_page_that_groff_takes() -> None:
    pages = man_pages(leanvibe)
    assert {"leanvibe.1", "leanvibe-ask.1", "leanvibe-task-add.1", "leanvibe-man.1"} <= set(pages)
    # All at once: the pages of one stream stand behind each other, as on paper.
    shown = plain("".join(pages.values()))
    for name in pages:
        assert f"{name.removesuffix('.1').upper()}(1)" in shown
    asked = plain(pages["leanvibe-ask.1"])
    assert "leanvibe-ask - Ask QUESTION and stream the answer" in asked
    assert "--max-tokens" in asked
    assert "leanvibe-task-add(1)" in plain(pages["leanvibe-task.1"])


def test_dr12_help_that_looks_like_roff_is_text() -> None:
    help_text = "Do it.\n\n.SH is no heading here \\fB and neither is\n'this.\n\n\b\nExamples:\n  do --it `now` ^ ~\n"

    @click.command(help=help_text)
    @click.option("--back\\slash", "back", help=".TP of a file")
    def strange(back: str | None) -> None:
        raise AssertionError(back)

    shown = plain(man_page(("leanvibe", "strange"), strange))
    assert ".SH is no heading here \\fB and neither is 'this." in " ".join(shown.split())
    assert "do --it `now` ^ ~" in shown
    assert ".TP of a file" in shown


def test_dr12_pages_are_written_where_man_looks(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "man1"
    done = CliRunner().invoke(leanvibe, ["man", "--into", str(folder)])
    assert done.exit_code == 0, done.output
    assert {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir()} == man_pages(leanvibe)
    printed = CliRunner().invoke(leanvibe, ["man", "task", "add"])
    assert printed.stdout == man_pages(leanvibe)["leanvibe-task-add.1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("man", "nope"), "there is no command nope; leanvibe --help lists them"),
        (("man", "ask", "me"), "there is no command ask me"),
        (("man", "ask", "--into", "x"), "name either a command or --into"),
        (("man", "--into", "file/below"), "could not be written into file/below: Not a directory"),
    ],
)
def test_dr12_what_cannot_be_shown_or_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = CliRunner().invoke(leanvibe, words)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.output
