"""Commands whose reader has gone, as in `leanvibe ask … | head -1`: they end quietly, like any program in a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from actors.command_line.output import OUTPUT_CLOSED
from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server, wait_for

pytestmark = pytest.mark.integration


@contextmanager
def piped(server: ServingProcess, *arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """Run a command with pipes as its standard output and error."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(server.data_folder),
        cwd=REPOSITORY,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait(10)


def assert_quiet_end(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    words = process.stderr.read()
    assert (process.wait(30), words) == (OUTPUT_CLOSED, "")


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()


def running(server: ServingProcess) -> int:
    return int(server.inspect_json("state", "inference/inference")["snapshot"]["running"])


@contextmanager
def server_that_logs_to(stderr: Any, folder: Path) -> Iterator[ServingProcess]:
    """Run a server whose debug log goes to ``stderr``."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0", "--log-level", "debug"],
        env=environment(folder),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: (folder / "server.json").exists() or process.poll() is not None, what="server.json")
        assert process.poll() is None
        yield ServingProcess(process, folder, folder, 0.0)
    finally:
        process.kill()
        process.wait(10)


def assert_serves(server: ServingProcess) -> None:
    """Assert that requests succeed while each of them writes a log line."""
    server.until_ready()
    server.run("inspect", "restart", "connections/listener")
    assert server.run("ask", "count to 3").stdout == "1 2 3\n"
    assert server.inspect_json("tree")["is_ready"]
    server.process.terminate()
    assert server.process.wait(20) == 0


def test_the_status_is_that_of_a_program_which_the_signal_ended() -> None:
    assert OUTPUT_CLOSED == 128 + signal.SIGPIPE == 141


def test_an_answer_that_nobody_reads_any_more_is_cancelled_on_the_server(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.01") as server:
        server.until_ready()
        with piped(server, "ask", "count to 900") as process:
            assert process.stdout is not None
            assert process.stdout.read(4) == "1 2 "
            assert running(server) == 1
            leave(process)
            assert_quiet_end(process)
        # It was not detached for the minute in which a client may return.
        wait_for(lambda: running(server) == 0, seconds=5, what="the answer to end")
        with piped(server, "chat", stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # One line shows that it is running.
            assert "help" in process.stdout.readline()
            leave(process)
            process.stdin.write("count to 20\n")
            assert_quiet_end(process)
        wait_for(lambda: running(server) == 0, seconds=5, what="the answer to end")


def test_every_command_that_prints_ends_quietly_when_nobody_reads(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        server.until_ready()
        for arguments in (
            ["--help"],
            ["ask", "--json", "hello"],
            ["status"],
            ["status", "--json"],
            ["inspect", "tree"],
            ["inspect", "tree", "--json"],
            ["inspect", "state", "storage/writer"],
            ["inspect", "dead-letters"],
            ["inspect", "dead-letters", "--json"],
            ["task", "list"],
            ["token", "list"],
            ["model", "list"],
        ):
            with piped(server, *arguments) as process:
                leave(process)
                assert_quiet_end(process)
        with piped(server, "inspect", "trace", "--actor", "inference/inference") as process:
            leave(process)
            wait_for(lambda: server.run("ask", "hello").returncode == 0 and process.poll() is not None, what="its end")
            assert_quiet_end(process)


def test_a_command_whose_complaint_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [*COMMAND, "inspect", "tree"],
            env=environment(tmp_path),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=closed,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (OUTPUT_CLOSED, b"")


def test_a_server_goes_on_when_nobody_reads_its_log(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed, server_that_logs_to(closed, tmp_path) as server:
        assert_serves(server)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_server_goes_on_when_the_disk_of_its_log_is_full(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, server_that_logs_to(full, tmp_path) as server:
        assert_serves(server)


def test_op_a_server_goes_on_and_stops_when_the_reader_of_its_log_stands_still(tmp_path: Path) -> None:
    """As after Ctrl-S: no line can be written, not even the first."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * 4096)
        os.set_blocking(writer, True)
        with os.fdopen(writer, "w") as stuck, server_that_logs_to(stuck, tmp_path) as server:
            assert_serves(server)
    finally:
        os.close(reader)


def test_op_a_server_that_was_started_without_streams_serves(tmp_path: Path) -> None:
    command = 'exec "$@" <&- >&- 2>&-'
    words = [*COMMAND, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0", "--log-level", "debug"]
    process = subprocess.Popen(
        ["/bin/sh", "-c", command, "sh", *words], env=environment(tmp_path), cwd=REPOSITORY, start_new_session=True
    )
    try:
        wait_for(lambda: (tmp_path / "server.json").exists() or process.poll() is not None, what="server.json")
        assert process.poll() is None
        assert_serves(ServingProcess(process, tmp_path, tmp_path, 0.0))  # type: ignore[arg-type]
    finally:
        process.kill()
        process.wait(10)
