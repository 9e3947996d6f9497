"""Output that never waits for its reader: OP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.queued_output import QueuedOutput
from tests.system.serving_process import wait_for

ROOT = Path(__file__).parents[2]
PIPE_BYTES = 65_536


@contextlib.contextmanager
def piped(*, maximum_bytes: int, is_blocking: bool = True) -> Iterator[tuple[QueuedOutput, int]]:
    """An output onto a pipe, and the end to read from; the pipe is full from the beginning."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, is_blocking)
    output = QueuedOutput(writer, maximum_bytes=maximum_bytes)
    try:
        yield output, reader
    finally:
        output.close()
        with contextlib.suppress(OSError):
            os.close(reader)
        output._thread.join(10)
        os.close(writer)


def read_lines(reader: int, count: int) -> list[str]:
    """The first lines after what filled the pipe."""
    data = b""
    while data.lstrip(b".").count(b"\n") < count:
        data += os.read(reader, PIPE_BYTES)
    return data.lstrip(b".").decode().splitlines()


@pytest.mark.parametrize("is_blocking", [True, False])
def test_op_a_reader_that_does_not_read_holds_nobody_and_hears_how_much_it_missed(is_blocking: bool) -> None:
    """Were a write to wait for the reader, which is this very thread, the test would never end."""
    with piped(maximum_bytes=1000, is_blocking=is_blocking) as (output, reader):
        stream = io.TextIOWrapper(output, encoding="utf-8", line_buffering=True)
        for number in range(50):
            print(f"{number:03}" + "x" * 96, file=stream, flush=True)
        assert output.dropped_lines == 40
        assert not output.drain(0.0)
        seen = read_lines(reader, 11)
        assert [one[:3] for one in seen[:10]] == [f"{number:03}" for number in range(10)]
        assert json.loads(seen[10])["dropped_lines"] == 40
        assert json.loads(seen[10])["level"] == "warning"
        print("after", file=stream)
        assert read_lines(reader, 1) == ["after"]
        assert output.drain(10.0)


def test_op_a_long_line_is_written_whole_or_not_at_all() -> None:
    with piped(maximum_bytes=100_000) as (output, reader):
        stream = io.TextIOWrapper(output, encoding="utf-8", line_buffering=True)
        print("a" * 90_000, file=stream)
        print("b" * 90_000, file=stream)
        seen = read_lines(reader, 2)
        assert seen[0] == "a" * 90_000
        assert json.loads(seen[1])["dropped_lines"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_op_lines_that_a_full_disk_could_not_take_are_told_of_once_it_can(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    room = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    output = QueuedOutput(full)
    try:
        output.write(b"lost\nlost too\n")
        assert output.drain(10.0)
        assert output.dropped_lines == 2
        os.dup2(room, full)
        output.write(b"kept\n")
        assert output.drain(10.0)
        wait_for(lambda: (tmp_path / "log").read_bytes().count(b"\n") == 2, what="both lines")
        notice, line = (tmp_path / "log").read_text().splitlines()
        assert (json.loads(notice)["dropped_lines"], line) == (2, "kept")
    finally:
        output.close()
        output._thread.join(10)
        os.close(full)
        os.close(room)


PROGRAM = """
    import os, sys, warnings
    from actors.queued_output import queue_standard_output
    queue_standard_output(is_private="private" in sys.argv)
    {body}
"""


def run(body: str, *arguments: str, prefix: str = "exec") -> subprocess.CompletedProcess[bytes]:
    """Run it under a shell that may close streams first."""
    program = textwrap.dedent(PROGRAM).replace("{body}", textwrap.dedent(body).replace("\n    ", "\n"))
    return subprocess.run(
        ["/bin/sh", "-c", f'{prefix} "$@"', "sh", sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_op_what_is_queued_at_the_end_of_the_process_is_written() -> None:
    done = run("print('x' * 300_000); print('the last', file=sys.stderr)")
    assert (len(done.stdout), done.stderr) == (300_001, b"the last\n")
    failed = run("raise ValueError('at the end')")
    assert b"ValueError: at the end" in failed.stderr


def test_op_the_end_of_the_process_does_not_wait_for_a_reader_that_does_not_read() -> None:
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from actors.queued_output import queue_standard_output as q; q(); print('x' * 500_000)",
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_op_native_code_of_a_process_with_its_own_pipe_does_not_wait_either() -> None:
    """It writes to the descriptor itself; nobody reads."""
    reader, writer = os.pipe()
    try:
        body = """
            import os
            from actors.queued_output import queue_standard_output
            queue_standard_output(is_private=True)
            try:
                while True:
                    os.write(2, b"x" * 4096)
            except BlockingIOError:
                os._exit(3)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(body)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=writer,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_op_a_stream_that_was_closed_at_the_start_is_no_files_number(closed: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = run(
        "file = open(sys.argv[1], 'w'); assert file.fileno() > 2; print('x'); sys.stderr.write('y'); os.write(2, b'z');"
        " warnings.warn('w'); sys.stderr.flush(); file.write('only this')",
        str(kept),
        prefix=f"exec {closed}",
    )
    assert done.returncode == 0
    assert kept.read_text() == "only this"
