"""Makes compiled code and keeps it: ``python -m actors.inference.kernels --cache-dir DIR --pipe FD``.

Started by the kernel compiler actor only, beside a worker that computes without. What it has made stays when it is ended.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import os
import socket
import sys
import threading
from pathlib import Path

from actors.inference.kernels.jit_cache import code_folder, is_all_there, note_all_there, set_cache_dir

NICENESS = 15
"""Answers come first."""
_LOCK_NAME = "compiling.lock"


def main() -> None:
    """Until all is there, or the server goes."""
    parser = argparse.ArgumentParser(prog="leanvibe-kernels")
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--pipe", type=int, required=True)
    options = parser.parse_args()
    os.nice(NICENESS)
    server = socket.socket(fileno=options.pipe)
    threading.Thread(target=_end_with, args=(server,), name="pipe", daemon=True).start()
    set_cache_dir(options.cache_dir)
    folder = code_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("wb") as lock:
        # Another server's process may be at it; then all is there when it is our turn.
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Layers need no MLX, which takes seconds to import.
        importlib.import_module("actors.inference.kernels.layers")
        note_all_there()
        if not is_all_there():
            sys.exit("what was compiled cannot be kept")


def _end_with(server: socket.socket) -> None:
    server.recv(1)
    os._exit(1)


if __name__ == "__main__":
    main()
