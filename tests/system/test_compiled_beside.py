"""A first start answers before its kernels are compiled: the real program with the real model and no cached kernels."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import actors.inference.kernel_compiler as compiler
from actors.inference.kernel_compiler import CompileKernels, KernelCompiler, KernelsSettled
from runtime import Actor, ActorSystem, ChildSpec, SupervisorSpec, block
from runtime.testing import running
from tests.cache_folder import cache_folder_of_tests
from tests.system.serving_process import ServingProcess, is_alive, start_server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]

COMPILE_SECONDS = 400.0
"""Fifteen on an idle machine; the compiling process is nice."""
QUESTION = ("ask", "--json", "--temperature", "0", "--max-tokens", "24", "What is the capital of France?")


@contextmanager
def start_without_code(folder: Path) -> Iterator[ServingProcess]:
    with start_server(
        folder, "--engine", "mlx",
        LEANVIBE_ENGINE="mlx", LEANVIBE_CACHE_DIR=str(cache_folder_of_tests()), NUMBA_CACHE_DIR=str(folder / "code"),
    ) as server:  # fmt: skip
        server.until_ready()
        yield server


def health(server: ServingProcess) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(server.run("status", "--json").stdout)["engine"]
    return told


def answer(server: ServingProcess) -> str:
    done = server.run(*QUESTION)
    assert done.returncode == 0, done.stderr
    text: str = json.loads(done.stdout)["text"]
    return text


def test_te47_the_first_answers_come_without_compiled_code_and_are_those_of_compiled_code(tmp_path: Path) -> None:
    with start_without_code(tmp_path) as server:
        first = health(server)
        assert (first["kernels"], first["status"]) == ("compiling", "healthy")
        text = answer(server)
        # Constant requests would keep the nice compiler process from running.
        wait_for(
            lambda: "model in use" in server.log.read_text(encoding="utf-8"), seconds=COMPILE_SECONDS, what="a swap"
        )
        second = health(server)
        assert (second["kernels"], second["status"], second["restarts"]) == ("compiled", "healthy", 0)
        assert second["canary_nll"] == pytest.approx(first["canary_nll"], abs=0.02)
        assert second["worker_pid"] != first["worker_pid"]
        assert answer(server) == text
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_te48_what_compiles_ends_with_its_server(tmp_path: Path, number: signal.Signals) -> None:
    with start_without_code(tmp_path) as server:
        pid = wait_for(
            lambda: server.inspect_json("state", "inference/kernels")["snapshot"]["compiler_pid"], what="a compiler"
        )
        assert is_alive(pid)
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, pid) > 0, what="a process that lets others go first")
        server.process.send_signal(number)
        server.process.wait(60)
        wait_for(lambda: not is_alive(pid), what="the end of what compiles")
    assert not list((tmp_path / "code").rglob("whole-*")), "it was ended, and did not come to its end by itself"


@pytest.mark.parametrize("cause", ["killed", "no place for it"])
def test_te49_health_says_that_there_is_no_compiled_code_and_why_and_answers_go_on(tmp_path: Path, cause: str) -> None:
    if cause == "no place for it":
        (tmp_path / "code").touch()
    with start_without_code(tmp_path) as server:
        assert health(server)["kernels"] == "compiling"

        def is_given_up() -> bool:
            snapshot = server.inspect_json("state", "inference/kernels")["snapshot"]
            if cause == "killed" and (pid := snapshot["compiler_pid"]) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return bool(snapshot["state"] == "settled")

        wait_for(is_given_up, seconds=COMPILE_SECONDS, what="the last try")
        told = wait_for(
            lambda: (one := health(server))["kernels"] != "compiling" and one, what="health that knows of it"
        )
        assert (told["kernels"], told["status"], told["restarts"]) == ("uncompiled", "healthy", 0)
        (warning,) = [one for one in told["warnings"] if "the compiler process" in one]
        assert ("ended with status -9" if cause == "killed" else "NotADirectoryError") in warning
        assert answer(server)


async def test_te49_code_that_cannot_be_made_is_tried_three_times_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "AGAIN_SECONDS", 0.01)
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    told: list[str | None] = []
    heard = trio.Event()

    class Inference(Actor[KernelsSettled]):
        mailbox = block(8)

        async def handle(self, message: KernelsSettled) -> None:
            told.append(message.problem)
            heard.set()

    started: list[int] = []
    begin = compiler.WorkerProcess.start

    async def start(command: Any) -> Any:
        worker = await begin(command)
        started.append(worker.pid)
        return worker

    monkeypatch.setattr(compiler.WorkerProcess, "start", start)

    def tree(system: ActorSystem) -> SupervisorSpec:
        kernels = partial(KernelCompiler, tmp_path, system.reference("inference"))
        return SupervisorSpec(
            children=(ChildSpec(id="inference", start=Inference), ChildSpec(id="kernels", start=kernels))
        )

    async with running(tree) as system:
        await system.reference("kernels").tell(CompileKernels())
        with trio.fail_after(120):
            await heard.wait()
        assert len(started) == compiler.TRIES
        assert told[0] is not None
        assert "ended with status 1" in told[0]
        assert not any(is_alive(pid) for pid in started)
