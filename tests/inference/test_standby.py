"""The process that stands by: it saves time and is needed by nobody (promise 1)."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from actors.inference.engine_messages import PrepareStandby, TakeStandby
from actors.inference.frames import TypedFrameReader
from actors.inference.watchdog import may_prepare_standby
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import (
    PROTOCOL,
    Hello,
    Load,
    Loading,
    ModelFiles,
    Ready,
    StandingBy,
    WaitForModel,
    pack_frame,
    read_from_worker,
)
from actors.inference.worker_process import InferenceWorker
from runtime.inspection import actor_snapshot
from runtime.testing import crash

from .service_kit import InferenceService, inference_service
from .test_model_manager import is_alive, load, who
from .test_recovery import counted

CONFIG = WorkerConfig(engine="mock", cache_dir=Path())


def test_p1_a_spare_is_started_only_when_it_slows_no_first_answer() -> None:
    assert not may_prepare_standby(0.0, is_idle=True)
    assert not may_prepare_standby(5.0, is_idle=False)
    assert may_prepare_standby(2.0, is_idle=True)
    assert may_prepare_standby(10.0, is_idle=False)


async def until_gone(pid: int) -> None:
    with trio.fail_after(60):
        while is_alive(pid):  # noqa: ASYNC110  a process tells nobody but its parent
            await trio.sleep(0.01)


async def standby_pid(service: InferenceService) -> object:
    return (await actor_snapshot(service.system, "inference/standby", timeout=60))["standby_pid"]


@pytest.mark.integration
async def test_p1_after_a_death_the_spare_goes_on_and_a_new_one_stands_by() -> None:
    async with inference_service(step_seconds=0.01, has_standby=True) as service:
        first = await service.worker_pid()
        standby = await service.spare_pid()
        assert len({first, standby}) == 2
        running = await service.start("count to 60")
        await service.tokens(running, 5)
        os.kill(first, signal.SIGKILL)
        assert await service.answer(running) == counted(60)
        assert await service.worker_pid() == standby
        assert await service.spare_pid() not in (first, standby)


@pytest.mark.integration
async def test_p1_a_change_of_models_takes_the_spare() -> None:
    async with inference_service(has_standby=True) as service:
        standby = await service.spare_pid()
        assert (await load(service, "other")).worker_pid == standby
        assert await who(service) == "other"


@pytest.mark.integration
async def test_p1_the_death_of_the_spare_harms_nobody() -> None:
    async with inference_service(step_seconds=0.01, has_standby=True) as service:
        os.kill(await service.spare_pid(), signal.SIGKILL)
        with trio.fail_after(60):
            while await standby_pid(service) is not None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        running = await service.start("count to 60")
        await service.tokens(running, 5)
        await service.kill_worker()
        assert await service.answer(running) == counted(60)
        assert (await service.done(running)).engine_restarts == 1


@pytest.mark.integration
async def test_p1_a_spare_that_dies_as_it_is_handed_over_is_one_more_restart() -> None:
    async with inference_service(step_seconds=0.01, has_standby=True) as service:
        standby = await service.spare_pid()
        running = await service.start("count to 60")
        await service.tokens(running, 5)
        # It is stopped, so its death is noticed after the engine has taken it.
        os.kill(standby, signal.SIGSTOP)
        await service.kill_worker()
        await service.until_health(lambda one: one.worker_pid == standby)
        os.kill(standby, signal.SIGKILL)
        assert await service.answer(running) == counted(60)


@pytest.mark.integration
async def test_p1_a_lost_spare_actor_ends_its_process() -> None:
    async with inference_service(has_standby=True) as service:
        standby = await service.spare_pid()
        crash(service.system, "inference/standby", RuntimeError("lost on purpose"))
        await until_gone(standby)
        assert await who(service) == "mock"


@pytest.mark.integration
async def test_p1_the_spare_ends_with_the_server() -> None:
    async with inference_service(has_standby=True) as service:
        standby = await service.spare_pid()
    await until_gone(standby)


@pytest.mark.integration
def test_p1_a_spare_whose_server_was_killed_leaves_at_once() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            CONFIG.command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
    try:
        reader, frames = TypedFrameReader(read_from_worker), []
        ours.settimeout(20)
        ours.sendall(pack_frame(WaitForModel(PROTOCOL, CONFIG)))
        while StandingBy() not in frames:
            frames += reader.feed(ours.recv(65536))
        assert process.poll() is None
        ours.close()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.integration
def test_p1_a_spare_loads_what_it_is_told() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            CONFIG.command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
    try:
        reader, frames = TypedFrameReader(read_from_worker), {}
        ours.settimeout(20)
        ours.sendall(pack_frame(WaitForModel(PROTOCOL, CONFIG)) + pack_frame(Load(PROTOCOL, CONFIG, ModelFiles("any"))))
        while Ready not in frames:
            frames |= {type(frame): frame for frame in reader.feed(ours.recv(65536))}
        assert list(frames) == [Hello, StandingBy, Loading, Ready]
        assert frames[Ready].report.model == "any"
    finally:
        ours.close()
        process.kill()
        process.wait()


@pytest.mark.integration
async def test_te37_the_first_engine_takes_the_worker_that_was_started_before_the_tree() -> None:
    config = WorkerConfig(engine="mock", cache_dir=Path())
    early = await InferenceWorker.start(config.command)
    await early.write(WaitForModel(PROTOCOL, config))
    async with inference_service(has_standby=True, early=[early], keeps_standby=False) as service:
        assert await service.worker_pid() == early.pid
        assert await service.answer(await service.start("count to 5")) == counted(5)
        # The next one is a process of the engine's own.
        await service.kill_worker()
        assert await service.answer(await service.start("count to 5")) == counted(5)


@pytest.mark.integration
async def test_te37_without_a_spare_none_is_started() -> None:
    async with inference_service(has_standby=True, keeps_standby=False) as service:
        standby = service.system.reference("inference/standby")
        await standby.tell(PrepareStandby())
        # It answers in order, so by now it has seen that.
        assert await standby.ask(TakeStandby(), timeout=30) is None
        assert (await actor_snapshot(service.system, "inference/standby", timeout=60))["is_keeping"] is False


@pytest.mark.integration
async def test_te37_a_worker_that_died_before_it_was_taken_is_one_more_restart() -> None:
    config = WorkerConfig(engine="mock", cache_dir=Path())
    early = await InferenceWorker.start(config.command)
    await early.write(WaitForModel(PROTOCOL, config))
    early.process.kill()
    await early.process.wait()
    async with inference_service(has_standby=True, early=[early], keeps_standby=False) as service:
        assert await service.worker_pid() != early.pid
        assert await service.answer(await service.start("count to 5")) == counted(5)
