"""Formats our commands as a person on this machine types them, however the program was installed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import platformdirs

from actors.settings import Settings

__all__ = ["command_here", "line_here"]


def command_here(*words: str) -> str:
    """Return a command line that works on this machine in any folder.

    The scripts of a checkout pass their own path in LEANVIBE_COMMAND.
    """
    started = Path(os.environ.get("LEANVIBE_COMMAND") or sys.argv[0])
    found = shutil.which("leanvibe")
    if started.suffix == ".py":
        name = f"{shlex.quote(sys.executable)} -m actors.command_line.main"
    elif found is not None and os.path.realpath(found) == os.path.realpath(started):
        name = "leanvibe"
    else:
        name = shlex.quote(str(started.absolute()))
    return f"{name} {shlex.join(words)}"


def line_here(settings: Settings, *words: str) -> str:
    """Return a command line that reaches the server of these settings."""
    line = command_here(*words)
    if settings.data_dir.absolute() == platformdirs.user_data_path("leanvibe"):
        return line
    return f"{line} --data-dir {shlex.quote(str(settings.data_dir.absolute()))}"
