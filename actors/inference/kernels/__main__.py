"""Compiles the kernels and caches them: ``python -m actors.inference.kernels --cache-dir DIR --pipe FD``.

Started only by the kernel compiler actor, alongside a worker that runs without them. Whatever it has compiled stays when it is ended.
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
"""Answers have priority."""
_LOCK_NAME = "compiling.lock"


def main() -> None:
    """Runs until everything is compiled, or the server is gone."""
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
        # Another server's process may be compiling; in that case everything is cached once the lock is free.
        fcntl.flock(lock, fcntl.LOCK_EX)
        # `layers` needs no MLX, which takes seconds to import.
        importlib.import_module("actors.inference.kernels.layers")
        note_all_there()
        if not is_all_there():
            sys.exit("the compiled code cannot be cached")


def _end_with(server: socket.socket) -> None:
    server.recv(1)
    os._exit(1)


if __name__ == "__main__":
    main()
