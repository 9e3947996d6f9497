"""What is typed on the command line holds or is refused, words need no quotes, and Ctrl-C ends the line."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("typed"), LEANVIBE_MOCK_STEP_SECONDS="0.02") as server:
        yield server


@pytest.mark.parametrize("command", [("ask", "count to 3"), ("chat",)], ids=["ask", "chat"])
def test_te61_a_model_that_is_not_served_is_refused_with_what_is(
    serving: ServingProcess, tmp_path: Path, command: tuple[str, ...]
) -> None:
    elsewhere = ("--url", serving.about["rest_url"])
    for at in ((), elsewhere):
        done = serving.run(
            *at, *command, "--model", "phi-3-mini", **({"LEANVIBE_DATA_DIR": str(tmp_path)} if at else {})
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "the server answers with mock, not with phi-3-mini; leave --model out" in done.stderr
        assert "model load phi-3-mini" in done.stderr
    done = serving.run(*command, "--engine", "mlx")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has the engine mock, and --engine mlx is of one that is started if none is running" in done.stderr
    done = serving.run(*elsewhere, *command, "--engine", "mock", LEANVIBE_DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--url names one that runs" in done.stderr


def test_te61_a_model_and_an_engine_that_are_served_are_no_mistake(serving: ServingProcess) -> None:
    done = serving.run("ask", "--engine", "mock", "--model", "mock", "count to 3")
    assert (done.returncode, done.stdout) == (0, "1 2 3\n"), done.stderr


def test_te63_words_of_a_title_need_no_quotes(serving: ServingProcess) -> None:
    made = json.loads(serving.run("task", "add", "Buy", "some", "milk", "--priority", "high", "--json").stdout)
    assert (made["title"], made["priority"]) == ("Buy some milk", "high")
    edited = json.loads(serving.run("task", "edit", made["id"], "--title", "Buy", "more", "milk", "--json").stdout)
    assert edited["title"] == "Buy more milk"
    lost = serving.run("task", "edit", made["id"], "--description", "two", "words")
    assert (lost.returncode, "'words' belongs to nothing; a text of several words stands in quotes" in lost.stderr) == (
        2,
        True,
    )
    assert serving.run("task", "add").returncode == 2
    sent = json.loads(serving.run("notify", "send", "It", "is", "done", "body=All of it", "--json").stdout)
    listed = json.loads(serving.run("notify", "list", "--json").stdout)["notifications"]
    (told,) = [one for one in listed if one["notification_id"] == sent["notification_id"]]
    assert (told["title"], told["body"]) == ("It is done", "All of it")
    for words in (("one", "title=two"), ("--template", "test_failure", "red")):
        assert "is not FIELD=TEXT" in serving.run("notify", "send", *words).stderr


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        (("ask", "count to 900"), "1 2 3"),
        (("notify", "listen"), "heard"),
        (("task", "watch", "--json"), "heard"),
    ],
    ids=["ask", "listen", "watch"],
)
def test_te64_ctrl_c_ends_the_line_that_it_stands_in(
    serving: ServingProcess, command: tuple[str, ...], shows: str
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *command], env=environment(serving.data_folder), cwd=REPOSITORY,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_take_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while shows.encode() not in seen:
            if shows == "heard":
                serving.run("notify", "send", "heard")
                serving.run("task", "add", "heard")
            if select.select([ours], [], [], 1.0)[0]:
                seen += os.read(ours, 4096)
        os.write(ours, b"\x03")
        with suppress(OSError):
            while more := os.read(ours, 4096):
                seen += more
        assert process.wait(20) in (0, 130)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Traceback" not in seen
    assert seen.endswith(b"\r\n")
    assert b"^C\r\n" in seen


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
