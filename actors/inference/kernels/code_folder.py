"""Where compiled code is kept, and whether it is all there; asked without importing the compiler, which takes half a second."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

__all__ = ["VARIABLE", "code_folder", "is_all_there", "is_to_be_made", "note_all_there"]

VARIABLE = "NUMBA_CACHE_DIR"
# What is compiled is kept by numba for the file of a function alone, not for those that it calls.
_sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))


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
