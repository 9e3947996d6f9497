"""The worker program in a process of its own, through the real pipe, with the mock engine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.inference.frames import enclose
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import (
    PROTOCOL,
    Cancel,
    Clear,
    Cleared,
    Hello,
    Idle,
    Load,
    ModelFiles,
    Preparing,
    Ready,
    RowFailure,
    SampledToken,
    Step,
    pack_frame,
)
from actors.startup import OBJECTS
from protocol.errors import ErrorCode

from .worker_kit import PATIENCE_SECONDS, WorkerProcess, admission, worker

pytestmark = pytest.mark.integration

HELLO = b"You said: hello"


def test_an_answer_comes_token_by_token_and_ends_with_the_stop_token() -> None:
    with worker() as one:
        one.send(admission(7, "hello"))
        steps = [one.step() for _ in range(len(HELLO) + 1)]
        emitted = [one for step in steps for one in step.output.emitted]
        assert emitted == [SampledToken(7, byte, 0.0, None) for byte in HELLO] + [SampledToken(7, 256, 0.0, "stop")]
        assert all(step.output.rows == [7] for step in steps)
        assert [step.step for step in steps] == list(range(1, len(steps) + 1))
        assert [step.output.prefilled_tokens for step in steps] == [5] + [0] * len(HELLO)
        assert steps[0].memory["resident"] > 1e6


def test_max_tokens_counts_what_was_emitted_before() -> None:
    with worker() as one:
        one.send(admission(1, "hello", max_tokens=10, emitted=HELLO[:6]))
        assert one.answer(1) == (HELLO[6:10], "length")


def test_admissions_are_taken_between_steps() -> None:
    with worker(step_seconds=0.02) as one:
        one.send(admission(1, "count to 100"))
        assert one.step().output.rows == [1]
        one.send(admission(2, "hello"))
        while (step := one.step()).output.rows == [1]:
            pass
        assert step.output.rows == [1, 2], "it joined the rows that run"
        assert one.answer(2) == (HELLO[1:], "stop")


def test_p03_a_cancelled_row_is_gone_before_the_next_step() -> None:
    with worker(step_seconds=0.02) as one:
        one.send(admission(1, "count to 1000"))
        one.send(admission(2, "count to 1000"))
        while one.step().output.rows != [1, 2]:
            pass
        # What follows the cancellation in the pipe is computed in the first step that begins after it.
        one.send(Cancel(1), admission(3, "count to 1000"))
        while (rows := one.step().output.rows) == [1, 2]:
            pass
        while rows == [2]:  # the pipe's thread had handed on only the first of the two
            rows = one.step().output.rows
        assert rows == [2, 3]


def test_p03_a_row_cancelled_before_its_first_step_is_never_computed() -> None:
    with worker(step_seconds=0.05) as one:
        one.send(admission(1, "count to 1000"))
        one.step()
        one.send(admission(2, "hello"), Cancel(2), Cancel(99))
        assert all(one.step().output.rows == [1] for _ in range(4))


def test_clear_drops_all_rows_and_says_so() -> None:
    with worker(step_seconds=0.02) as one:
        for row in range(3):
            one.send(admission(row, "count to 1000"))
        one.step()
        one.send(Clear())
        while isinstance(frame := one.next(), Step):
            pass
        assert frame == Cleared()
        one.send(admission(9, "hello"))
        assert one.step().output.rows == [9]


def test_a_row_that_cannot_be_admitted_fails_alone() -> None:
    with worker(step_seconds=0.01) as one:
        one.send(admission(1, "hello"))
        one.send(admission(2, "", prompt_ids=[1, 300]))
        one.send(admission(3, "hello", response_schema='{"type": '))
        failed: dict[int, str] = {}
        answer: list[int] = []
        while len(failed) < 2 or len(answer) < len(HELLO) + 1:
            step = one.step()
            failed.update((row, failure.reason) for row, failure in step.output.failed)
            answer += [token.token_id for token in step.output.emitted if token.row == 1]
        assert failed[2].startswith("ValueError")
        assert failed[3].startswith("JSONDecodeError")
        assert bytes(answer[:-1]) == HELLO


def test_an_idle_worker_says_that_it_lives() -> None:
    with worker() as one:
        frame = one.next()
        assert isinstance(frame, Idle)
        assert frame.memory["resident"] > 0


# --- ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "status"), [("raise", 1), ("exit", 1), ("abort", -signal.SIGABRT)])
def test_a_fault_ends_the_process_at_its_step(fault: str, status: int) -> None:
    with worker(faults=[{"fault": fault, "step": 3}]) as one:
        one.send(admission(1, "hello"))
        assert [one.step().step for _ in range(2)] == [1, 2]
        assert one.next() is None
        assert one.ended() == status


def test_a_fault_on_a_prompt_strikes_in_the_first_step_of_such_a_row() -> None:
    with worker(faults=[{"fault": "exit", "prompt": "poison"}], step_seconds=0.01) as one:
        one.send(admission(1, "count to 1000"))
        one.step()
        one.send(admission(2, "some poison"))
        while (frame := one.next()) is not None:
            assert isinstance(frame, Step)
            assert frame.output.rows == [1]
        assert one.ended() == 1


def test_a_slow_step_is_slow_and_says_so() -> None:
    with worker(faults=[{"fault": "slow", "step": 2, "seconds": 0.3}]) as one:
        one.send(admission(1, "hello"))
        assert one.step().seconds < 0.3
        assert one.step().seconds >= 0.3
        assert one.answer(1) == (HELLO[2:], "stop")


def test_rows_that_were_cleared_strike_no_more() -> None:
    with worker(faults=[{"fault": "slow", "prompt": "poison", "seconds": 0.3}]) as one:
        one.send(admission(1, "poison"))
        assert one.step().seconds >= 0.3
        one.send(Clear())
        while isinstance(frame := one.next(), Step):
            pass
        assert frame == Cleared()
        one.send(admission(2, "hello"))
        assert one.step().seconds < 0.3


def test_a_hanging_worker_is_silent_and_still_leaves_when_the_server_does() -> None:
    with worker(faults=[{"fault": "hang", "step": 2}]) as one:
        one.send(admission(1, "hello"))
        one.step()
        one.pipe.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.next()
        assert one.process.poll() is None
        one.pipe.close()
        assert one.ended() == 0


def test_the_end_of_the_pipe_ends_the_process_at_work_and_at_rest() -> None:
    for work in (False, True):
        with worker(step_seconds=0.01) as one:
            if work:
                one.send(admission(1, "count to 100000"))
                one.step()
            one.pipe.close()
            assert one.ended() == 0


def test_what_is_no_frame_ends_the_process() -> None:
    with worker() as one:
        one.pipe.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert one.next() is None
        assert one.ended() == 1


@pytest.mark.parametrize(
    "body",
    [
        ["admit", 1, "hello", [], 10, [], {}],
        ["admit", 1, [1], [], 10, [], {"temperature": "warm"}],
        ["cancel", "one"],
        ["step", 1],
    ],
)
def test_in1_a_frame_with_a_value_of_another_type_ends_the_process(body: list[Any]) -> None:
    with worker() as one:
        one.pipe.sendall(enclose(msgspec.msgpack.encode(body), "bad"))
        while isinstance(one.next(), Idle):
            pass
        assert one.ended() == 1


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1])
def test_in2_a_worker_told_of_another_protocol_ends_and_names_both(protocol: int) -> None:
    ours, theirs = socket.socketpair()
    config = WorkerConfig(engine="mock", cache_dir=Path())
    with ours, theirs:
        ours.sendall(pack_frame(Load(protocol, config, ModelFiles(""))))
        done = subprocess.run(
            config.command(theirs.fileno()), pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"speaks protocol {protocol}, this one {PROTOCOL}" in done.stderr + done.stdout


def test_the_end_of_the_server_by_any_means_leaves_no_orphan() -> None:
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]);"
        "from inference.worker_kit import WorkerProcess, admission;"
        "one = WorkerProcess(step_seconds=0.01).__enter__(); one.send(admission(1, 'count to 100000'));"
        "one.step(); print(one.process.pid, flush=True); time.sleep(60)"
    )
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", program, tests], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker_pid = int(server.stdout.readline())
        os.kill(worker_pid, 0)
        server.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _is_running(worker_pid):
        assert time.monotonic() < deadline, "the worker outlived its server"
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    """True if it still runs; an orphan's exit status may wait for an init process that never asks."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_a_worker_needs_its_pipe() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "actors.inference.worker"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "--pipe" in ended.stderr


def test_a_bad_plan_is_noticed_at_start() -> None:
    one = WorkerProcess(faults=[{"fault": "explode"}])
    try:
        assert one.frame(Hello)
        with pytest.raises((AssertionError, socket.error)):
            one.frame(Ready)
        assert one.ended() == 1
    finally:
        one.__exit__(None, None, None)


@pytest.mark.mlx_real_inference
def test_a_model_that_cannot_be_loaded_is_told_in_words(cache_folder: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours, theirs:
        config = WorkerConfig(engine="mlx", cache_dir=cache_folder, compiled=False)
        ours.sendall(pack_frame(Load(PROTOCOL, config, ModelFiles("nothing", tmp_path / "nothing"))))
        with subprocess.Popen(config.command(theirs.fileno()), pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            received = b""
            while data := ours.recv(65536):
                received += data
        assert process.returncode == 3
    assert b"load_failed" in received
    assert b"config.json" in received


PREPARES_WHEN_TOLD = """
import sys, time
from pathlib import Path
from actors.inference.schema_errors import BadSchema
from actors.inference.worker import __main__ as worker
from actors.inference.worker.mock import MockStepper

def prepare(self, row):
    while not Path(row.response_schema["until"]).exists():
        time.sleep(0.005)
    if row.response_schema.get("is_bad"):
        raise BadSchema("on purpose")

MockStepper.prepare = prepare
sys.exit(worker.main())
"""


def test_jd7_what_a_schema_takes_to_prepare_delays_its_own_row_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with worker(code=PREPARES_WHEN_TOLD) as one:
        one.send(admission(1, "hello", response_schema=json.dumps({"until": str(first)})))
        one.send(admission(2, "hello", response_schema=json.dumps({"until": str(second)})))
        one.send(admission(3, "hello"))
        assert one.answer(3) == (HELLO, "stop"), "its neighbours are prepared, and it is answered"
        # With nothing else to do it says that it lives, so that nobody takes it for hung.
        assert one.next() == Preparing()
        first.touch()
        while (frame := one.next()) == Preparing():
            pass
        assert isinstance(frame, Step)
        assert frame.output.rows == [1]
        one.send(Cancel(2))
        second.touch()
        one.send(admission(4, "hello", response_schema=json.dumps({"until": str(second), "is_bad": True})))
        failed = []
        while not failed:
            frame = one.next()
            if isinstance(frame, Step):
                assert 2 not in frame.output.rows, "it was taken back while it was prepared"
                failed = frame.output.failed
        assert failed == [(4, RowFailure("on purpose", ErrorCode.INVALID_FIELD))]
        one.send(admission(5, "hello"))
        assert one.answer(5) == (HELLO, "stop")


STUCK_AFTER_A_WHILE = """
import sys
from actors.inference.schema_errors import BadSchema
from actors.inference.worker import __main__ as worker
from actors.inference.worker.mock import MockStepper

class Matcher:
    masks = 0

    def mask(self):
        self.masks += 1
        if self.masks > 3:
            raise BadSchema("too complex on purpose")
        return [2**32 - 1] * 9

    def take(self, token_id):
        pass

MockStepper.prepare = lambda self, row: Matcher()
sys.exit(worker.main())
"""


def test_jd7_a_schema_that_cannot_be_followed_any_further_ends_its_own_row() -> None:
    with worker(code=STUCK_AFTER_A_WHILE, step_seconds=0.005) as one:
        one.send(admission(1, "count to 100"))
        one.send(admission(2, "hello", response_schema="{}"))
        failed: list[Any] = []
        while not failed:
            frame = one.next()
            failed = frame.output.failed if isinstance(frame, Step) else []
        assert failed == [(2, RowFailure("too complex on purpose", ErrorCode.INVALID_FIELD))]
        assert one.answer(1)[1] == "stop"


@pytest.mark.mlx_real_inference
def test_te35_a_worker_imports_nothing_of_transformers(cache_folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from actors.inference.worker import __main__ as worker
config = worker.WorkerConfig(engine="mlx", cache_dir=Path({str(cache_folder)!r}), compiled=False)
worker._import_everything(config, lambda stage: None)
print("actors.inference.worker.startup" in sys.modules, "transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True False\n"


def test_te51_a_start_looks_for_garbage_rarely_and_work_as_usual(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = (
        "import gc, sys; from actors.inference.worker import __main__ as program;"
        f"tell = lambda: open({str(seen)!r}, 'a').write(f'{{gc.get_threshold()[0]}} {{gc.isenabled()}}\\n');"
        "load, serve = program._load, program.serve;"
        "program._load = lambda *about: (tell(), load(*about))[1];"
        "program.serve = lambda *about: (tell(), serve(*about));"
        "sys.exit(program.main())"
    )
    with worker(code=code) as one:
        one.send(admission(1, "Go on.", max_tokens=1))
        one.answer(1)
    # That of this process may be another by now.
    usual = subprocess.run(
        [sys.executable, "-c", "import gc; print(gc.get_threshold()[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert seen.read_text().split() == [str(OBJECTS), "True", usual, "True"]
