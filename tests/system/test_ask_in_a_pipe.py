"""`leanvibe ask` in pipes and its failures, as shells run it: the real program, the real server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.command_line.piped_input import MAXIMUM_BYTES
from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("pipe")) as server:
        yield server


def run(server: ServingProcess, *arguments: str, piped: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(server.data_folder),
        cwd=REPOSITORY,
        input=piped,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_te3_words_are_one_question_and_a_piped_file_goes_with_it(serving: ServingProcess) -> None:
    done = run(serving, "ask", "Explain", "this", "--seed", "1", "code", piped=b"def f():\n    pass\n")
    assert done.stdout == b"You said: Explain this code\n\ndef f():\n    pass\n\n"
    assert done.stderr == b""
    # Without words the piped text is the question; without a text the words are.
    assert run(serving, "ask", piped=b"only this").stdout == b"You said: only this\n"
    assert run(serving, "ask", "what", "is", "a", "hash", "table").stdout == b"You said: what is a hash table\n"


def test_te3_what_cannot_be_sent_is_refused_with_a_sentence(serving: ServingProcess) -> None:
    for words, piped, problem in (
        (["x"], b"a" * (MAXIMUM_BYTES + 1), b"is larger than 983,040 bytes"),
        (["x"], b"\xff\xfe\x00", b"is not UTF-8 text"),
        ([], b"", b"Ask something"),
    ):
        done = run(serving, "ask", *words, piped=piped)
        assert (done.returncode, done.stdout) == (2, b"")
        assert problem in done.stderr


def test_te3_a_pipe_that_nobody_writes_to_does_not_hold_the_question(serving: ServingProcess) -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [*COMMAND, "ask", "hello"],
            env=environment(serving.data_folder),
            cwd=REPOSITORY,
            stdin=reading,
            capture_output=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.stdout == b"You said: hello\n"
    assert b"nothing came on standard input" in done.stderr


def test_te4_an_answer_that_was_cut_says_so_beside_the_answer(serving: ServingProcess) -> None:
    done = run(serving, "ask", "count to 90", "--max-tokens", "2")
    assert done.returncode == 0
    assert b"cut at 2 tokens; --max-tokens allows more" in done.stderr
    assert b"cut" not in done.stdout


def test_te5_no_class_of_ours_is_named_to_a_person(serving: ServingProcess) -> None:
    for command in (
        ["inspect", "state", "nowhere"],
        ["inspect", "restart", "nowhere"],
        ["inspect", "suspend", "nowhere"],
        ["inspect", "trace", "--actor", "nowhere"],
    ):
        done = serving.run(*command)
        assert done.returncode == 1
        assert done.stderr == "leanvibe: nothing in the tree is called 'nowhere'\n"
    done = serving.run("inspect", "trace", "--actor", "application", "--rate", "0")
    assert done.stderr.startswith("leanvibe: rate must be in")


def test_te2_a_refusal_of_the_server_names_the_option(serving: ServingProcess, tmp_path: Path) -> None:
    done = serving.run("task", "add", "x" * 300)
    assert done.stderr == "leanvibe: TITLE must have 1 to 255 characters, not 300\n"
    done = serving.run("task", "list", "--search", "x" * 300)
    assert done.stderr == "leanvibe: --search must have 1 to 200 characters, not 300\n"
