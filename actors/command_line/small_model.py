"""The embedded model says once what it is: people who expect a large one would take its mistakes for the program's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from actors.command_line.printing import print_line
from actors.inference.checkpoints.catalogue import EMBEDDED_MODEL_NAME
from actors.own_command import command_here

__all__ = ["MARK", "introduce_small_model"]

MARK = "small-model-introduced"
"""Lies in the data folder once it was said there."""
LARGER = "phi-3-mini"
WORDS = (
    "leanvibe: the model that answers is the small one that comes with the program (135 million parameters) and"
    " is often wrong. For a larger one: `{pull}`, then `{serve}`"
)


def introduce_small_model(model: str, data_folder: Path) -> None:
    """Say it on standard error, once per data folder, where a person reads both streams. Blocking."""
    if model not in ("embedded", EMBEDDED_MODEL_NAME) or not sys.stderr.isatty() or not sys.stdout.isatty():
        return
    try:
        descriptor = os.open(data_folder / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        # Said before; or nothing can be written there, and then it would be said each time.
        return
    os.close(descriptor)
    pull, serve = command_here("model", "pull", LARGER), command_here("serve", "--model", LARGER)
    print_line(WORDS.format(pull=pull, serve=serve), style="yellow", err=True)
