"""Whether a model is computed by compiled code, and where that code is kept between starts."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs

from actors.inference.kernels.thread_pool import ThreadPool

__all__ = [
    "VARIABLE",
    "code_folder",
    "compiled_beside",
    "forget_unused",
    "import_compiled",
    "is_all_there",
    "is_to_be_made",
    "note_all_there",
    "set_cache_dir",
    "use_compiled",
]

VARIABLE = "NUMBA_CACHE_DIR"
# What is compiled is kept by numba for the file of a function alone, not for those that it calls.
_sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
_UNUSED_SECONDS = 30 * 86_400.0


def set_cache_dir(cache_folder: Path) -> None:
    """Say where compiled code is kept, which takes some ten seconds to make once. Before it is first imported.

    Where numba's own variable names a folder already, that one. What lies there is run, so ours is for its owner alone.
    """
    if os.environ.get(VARIABLE):
        return
    folder = cache_folder / "machine-code"
    with suppress(OSError):  # then the compiler finds no place either, and says so
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(folder)


def import_compiled() -> str | None:
    """Import compiled code, or make it where this processor has none yet; why it cannot be had, or None."""
    try:
        compiling = importlib.import_module("actors.inference.kernels.jit")
        importlib.import_module("actors.inference.kernels.forward")
    except Exception as error:  # noqa: BLE001  border: a compiler that does not work here, in whatever way
        return f"{type(error).__name__}: {error}"
    forget_unused(compiling.CODE_FOLDER)
    if not is_all_there():
        note_all_there()
    return None


@contextmanager
def compiled_beside() -> Iterator[None]:
    """Compile in a process of its own while the block does something else; leaving the block ends it. What it made stays."""
    # Layers need no MLX, which takes seconds to import; numba's own variable says where their code goes.
    command = [
        sys.executable,
        "-c",
        f"import {__package__}.layers; from {__package__}.jit_cache import note_all_there; note_all_there()",
    ]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)  # noqa: S603  our own program, no shell
    try:
        yield
    finally:
        process.kill()
        process.wait()


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


def code_folder(parent: str | None = None) -> Path:
    """That of these very sources, in ``parent``, or where numba's own variable says, or the usual place."""
    named = parent or os.environ.get(VARIABLE) or platformdirs.user_cache_path("leanvibe") / "machine-code"
    return Path(named) / hashlib.sha256(_sources).hexdigest()[:16]


def is_all_there() -> bool:
    """Whether all of it was made, by this compiler and for this processor. Files that went since are made anew when they are needed."""
    return _note().exists()


def is_to_be_made() -> bool:
    """Whether it is not all there, and another process can make it: not where the folder is only read, and holds whatever it holds."""
    place = code_folder()
    while not place.exists() and place != place.parent:
        place = place.parent
    return not is_all_there() and os.access(place, os.W_OK)


def note_all_there() -> None:
    """Say so, after it was imported; where the folder takes nothing, nobody will know."""
    with suppress(OSError):
        _note().touch()


def _note() -> Path:
    try:
        compiler = version("numba")
    except PackageNotFoundError:
        compiler = "none"
    made_for = f"{sys.implementation.cache_tag} {compiler} {_processor()}"
    return code_folder() / f"whole-{hashlib.sha256(made_for.encode()).hexdigest()[:16]}"


def _processor() -> str:
    """What tells processors apart whose code differs: name and features, as numba asks LLVM for them."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told = {
            line
            for line in lines
            if line.startswith(("model name", "flags", "CPU implementer", "CPU part", "Features"))
        }
        return "\n".join(sorted(told))
    return f"{platform.machine()} {platform.processor()}"
