"""The real program: a server process, questions to it, and the effects on either when a process dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.startup import OBJECTS
from tests.server_fixture import count_to
from tests.system.serving_process import COMMAND, REPOSITORY, environment, is_alive, leanvibe, start_server, wait_for

pytestmark = pytest.mark.integration

TEST_QUESTION = "count to 30"


# --- asking -------------------------------------------------------------------------------------------


def test_a_question_is_answered_on_standard_output_alone(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        print(f"server.json after {server.ready_seconds:.2f} s")
        done = leanvibe(tmp_path, "ask", TEST_QUESTION)
        assert (done.returncode, done.stdout, done.stderr) == (0, count_to(30) + "\n", "")
        done = server.run("ask", "--json", "héllo", "--seed", "7")
        answer = json.loads(done.stdout)
        assert (answer["text"], answer["seed"], answer["finish_reason"]) == ("You said: héllo", 7, "stop")
        assert answer["usage"]["completion_tokens"] == len("You said: héllo".encode())
        done = server.run("ask", "count to 9", "--max-tokens", "3")
        assert done.stdout == "1 2\n"
        done = server.run("ask", "x" * 9000)
        assert done.returncode == 1
        assert "maximum context length is 8192 tokens" in done.stderr
        assert done.stdout == ""
        done = leanvibe(tmp_path / "elsewhere", "ask", "count to 3", "--url", server.about["websocket_url"])
        assert done.stdout == "1 2 3\n"


def test_status_shows_the_server_and_its_engine(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        server.until_ready()
        done = server.run("status")
        assert done.returncode == 0
        for word in ("mock", str(server.process.pid), server.about["websocket_url"], "no model is loaded"):
            assert word in done.stdout
        # A proxy for the Internet must not be used for this machine.
        done = server.run("status", "--json", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
        health = json.loads(done.stdout)
        assert (health["status"], health["pid"]) == ("mock", server.process.pid)
        assert health["engine"]["worker_pid"] == server.worker_pid()


def test_where_no_server_runs_one_is_started_for_the_question_and_none_is_left(tmp_path: Path) -> None:
    done = leanvibe(tmp_path, "ask", TEST_QUESTION, "--engine", "mock")
    assert (done.returncode, done.stdout) == (0, count_to(30) + "\n"), done.stderr
    assert "starting one" in done.stderr
    assert not (tmp_path / "server.json").exists()
    assert leanvibe(tmp_path, "status").returncode == 3
    pid = int((tmp_path / "lock").read_text())
    assert not is_alive(pid)


def test_ctrl_c_ends_a_question_and_the_server_that_was_started_for_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "ask", "count to 900", "--engine", "mock"],
        env=environment(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.01"),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"1 2"
        about = json.loads((tmp_path / "server.json").read_text())
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.returncode == 130
        assert not is_alive(about["pid"])
        wait_for(lambda: not is_alive(about["worker_pid"]))
        assert not (tmp_path / "server.json").exists()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


# --- looking inside -----------------------------------------------------------------------------------


def test_the_live_tree_can_be_looked_at_and_handled(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        server.until_ready()
        done = server.run("inspect", "tree")
        assert done.returncode == 0
        for word in ("connections", "listener", "inference", "engine", "access", "rest", "idle"):
            assert word in done.stdout
        tree = server.inspect_json("tree")
        assert tree["is_ready"] is True
        assert server.inspect_json("state", "inference/inference")["snapshot"]["state"] == "ready"

        done = server.run("inspect", "suspend", "inference/inference")
        assert (done.returncode, done.stdout) == (0, "suspended inference/inference\n")
        assert "suspended" in server.run("inspect", "tree").stdout
        assert server.run("inspect", "resume", "inference/inference").stdout == "resumed inference/inference\n"
        assert server.run("ask", "count to 5").stdout == "1 2 3 4 5\n"

        done = server.run("inspect", "restart", "rest")
        assert done.stdout == "restarted rest, now incarnation 2\n"
        assert server.run("status").returncode == 0

        assert server.inspect_json("dead-letters")["total"] >= 0
        assert server.run("inspect", "dead-letters").returncode == 0

        done = server.run("inspect", "state", "no/such")
        assert done.returncode == 1
        assert "no/such" in done.stderr


def test_a_trace_shows_what_a_question_sends_and_stops_itself(tmp_path: Path) -> None:
    trace = ("inspect", "trace", "--actor", "inference/inference", "--json")
    with start_server(tmp_path) as server:
        server.until_ready()
        tracing = subprocess.Popen(
            [*COMMAND, *trace],
            env=environment(tmp_path),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert tracing.stdout is not None
            assert "tracing" in tracing.stdout.readline()
            assert server.run("ask", TEST_QUESTION).returncode == 0
            # Status queries use the engine too, before the question and after it.
            lines = []
            while not lines or lines[-1]["message_type"] != "StartGeneration":
                lines.append(json.loads(tracing.stdout.readline()))
        finally:
            if tracing.poll() is None:
                tracing.kill()
            tracing.wait(10)
            assert tracing.stdout is not None
            tracing.stdout.close()
        assert "count" not in json.dumps(lines)
        ended = [json.loads(line) for line in server.run(*trace, "--max", "4").stdout.splitlines()]
        assert len(ended) == 6
        assert ended[-1]["ended"] is True


# --- what stands in the way ---------------------------------------------------------------------------


def test_a_port_in_use_is_a_plain_message(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for option, other in (("--port", "--ws-port"), ("--ws-port", "--port")):
            done = leanvibe(tmp_path, "serve", "--engine", "mock", option, port, other, "0")
            assert done.returncode == 1
            assert done.stderr.strip().splitlines() == [
                f"leanvibe: port {port} on 127.0.0.1 is in use; choose another with {option}, or 0 for a free one"
            ]
    assert not (tmp_path / "server.json").exists()


def test_a_second_server_on_the_same_data_is_told_who_holds_it(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        done = leanvibe(tmp_path, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0")
        assert done.returncode == 1
        assert f"process {server.process.pid}" in done.stderr
        assert "--data-dir" in done.stderr
        assert "Traceback" not in done.stderr
        assert server.run("ask", "count to 3").stdout == "1 2 3\n"


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = leanvibe(tmp_path / "file", "serve", "--engine", "mock", "--port", "0", "--ws-port", "0")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_very_long_data_folder_still_serves_inspection(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    with start_server(folder, XDG_RUNTIME_DIR=str(tmp_path)) as server:
        assert len(os.fsencode(server.about["inspection_socket"])) <= 100
        assert server.run("inspect", "tree").returncode == 0


# --- dying --------------------------------------------------------------------------------------------


def test_a_killed_server_leaves_no_worker(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        worker = server.worker_pid()
        assert is_alive(worker)
        server.process.kill()
        server.process.wait(10)
        wait_for(lambda: not is_alive(worker), seconds=5, what="the worker gone")
        # Its leftovers are no server, and do not keep the next one from starting.
        assert (tmp_path / "server.json").exists()
        assert leanvibe(tmp_path, "status").returncode == 3
    with start_server(tmp_path) as server:
        assert server.run("ask", "count to 3").stdout == "1 2 3\n"


def test_a_worker_killed_in_mid_answer_changes_no_letter_of_it(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.003") as server:
        server.until_ready()
        first = server.worker_pid()
        asking = subprocess.Popen(
            [*COMMAND, "ask", "count to 200", "--max-tokens", "2000"],
            env=environment(tmp_path),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert asking.stdout is not None
            begun = asking.stdout.read(20)
            os.kill(first, signal.SIGKILL)
            text = begun + asking.stdout.read()
            assert asking.wait(20) == 0
        finally:
            if asking.poll() is None:
                asking.kill()
            asking.wait(10)
            assert asking.stdout is not None
            asking.stdout.close()
        assert text == count_to(200) + "\n"
        second = server.worker_pid(other_than=first)
        assert not is_alive(first)
        health = json.loads(server.run("status", "--json").stdout)
        assert (health["engine"]["restarts"], health["engine"]["worker_pid"]) == (1, second)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with start_server(tmp_path) as server:
        server.until_ready()
        worker = server.worker_pid()
        about = server.about
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(10) == 0, server.log.read_text()
        print(f"{number.name}: stopped in {time.monotonic() - began:.2f} s")
        assert not is_alive(worker)
        assert not (tmp_path / "server.json").exists()
        assert not Path(about["inspection_socket"]).exists()
        assert "Traceback" not in server.log.read_text()
        assert number.name in server.log.read_text()


def test_a_stopping_server_finishes_the_answer_that_runs(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        server.until_ready()
        asking = subprocess.Popen(
            [*COMMAND, "ask", "count to 60"],
            env=environment(tmp_path),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert asking.stdout is not None
            begun = asking.stdout.read(5)
            server.process.send_signal(signal.SIGTERM)
            assert begun + asking.stdout.read() == count_to(60) + "\n"
            assert asking.wait(10) == 0
        finally:
            if asking.poll() is None:
                asking.kill()
            asking.wait(10)
            assert asking.stdout is not None
            asking.stdout.close()
        assert server.process.wait(10) == 0


# --- starting -----------------------------------------------------------------------------------------


def test_te38_a_server_starts_without_what_its_first_answer_does_not_need() -> None:
    program = (
        "import sys; from actors.startup import import_structlog_alone; import_structlog_alone();"
        "import actors.application, actors.command_line.serve;"
        "print([name for name in ('rich', 'quart', 'hypercorn', 'numpy', 'llguidance', 'jwt', 'cryptography')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_te38_a_worker_and_a_server_are_on_their_way_before_the_rest_is_imported() -> None:
    program = (
        "import sys, actors.command_line.{};"
        "print([name for name in ('trio', 'sqlalchemy', 'protocol.client', 'actors.application') if name in sys.modules])"
    )
    for name in ("ask_command", "serve"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(name)], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]", name


def test_te45_a_command_is_imported_without_collections_and_runs_with_them() -> None:
    program = (
        "import gc; from actors.command_line.main import leanvibe; seen = [];"
        "gc.callbacks.append(lambda phase, info: seen.append(phase));"
        "command = leanvibe.get_command(None, 'ask'); print(len(seen), gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    seen, is_on = done.stdout.split()
    # One once they are enabled again, which begins and ends.
    assert (int(seen) <= 2, is_on) == (True, "True"), seen


def test_te45_a_server_looks_for_garbage_once_it_is_up(tmp_path: Path) -> None:
    program = (
        "import gc, os, signal, sys; import actors.command_line.serve as serving; from actors.command_line.main import main;"
        "seen = []; gc.callbacks.append(lambda phase, info: seen.append(phase));"
        "up = lambda *about: (print(gc.isenabled(), gc.get_freeze_count() > 0), os.kill(os.getpid(), signal.SIGTERM));"
        "making = serving.early_worker;"
        "serving.early_worker = lambda *how, **more: (print(gc.isenabled()), making(*how, **more))[1]; serving._greet = up;"
        "sys.argv[1:] = ['serve', '--engine', 'mock', '--port', '0', '--ws-port', '0']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True", "True"], done.stderr


def test_te51_a_command_looks_for_garbage_rarely_and_not_at_its_end() -> None:
    program = (
        "import gc, atexit, sys; from actors.command_line.main import main;"
        "atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0));"
        "sys.argv[1:] = ['completion', 'bash']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{OBJECTS} True"


def test_the_server_process_imports_no_model_library() -> None:
    program = (
        "import sys, actors.application, actors.command_line.serve, actors.command_line.ask;"
        "print([name for name in ('mlx', 'mlx.core', 'mlx_lm', 'transformers', 'torch', 'huggingface_hub')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
