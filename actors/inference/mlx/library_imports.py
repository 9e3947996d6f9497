"""mlx-lm, imported without what its modules do to the whole process besides."""

from __future__ import annotations

import importlib.util
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["import_without_its_own", "keeping_descriptor_limit"]


def import_without_its_own(package: str) -> None:
    """Let modules of a package be imported without what its `__init__` imports.

    That of mlx-lm brings transformers and its hub along: more than a second of processor time and 30 MiB, of which nothing
    is needed here. Its modules import what they need by themselves.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and package not in sys.modules:
        sys.modules[package] = importlib.util.module_from_spec(spec)


@contextmanager
def keeping_descriptor_limit() -> Iterator[None]:
    """Leave the limit of open files as it is while modules of mlx-lm are imported. Not for two threads at once.

    `mlx_lm.utils` sets it to 2,048 and the hard limit to 4,096 (mlx-lm 0.32): where the hard limit is lower, that ends the
    import with `ValueError`; where it is higher, nobody but root can raise it again.
    """
    set_limit = resource.setrlimit

    def set_other_limit(kind: int, limits: Any) -> None:
        if kind != resource.RLIMIT_NOFILE:
            set_limit(kind, limits)

    resource.setrlimit = set_other_limit
    try:
        yield
    finally:
        resource.setrlimit = set_limit
