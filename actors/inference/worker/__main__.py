"""The worker process: ``python -m actors.inference.worker --pipe FD``. Started by the engine actor only."""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors.inference.checkpoints.errors import reason_in_short
from actors.inference.frames import FrameFault
from actors.inference.worker.fault_injection import FaultSchedule
from actors.inference.worker.loop import Pipe, serve
from actors.inference.worker.stepper import Stepper
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import (
    PROTOCOL,
    Hello,
    Load,
    LoadFailed,
    Loading,
    ModelFiles,
    ModelReport,
    Ready,
    StandingBy,
    WaitForModel,
    check_protocol,
)
from actors.queued_output import queue_standard_output
from actors.startup import collect_rarely, resume_collections, without_collections

EXIT_MODEL = 3
"""Exit status of a failed load; a frame has carried the reason."""


def main() -> int:
    """Loads the model, reports it, and runs steps until the server is gone. A standby worker receives the model in a later
    frame."""
    collect_rarely()
    # The step loop must not block on a server that does not read the output of a library.
    queue_standard_output(is_private=True)
    pipe = Pipe(socket.socket(fileno=read_arguments().pipe))
    pipe.send(Hello(PROTOCOL, os.getpid()))
    first = _next_start(pipe)
    faults = FaultSchedule.from_json(first.config.worker_faults)

    def tell(name: str) -> None:
        pipe.send(Loading(name))

    def stage(name: str) -> None:
        tell(name)
        faults.reach(name)

    try:
        # Import once: a second BLAS would be loaded too late for MLX to use it.
        with without_collections():
            blas = _import_everything(first.config, stage if isinstance(first, Load) else tell)
        if isinstance(first, WaitForModel):
            pipe.send(StandingBy())
        load = first if isinstance(first, Load) else _next_start(pipe)
        if not isinstance(load, Load):
            raise FrameFault("WaitForModel was sent twice")
        faults = FaultSchedule.from_json(load.config.worker_faults)
        faults.strike_load(load.model.name)
        stepper = _load(load.config, load.model, blas, stage)
    except Exception as error:  # noqa: BLE001  boundary: any failure to load is reported in a frame
        pipe.send(LoadFailed(f"{type(error).__name__}: {reason_in_short(error)}"))
        return EXIT_MODEL
    # There are hundreds of thousands of objects by now; a full collection would delay a step.
    resume_collections()
    pipe.send(Ready(msgspec.convert(stepper.report(), ModelReport)))
    serve(pipe, stepper, faults)
    return 0


def _next_start(pipe: Pipe) -> Load | WaitForModel:
    """Receives the frame that precedes all rows. Raises `FrameFault` for any other frame, and for another protocol version."""
    frame = pipe.commands.get()
    if not isinstance(frame, Load | WaitForModel):
        raise FrameFault(f"{type(frame).__name__} before a model is loaded")
    check_protocol(frame.protocol)
    return frame


def _import_everything(config: WorkerConfig, stage: Callable[[str], None]) -> Any:
    """Imports everything that loading needs except the model. Returns the BLAS found, for MLX."""
    if config.engine == "mock":
        return importlib.import_module("actors.inference.worker.mock")
    # MLX resolves its BLAS when it is first imported, so the chosen one has to be loaded before.
    stage("blas")
    from actors.inference.kernels.jit_cache import import_compiled, is_to_be_made, set_cache_dir
    from actors.inference.mlx.library_imports import import_without_its_own
    from actors.inference.worker.blas import load_blas

    set_cache_dir(config.cache_dir)
    blas = load_blas(config.blas, config.cache_dir)
    stage("importing mlx")
    import_without_its_own("mlx_lm")
    for name in ("actors.inference.worker.startup", "actors.inference.mlx.phi3"):
        importlib.import_module(name)
    if config.compiled and not (config.compiles_beside and is_to_be_made()):
        stage("compiling")
        import_compiled()
    return blas


def _load(config: WorkerConfig, model: ModelFiles, blas: Any, stage: Callable[[str], None]) -> Stepper:
    if config.engine == "mock":
        from actors.inference.worker.mock import MockStepper

        stage("warming up")
        return MockStepper(step_seconds=config.mock_step_seconds, name=model.name or "mock")
    from actors.inference.worker.startup import load_stepper

    if model.folder is None:
        raise ValueError(f"model {model.name} has no folder")
    return load_stepper(
        model.folder,
        model.name,
        blas,
        stage,
        prefix_bytes=config.prefix_bytes,
        drafts=config.drafts,
        adapter=model.adapter,
        long_context=config.long_context,
        is_memory_bounded=config.is_memory_bounded,
        may_compile=config.compiled,
        compiles_beside=config.compiles_beside,
        grammars_at_need=config.grammars_at_need,
        warms_up=config.warms_up,
    )


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or `words` in place of it. Everything else comes through the pipe."""
    parser = argparse.ArgumentParser(prog="leanvibe-worker")
    parser.add_argument("--pipe", type=int, required=True)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
