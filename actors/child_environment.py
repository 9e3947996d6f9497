"""Environment of child processes that run other people's files: what they need, and no secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["child_environment"]

_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TEMP",
        "TERM",
        "TMP",
        "TMPDIR",
        "TOKENIZERS_PARALLELISM",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)
_BEGINNINGS = (
    # Languages and folders, the interpreter, and the loader of libraries.
    "LC_",
    "XDG_",
    "PYTHON",
    "LD_",
    "DYLD_",
    "MALLOC_",
    # Libraries that compute, and their threads.
    "BLIS_",
    "CUDA_",
    "GOMP_",
    "KMP_",
    "METAL_",
    "MKL_",
    "MLX_",
    "MTL_",
    "NUMBA_",
    "NVIDIA_",
    "OMP_",
    "OPENBLAS_",
    "HF_",
    "TRANSFORMERS_",
    # What tests measure and turn.
    "COV_",
    "COVERAGE_",
    "FAKETIME",
)
_SECRET_WORDS = frozenset(
    {"AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "PASSWD", "PASSWORD", "SECRET", "TOKEN", "TOKENS"}
)
_USER_IN_ADDRESS = re.compile(r"://[^/@\s]*@")


def child_environment(ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the allow-listed variables, except those named like a secret or holding a URL with credentials."""
    return {
        name: value
        for name, value in (os.environ if ours is None else ours).items()
        if (name in _NAMES or name.startswith(_BEGINNINGS))
        and not _SECRET_WORDS & set(name.upper().split("_"))
        and not _USER_IN_ADDRESS.search(value)
    }
