"""What is typed into the chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.command_line.chat_conversations import new_name
from actors.command_line.chat_input import COMMANDS, BadCommand, LineCollector, Slash, parse_slash
from actors.command_line.chat_session import FileProblem, _write_new, read_source
from protocol.validation import is_client_name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_known_with_its_argument(name: str) -> None:
    assert parse_slash(f"/{name}  two words ") == Slash(name, "two words")
    if COMMANDS[name].needs_argument:
        with pytest.raises(BadCommand, match=f"usage: /{name} "):
            parse_slash(f"/{name}")
    else:
        assert parse_slash(f"/{name}") == Slash(name, "")


def test_what_begins_with_no_slash_is_said() -> None:
    assert parse_slash("why / how?") is None
    assert parse_slash("/usr/bin is a folder\nwith a second line") is None


def test_an_unknown_command_is_not_said_to_the_model() -> None:
    with pytest.raises(BadCommand, match=r"no /explian; /help"):
        parse_slash("/explian a.py")


def test_lines_go_on_after_a_backslash_and_within_a_block() -> None:
    collector = LineCollector()
    assert collector.add("one") == "one"
    assert collector.add("one \\") is None
    assert collector.is_open
    assert collector.add("two") == "one \ntwo"
    assert not collector.is_open
    assert [collector.add(line) for line in ('"""', "a\\", "", "/b", '"""')] == [None, None, None, None, "a\\\n\n/b"]
    assert collector.add('"""') is None
    collector.clear()
    assert not collector.is_open
    assert collector.add("again") == "again"


def test_files_are_read_as_text_or_named_as_what_they_are(tmp_path: Path) -> None:
    good, binary, large = tmp_path / "a.py", tmp_path / "b.bin", tmp_path / "c.txt"
    good.write_text("x = 'é'\n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"x" * (1024 * 1024 + 1))
    assert read_source(str(good)) == "x = 'é'\n"
    for path, problem in (
        (binary, "not UTF-8"),
        (large, "larger"),
        (tmp_path / "none", "No such"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(FileProblem, match=problem):
            read_source(str(path))


def test_a_home_folder_of_nobody_is_a_file_problem() -> None:
    with pytest.raises(FileProblem, match="no such user"):
        read_source("~nobody-of-that-name/x.py")
    with pytest.raises(FileProblem, match="no such user"):
        _write_new("~nobody-of-that-name/x.md", "x")


def test_conversations_that_begin_in_the_same_second_have_names_of_their_own() -> None:
    names = {new_name() for _ in range(20)}
    assert len(names) == 20
    assert all(is_client_name(one) for one in names)
