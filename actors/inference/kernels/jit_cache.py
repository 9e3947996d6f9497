"""Cache of compiled code between starts, and its use for a model. Importing this module does not import the compiler."""

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
# Numba keys its cache by the file of a function alone, not by the functions that it calls.
_sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
_UNUSED_SECONDS = 30 * 86_400.0


def set_cache_dir(cache_folder: Path) -> None:
    """Sets the folder for compiled code, which takes some ten seconds to produce once. Call it before the first import of that code.

    A folder already named by numba's own variable wins. Its files are executed, so a folder created here belongs to its owner alone.
    """
    if os.environ.get(VARIABLE):
        return
    folder = cache_folder / "machine-code"
    with suppress(OSError):  # the compiler then finds no folder either, and says so
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(folder)


def import_compiled() -> str | None:
    """Imports compiled code, compiling it if this processor has none yet. Returns the reason it is unavailable, or None."""
    try:
        compiling = importlib.import_module("actors.inference.kernels.jit")
        importlib.import_module("actors.inference.kernels.forward")
    except Exception as error:  # noqa: BLE001  boundary: the compiler may fail in any way
        return f"{type(error).__name__}: {error}"
    forget_unused(compiling.CODE_FOLDER)
    if not is_all_there():
        note_all_there()
    return None


@contextmanager
def compiled_beside() -> Iterator[None]:
    """Compiles in a separate process while the block runs; leaving the block ends it. Finished parts stay in the cache."""
    # `layers` needs no MLX, which takes seconds to import; numba's own variable names the folder.
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
    """Marks a folder of compiled code as used, and removes its siblings that were not used for a month.

    Each change of the sources creates a folder named by their digest. Folders with other kinds of names are left alone:
    if numba's own variable is set, other programs store theirs there too.
    """
    with suppress(OSError):  # owned by another user, or gone meanwhile
        os.utime(folder)
        for other in folder.parent.iterdir():
            is_ours = re.fullmatch("[0-9a-f]{16}", other.name) is not None
            if is_ours and other != folder and time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def use_compiled(model: Any) -> tuple[ThreadPool | None, str | None]:
    """Makes compiled code compute the layers and the head of a loaded model on the CPU.

    Returns the thread pool, or None and, for a Phi-3, the reason. A compiler that does not work costs only speed.
    """
    if not hasattr(model, "project"):
        return None, None
    reason = import_compiled()
    if reason is not None:
        return None, reason
    from actors.inference.kernels.forward import CompiledForward, can_compile

    if not can_compile(model):
        return None, "the format of its weights is not supported"
    thread_pool = ThreadPool(_processors())
    model.model.compiled = CompiledForward(model, thread_pool)
    return thread_pool, None


def _processors() -> int:
    """Number of processors available to this process, or fewer if OMP_NUM_THREADS says so."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(usable, int(wanted))) if wanted.isdecimal() else usable


def code_folder(parent: str | None = None) -> Path:
    """Folder for code of exactly these sources, in ``parent``, or as numba's own variable says, or in the usual place."""
    named = parent or os.environ.get(VARIABLE) or platformdirs.user_cache_path("leanvibe") / "machine-code"
    return Path(named) / hashlib.sha256(_sources).hexdigest()[:16]


def is_all_there() -> bool:
    """True if all of it was compiled, by this compiler and for this processor. Files deleted since are recompiled when needed."""
    return _note().exists()


def is_to_be_made() -> bool:
    """True if code is missing and another process can compile it. False if the folder is read-only, whatever it contains."""
    place = code_folder()
    while not place.exists() and place != place.parent:
        place = place.parent
    return not is_all_there() and os.access(place, os.W_OK)


def note_all_there() -> None:
    """Records, after everything was imported, that the cache is complete. Has no effect in a read-only folder."""
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
    """Identifies processors with different code: name and features, as numba gets them from LLVM."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told = {
            line
            for line in lines
            if line.startswith(("model name", "flags", "CPU implementer", "CPU part", "Features"))
        }
        return "\n".join(sorted(told))
    return f"{platform.machine()} {platform.processor()}"
