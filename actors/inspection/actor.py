"""The inspection actor: serves a Unix socket of mode 0600, even while every other actor is busy."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from attrs import frozen

from actors.inspection.commands import answers
from actors.inspection.messages import DescribeTree, NoteWorker
from actors.inspection.server_file import SERVER_FILE, ServerFile, forget_elsewhere, read_server_file
from runtime import Actor, ActorSystem, reject
from runtime.inspection import tree

__all__ = ["Inspector"]

_log = structlog.get_logger("inspection")

REQUEST_SECONDS = 5.0
WRITE_SECONDS = 5.0
REQUEST_BYTES = 64 * 1024
LOOK_SECONDS = 2.0
"""Interval at which it checks its files and puts back missing ones."""
ACCEPT_PAUSE_SECONDS = 0.5
INSPECTORS = 16
"""Concurrent connections; further ones wait in the socket's backlog."""


@frozen
class CheckFiles:
    """Timer: check that the socket and `server.json` are in place."""


class Inspector(Actor[NoteWorker | DescribeTree | CheckFiles]):
    """Owns the socket and `server.json`. If they cannot be written, it retries and reports the problem meanwhile."""

    mailbox = reject(64)

    def __init__(self, system: ActorSystem, data_folder: Path, about: ServerFile) -> None:
        self._system = system
        self._data_folder = data_folder
        self._about = about
        self._listening: trio.CancelScope | None = None
        self._socket_file: tuple[int, int] | None = None
        self._is_written = False
        self._problems: dict[str, str] = {}

    async def started(self) -> None:
        if self.context.incarnation > 1:
            # The worker of now was told to the incarnation before this one.
            before = read_server_file(self._data_folder)
            if before is not None and before.pid == self._about.pid:
                self._about = attrs.evolve(self._about, worker_pid=before.worker_pid)
        await self._look()
        self.context.every(LOOK_SECONDS, CheckFiles())

    async def handle(self, message: NoteWorker | DescribeTree | CheckFiles) -> dict[str, Any] | None:
        """Keep the worker's process id in `server.json` current, and describe the tree to other services."""
        match message:
            case NoteWorker(worker_pid):
                self._about = attrs.evolve(self._about, worker_pid=worker_pid)
                self._write_file()
            case DescribeTree():
                return attrs.asdict(tree(self._system))
            case CheckFiles():
                await self._look()
        return None

    async def stopping(self) -> None:
        """Remove the files, so that no client finds a stopped server."""
        forget_elsewhere(self._data_folder)
        for path in (self._data_folder / SERVER_FILE, Path(self._about.inspection_socket)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("a file is left behind", file=path.name, error=error.strerror)

    def snapshot(self) -> dict[str, object]:
        """Current problems."""
        return {"problems": dict(self._problems)}

    # --- what others look for ---------------------------------------------------------------------

    async def _look(self) -> None:
        """Restore missing files: a moved folder may return, a full disk may have space again."""
        if _file_id(Path(self._about.inspection_socket)) != self._socket_file or self._listening is None:
            await self._listen()
        if not self._is_written or _file_id(self._data_folder / SERVER_FILE) is None:
            self._write_file()

    async def _listen(self) -> None:
        if self._listening is not None:
            self._listening.cancel(reason="its file has gone")
            self._listening = None
        path = Path(self._about.inspection_socket)
        listener: trio.socket.SocketType | None = None
        try:
            path.unlink(missing_ok=True)  # noqa: ASYNC240  one local file, microseconds
            listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # The mask makes the file private from its first moment; a chmod afterwards would leave a gap.
            mask = os.umask(0o177)
            try:
                await listener.bind(str(path))
            finally:
                os.umask(mask)
            listener.listen(INSPECTORS)
            self._socket_file = _file_id(path)
        except OSError as error:
            if listener is not None:
                listener.close()
            self._note("inspection socket", error)
            return
        self._listening = self.context.spawn(self._accept, listener)
        self._note("inspection socket", None)

    def _write_file(self) -> None:
        self._is_written = False
        try:
            self._about.write(self._data_folder)
        except OSError as error:
            # Commands of this user look there too.
            self._about.write_elsewhere(self._data_folder)
            self._note(SERVER_FILE, error)
        else:
            self._is_written = True
            forget_elsewhere(self._data_folder)
            self._note(SERVER_FILE, None)

    def _note(self, what: str, error: OSError | None) -> None:
        """Report a problem in readiness, and log when it begins and ends."""
        problem = None if error is None else error.strerror or type(error).__name__
        if problem == self._problems.get(what):
            return
        if problem is None:
            del self._problems[what]
            _log.info("in place again", what=what)
        else:
            self._problems[what] = problem
            _log.warning("not in place", what=what, error=problem)
        said = "; ".join(f"{one} is not there: {why}" for one, why in self._problems.items())
        self.context.note_problem(said or None)

    # --- whoever inspects -------------------------------------------------------------------------

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        limit = trio.CapacityLimiter(INSPECTORS)
        with listener:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        connection, _ = await listener.accept()
                    except OSError as error:
                        if error.errno in (errno.EBADF, errno.EINVAL):
                            raise
                        # Without a descriptor the next attempt would fail at once.
                        self._note("inspection connection", error)
                        await trio.sleep(ACCEPT_PAUSE_SECONDS)
                        continue
                    self._note("inspection connection", None)
                    nursery.start_soon(self._serve, trio.SocketStream(connection), limit)

    async def _serve(self, stream: trio.SocketStream, limit: trio.CapacityLimiter) -> None:
        """Serve one request per connection. A misbehaving inspector affects no other."""
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


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at a path, or None if it cannot be seen."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _wait_for_end(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """Cancel when the inspector disconnects, which a trace of an idle actor would not notice, since it sends nothing."""
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
