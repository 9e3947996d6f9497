"""Whether a model is computed by compiled code, and where that code is kept between starts."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from actors.inference.kernels.thread_pool import ThreadPool

__all__ = ["compiled_beside", "forget_unused", "import_compiled", "set_cache_dir", "use_compiled"]

_VARIABLE = "NUMBA_CACHE_DIR"
_COUNT_SECONDS = 0.5
_UNUSED_SECONDS = 30 * 86_400.0
BESIDE_SECONDS = 180.0
"""What compiling in a process of its own may take; then the process that waits for it does it."""


def set_cache_dir(cache_folder: Path) -> None:
    """Say where compiled code is kept, which takes some ten seconds to make once. Before it is first imported.

    Where numba's own variable names a folder already, that one. What lies there is run, so ours is for its owner alone.
    """
    if os.environ.get(_VARIABLE):
        return
    folder = cache_folder / "machine-code"
    with suppress(OSError):  # then the compiler finds no place either, and says so
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[_VARIABLE] = str(folder)


def import_compiled(report: Callable[[float], None] | None = None) -> str | None:
    """Import compiled code, or make it where this processor has none yet; why it cannot be had, or None.

    ``report`` is called from a thread with the fraction that is made, while there is something to make.
    """
    try:
        compiling = importlib.import_module("actors.inference.kernels.jit")
        with _reported(compiling.CODE_FOLDER, compiling.PIECES, report):
            importlib.import_module("actors.inference.kernels.forward")
    except Exception as error:  # noqa: BLE001  border: a compiler that does not work here, in whatever way
        return f"{type(error).__name__}: {error}"
    forget_unused(compiling.CODE_FOLDER)
    return None


@contextmanager
def compiled_beside() -> Iterator[Callable[[Callable[[float], None]], str | None]]:
    """Compile in a process of its own while the block does something else; leaving the block ends that process.

    What the block gets waits for the code, reports the fraction that is made, and imports it as `import_compiled` does,
    which makes whatever the other process did not.
    """
    # Layers need no MLX, which takes seconds to import; numba's own variable says where their code goes.
    command = [sys.executable, "-c", f"import {__package__}.layers"]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)  # noqa: S603  our own program, no shell

    def finish(report: Callable[[float], None]) -> str | None:
        with suppress(ModuleNotFoundError):  # `import_compiled` tells of it
            compiling = importlib.import_module("actors.inference.kernels.jit")
            with _reported(compiling.CODE_FOLDER, compiling.PIECES, report), suppress(subprocess.TimeoutExpired):
                process.wait(BESIDE_SECONDS)
        _end(process)
        return import_compiled(report)

    try:
        yield finish
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextmanager
def _reported(folder: Path, pieces: int, report: Callable[[float], None] | None) -> Iterator[None]:
    """Count the files of compiled functions as they come to lie in ``folder``."""
    if report is None:
        yield
        return
    is_over = threading.Event()

    def count() -> None:
        while not is_over.wait(_COUNT_SECONDS):
            report(min(1.0, sum(1 for _ in folder.rglob("*.nbi")) / pieces))

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        is_over.set()
        counting.join()


def forget_unused(folder: Path) -> None:
    """Note that a folder of compiled code is used, and remove those beside it that were not for a month.

    Each change of the sources makes a folder of its own, named by their digest. Whatever has another name is not ours:
    where numba's own variable is set, others keep theirs there too.
    """
    with suppress(OSError):  # somebody else's, or gone meanwhile
        os.utime(folder)
        for other in folder.parent.iterdir():
            is_ours = re.fullmatch("[0-9a-f]{16}", other.name) is not None
            if is_ours and other != folder and time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def use_compiled(model: Any) -> tuple[ThreadPool | None, str | None]:
    """Let compiled code compute the layers and the head of a loaded model on the CPU.

    Returns the threads that do, or None and, for a Phi-3, the reason. Whatever keeps the compiler from working costs
    speed and nothing else.
    """
    if not hasattr(model, "project"):
        return None, None
    reason = import_compiled()
    if reason is not None:
        return None, reason
    from actors.inference.kernels.forward import CompiledForward, can_compile

    if not can_compile(model):
        return None, "its weights have a form that compiled code does not know"
    thread_pool = ThreadPool(_processors())
    model.model.compiled = CompiledForward(model, thread_pool)
    return thread_pool, None


def _processors() -> int:
    """Those that this process may use, or fewer where the usual variable for threads of products says so."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(usable, int(wanted))) if wanted.isdecimal() else usable
