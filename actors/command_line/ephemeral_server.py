"""The server that a command talks to: the running one, or one started for the command's own time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors.command_line.options import fail, find_server
from actors.command_line.printing import print_line
from actors.command_line.served_model import ServerWish
from actors.inspection.server_file import ServerFile, is_locked
from actors.settings import Settings

__all__ = ["server_for"]

START_SECONDS = 120.0
"""Of a server that is alive; one that ends is noticed at once. On a busy machine its imports alone take half a minute."""
PREPARE_SECONDS = 180.0
"""A first start downloads and prepares the embedded model."""
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05


@contextmanager
def server_for(
    settings: Settings, wish: ServerWish, *, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[ServerFile]:
    """Yield the server of the data folder. If none is running, one is started, and stopped at the end of the block.

    ``meanwhile`` is called while it starts. A running server must fit the options given, or the command ends.
    """
    running = find_server(settings) or _wait_for_starting(settings)
    if running is not None:
        wish.hold_against(running, settings)
        yield running
        return
    if settings.engine == "mlx":
        from actors.command_line.embedded_model import ensure_checkpoint

        ensure_checkpoint(settings)
    print_line("No server is running; starting one for this question …", style="yellow", err=True)
    environment = {
        **os.environ,
        "LEANVIBE_DATA_DIR": str(settings.data_dir),
        "LEANVIBE_CACHE_DIR": str(settings.cache_dir),
        # It would import everything once more, for a server that ends with its first answer.
        "LEANVIBE_SPARE_WORKER": "off",
    }
    command = [sys.executable, "-m", "actors.command_line.main", "serve", "--port", "0", "--ws-port", "0"]
    command += ["--engine", settings.engine, "--model", settings.model, "--log-level", "error", "--ephemeral"]
    # A session of its own, so that Ctrl-C ends the question first and the server in order after it.
    process = subprocess.Popen(  # noqa: S603  our own program, no shell
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        meanwhile()
        yield _wait_until_up(process, settings)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_starting(settings: Settings) -> ServerFile | None:
    """Wait for a server that holds the data folder but is still starting, perhaps preparing its model. None without one."""
    if not is_locked(settings.data_dir):
        return None
    print_line("A server is starting; waiting for it …", style="yellow", err=True)
    deadline = time.monotonic() + PREPARE_SECONDS
    while time.monotonic() < deadline:
        found = find_server(settings)
        if found is not None:
            return found
        if not is_locked(settings.data_dir):
            return None  # it gave up, so the folder is ours
        time.sleep(POLL_SECONDS)
    fail(f"the server on {settings.data_dir} is still not up after {PREPARE_SECONDS:g} seconds; see what it says")


def _wait_until_up(process: subprocess.Popen[bytes], settings: Settings) -> ServerFile:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = find_server(settings)
        if found is not None:
            return found
        if process.poll() is not None:
            assert process.stderr is not None
            words = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            fail(f"the server did not start: {words[-1] if words else 'no reason given'}")
        time.sleep(POLL_SECONDS)
    fail(f"the server was not up after {START_SECONDS:g} seconds")
