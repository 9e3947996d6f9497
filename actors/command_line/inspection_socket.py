"""Asking the running server over its inspection socket, which its own user alone can open."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from actors.command_line.options import fail
from actors.inspection.server_file import ServerFile

__all__ = ["ask_socket", "quiet_answer", "socket_lines"]

ANSWER_SECONDS = 10.0


def ask_socket(server: ServerFile, request: dict[str, Any]) -> dict[str, Any]:
    """The one line that answers; an `error` in it ends the command."""
    for line in socket_lines(server, request, seconds=ANSWER_SECONDS):
        return line
    fail("the server closed the inspection socket without an answer")


def socket_lines(server: ServerFile, request: dict[str, Any], *, seconds: float | None) -> Iterator[dict[str, Any]]:
    """Every line of the answer, each within ``seconds`` of the one before; an `error` ends the command."""
    try:
        for line in _exchange(server, request, seconds):
            if "error" in line:
                fail(str(line["error"]))
            yield line
    except OSError as error:
        fail(f"the server (process {server.pid}) does not answer on its inspection socket: {error}")


def quiet_answer(server: ServerFile, request: dict[str, Any], *, seconds: float) -> dict[str, Any] | None:
    """Return the answer line, or None if it does not arrive in time."""
    try:
        return next(_exchange(server, request, seconds), None)
    except OSError:
        return None


def _exchange(server: ServerFile, request: dict[str, Any], seconds: float | None) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(server.inspection_socket)
        connection.sendall(json.dumps(request).encode() + b"\n")
        for text in connection.makefile("rb"):
            line: dict[str, Any] = json.loads(text)
            yield line
