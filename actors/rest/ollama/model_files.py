"""Ollama's routes to download and remove models, for operators. They run `leanvibe model pull` and `remove` as
subprocesses.

The commands check names, hashes and use, and resume downloads; this module only translates.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec
import trio
from quart import Response, jsonify
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.inference.messages import ListModels, ModelState
from actors.rest.answers import empty_answer, streamed_answer
from actors.rest.ollama.requests import ModelRequest, model_name
from actors.rest.openai.answers import SIGN_OF_LIFE_SECONDS
from actors.rest.services import Services
from protocol.codec import encode
from protocol.errors import ErrorCode, InvalidField

__all__ = ["register_model_files"]

LIST_SECONDS = 10.0
REMOVE_SECONDS = 60.0
END_SECONDS = 2.0
LINE_BYTES = 4096
WORDS_BYTES = 2000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?")


class _Failed(Exception):
    """The command failed; the message is its own."""


def register_model_files(app: QuartTrio, services: Services, read: Callable[[], Any], lines: str) -> None:
    """Register `/api/pull` and `/api/delete`; ``read`` parses a request that names a model, ``lines`` is a stream's
    content type.
    """
    pulling: list[str] = []

    @app.post("/api/pull")
    async def pull() -> Any:
        wanted: ModelRequest = await read()
        name = _checked(wanted)
        if wanted.stream is not False:
            return streamed_answer(_told(_pull(services.pull_command, name, pulling)), lines)
        try:
            async with contextlib.aclosing(_pull(services.pull_command, name, pulling)) as told:
                async for _ in told:
                    pass
        except _Failed as error:
            raise CommandError(ErrorCode.UNAVAILABLE, str(error)) from None
        return jsonify({"status": "success"})

    @app.delete("/api/delete")
    async def delete() -> Response:
        name = _checked(await read())
        models: tuple[ModelState, ...] = await services.inference.ask(ListModels(), timeout=LIST_SECONDS)
        found = [one for one in models if name in (one.name, one.full_name) and one.state != "absent"]
        if any(one.is_in_use for one in found):
            raise CommandError(ErrorCode.CONFLICT, f"model {name!r} is in use", field="body.model")
        with trio.fail_after(REMOVE_SECONDS):
            done = await trio.run_process(
                [*services.remove_command, name], capture_stdout=True, capture_stderr=True, check=False
            )
        if done.returncode:
            code = ErrorCode.CONFLICT if found else ErrorCode.NOT_FOUND
            words = _words(done.stderr) if found else f"model {name!r} not found"
            raise CommandError(code, words, field="body.model")
        return empty_answer(200, {})


def _checked(wanted: ModelRequest) -> str:
    name = model_name(wanted.model)
    if not _NAME.fullmatch(name):
        raise InvalidField("body.model must be a short name or OWNER/NAME", field="body.model")
    return name


async def _told(progress: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    """Yield the progress as lines, then the outcome."""
    async with contextlib.aclosing(progress):
        try:
            async for one in progress:
                yield encode(one) + b"\n"
        except _Failed as error:
            yield encode({"error": str(error)}) + b"\n"
            return
    yield encode({"status": "success"}) + b"\n"


async def _pull(command: Sequence[str], name: str, pulling: list[str]) -> AsyncGenerator[dict[str, Any], None]:
    """Run the command and yield its progress. Raises `_Failed`. If closed, ends the command; what was downloaded
    stays.
    """
    if pulling:
        raise _Failed(f"{pulling[0]} is being pulled: only one model is pulled at a time")
    pulling.append(name)
    try:
        yield {"status": "pulling manifest"}
        with tempfile.TemporaryFile() as errors:
            process = await trio.lowlevel.open_process(
                [*command, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            try:
                async with contextlib.aclosing(_printed(process)) as told:
                    async for one in told:
                        yield {"status": f"pulling {name}", **one}
                await process.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await _end(process)
            if process.returncode:
                errors.seek(0)
                raise _Failed(_words(errors.read(WORDS_BYTES)))
    finally:
        pulling.remove(name)


async def _printed(process: trio.Process) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the progress that the command prints until its output ends, repeating the last one while nothing new
    comes.
    """
    assert process.stdout is not None
    kept, last = b"", {}
    while True:
        chunk: bytes | bytearray | None = None
        with trio.move_on_after(SIGN_OF_LIFE_SECONDS):
            chunk = await process.stdout.receive_some(LINE_BYTES)
        if chunk is not None:
            if not chunk:
                return
            *lines, kept = (kept + bytes(chunk)).split(b"\n")
            kept = kept[-LINE_BYTES:]
            known = [_progress(line) for line in lines]
            told = [one for one in known if one is not None]
            if not told:
                continue
            last = told[-1]
        yield last


def _progress(line: bytes) -> dict[str, Any] | None:
    try:
        told = msgspec.json.decode(line)
        return {"total": int(told["total"]), "completed": int(told["completed"])}
    except (ValueError, KeyError, TypeError):
        return None


async def _end(process: trio.Process) -> None:
    """End the process and its children, if it is still running."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with trio.move_on_after(END_SECONDS):
            await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()


def _words(said: bytes) -> str:
    """The command's error message in one line."""
    return " ".join(said.decode("utf-8", "replace").split())[:WORDS_BYTES] or "the command failed without a message"
