"""The worker process: ``python -m actors.inference.worker --pipe FD …``. Started by the engine actor only."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.inference.worker.fault_injection import FaultSchedule
from actors.inference.worker.loop import Pipe, serve
from actors.inference.worker.stepper import Stepper
from actors.queued_output import queue_standard_output

EXIT_MODEL = 3
"""The model could not be loaded; the reason was told in a frame."""


def main() -> int:
    """Load, report, step until the server goes. With ``--standby`` the model to load comes later, in a frame."""
    # The step loop must not wait for a server that does not read what a library prints.
    queue_standard_output(is_private=True)
    arguments = read_arguments()
    pipe = Pipe(socket.socket(fileno=arguments.pipe))
    pipe.send("hello", {"pid": os.getpid()})

    faults = FaultSchedule.from_json(arguments.faults)

    def stage(name: str) -> None:
        pipe.send("loading", {"stage": name})
        faults.reach(name)

    try:
        # Once: a second BLAS would be loaded too late to be MLX's.
        blas = _import_everything(arguments, stage if not arguments.standby else _silent)
        if arguments.standby:
            pipe.send("standby", {})
            _, wanted = pipe.commands.get()
            vars(arguments).update(wanted)
            faults = FaultSchedule.from_json(arguments.faults)
        faults.strike_load(arguments.model_name)
        stepper = _load(arguments, blas, stage)
    except Exception as error:  # noqa: BLE001  border: whatever stops the load is told in words
        pipe.send("load_failed", {"error": f"{type(error).__name__}: {error}"})
        return EXIT_MODEL
    pipe.send("ready", stepper.report())
    serve(pipe, stepper, faults)
    return 0


def _import_everything(arguments: argparse.Namespace, stage: Callable[[str], None]) -> Any:
    """All that loading needs but the model: the BLAS it found, for mlx."""
    if arguments.engine == "mock":
        return importlib.import_module("actors.inference.worker.mock")
    # MLX resolves its BLAS when it is first imported, so ours has to be in the process before.
    stage("blas")
    from actors.inference.kernels.jit_cache import import_compiled, set_cache_dir
    from actors.inference.worker.blas import load_blas

    set_cache_dir(Path(arguments.cache_folder))
    blas = load_blas(arguments.blas, Path(arguments.cache_folder))
    stage("importing mlx")
    _import_without_its_own("mlx_lm")
    for name in ("actors.inference.worker.startup", "actors.inference.mlx.phi3"):
        importlib.import_module(name)
    if arguments.compiled:
        stage("compiling")
        import_compiled()
    return blas


def _import_without_its_own(package: str) -> None:
    """Let modules of a package be imported without what its `__init__` imports.

    That of mlx-lm brings transformers and its hub along: more than a second of processor time and 30 MiB, of which a worker
    needs nothing. Its modules import what they need by themselves.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and package not in sys.modules:
        sys.modules[package] = importlib.util.module_from_spec(spec)


def _silent(_stage: str) -> None:
    """Nobody waits for what a spare does."""


def _load(arguments: argparse.Namespace, blas: Any, stage: Callable[[str], None]) -> Stepper:
    if arguments.engine == "mock":
        from actors.inference.worker.mock import MockStepper

        stage("warming up")
        return MockStepper(step_seconds=arguments.mock_step_seconds, name=arguments.model_name or "mock")
    from actors.inference.worker.startup import load_stepper

    return load_stepper(
        Path(arguments.model),
        arguments.model_name,
        blas,
        stage,
        prefix_bytes=arguments.prefix_bytes,
        drafts=arguments.drafts,
        adapter=None if arguments.adapter is None else Path(arguments.adapter),
        long_context=arguments.long_context,
        is_memory_bounded=arguments.memory_bounded,
        may_compile=arguments.compiled,
    )


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or `words` in place of it."""
    parser = argparse.ArgumentParser(prog="leanvibe-worker")
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--engine", choices=("mlx", "mock"), required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--model-name", default="")
    parser.add_argument("--adapter")
    parser.add_argument("--blas", default="auto")
    parser.add_argument("--cache-folder", default=".")
    parser.add_argument("--prefix-bytes", type=int, default=0)
    parser.add_argument("--drafts", action="store_true")
    parser.add_argument("--long-context", action="store_true")
    parser.add_argument("--memory-bounded", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--mock-step-seconds", type=float, default=0.0)
    parser.add_argument("--faults", default="")
    parser.add_argument("--standby", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
