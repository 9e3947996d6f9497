"""The inspection actor: a Unix socket of mode 0600 that answers while every other actor is busy."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from actors.inspection.commands import answers
from actors.inspection.messages import NoteWorker
from actors.inspection.server_file import SERVER_FILE, ServerFile
from runtime import Actor, ActorSystem, reject

__all__ = ["Inspector"]

_log = structlog.get_logger("inspection")

REQUEST_SECONDS = 5.0
WRITE_SECONDS = 5.0
REQUEST_BYTES = 64 * 1024
INSPECTORS = 16
"""Connections at once; one more waits in the socket's backlog."""


class Inspector(Actor[NoteWorker]):
    """Owns the socket and `server.json`."""

    mailbox = reject(64)

    def __init__(self, system: ActorSystem, data_folder: Path, about: ServerFile) -> None:
        self._system = system
        self._data_folder = data_folder
        self._about = about

    async def started(self) -> None:
        path = Path(self._about.inspection_socket)
        path.unlink(missing_ok=True)  # noqa: ASYNC240  one local file, microseconds
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The mask makes the file private from its first moment; a chmod afterwards would leave a gap.
        mask = os.umask(0o177)
        try:
            await listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(INSPECTORS)
        self.context.spawn(self._accept, listener)
        self._about.write(self._data_folder)

    async def handle(self, message: NoteWorker) -> None:
        """Keep the worker's process id in `server.json` true."""
        self._about = attrs.evolve(self._about, worker_pid=message.worker_pid)
        self._about.write(self._data_folder)

    async def stopping(self) -> None:
        """Nobody shall find a server that is gone."""
        (self._data_folder / SERVER_FILE).unlink(missing_ok=True)
        Path(self._about.inspection_socket).unlink(missing_ok=True)  # noqa: ASYNC240  one local file, microseconds

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        limit = trio.CapacityLimiter(INSPECTORS)
        with listener:
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(connection), limit)

    async def _serve(self, stream: trio.SocketStream, limit: trio.CapacityLimiter) -> None:
        """One request, its answer, the end. A rude inspector hurts nobody."""
        try:
            async with limit, stream:
                with trio.fail_after(REQUEST_SECONDS):
                    try:
                        request = await _read_request(stream)
                    except (ValueError, RecursionError) as error:
                        await stream.send_all(json.dumps({"error": f"no request: {error}"}).encode() + b"\n")
                        return
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_wait_for_end, stream, nursery.cancel_scope)
                    await self._answer(stream, request)
                    nursery.cancel_scope.cancel(reason="answered")
        except Exception as error:  # noqa: BLE001  isolation border between inspectors
            _log.debug("inspector left", error=repr(error))

    async def _answer(self, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        async with contextlib.aclosing(answers(self._system, request)) as lines:
            async for line in lines:
                with trio.fail_after(WRITE_SECONDS):
                    await stream.send_all(json.dumps(line, default=str).encode() + b"\n")


async def _wait_for_end(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """Cancel when the inspector goes: a trace of an idle actor would not notice for as long as nothing is sent."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some(4096):
            pass
    scope.cancel(reason="the inspector left")


async def _read_request(stream: trio.SocketStream) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        chunk = await stream.receive_some(4096)
        if not chunk or len(data) > REQUEST_BYTES:
            raise ValueError("not a request")
        data += chunk
    request = json.loads(data)
    if not isinstance(request, dict):
        raise ValueError("a request is a JSON object")
    return request
