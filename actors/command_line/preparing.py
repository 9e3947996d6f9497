"""The first start: the embedded model is created in a separate process, and requests meanwhile are answered with the progress.

Both ports are already bound. Each request, WebSocket handshakes included, gets 503 with a problem of code `preparing` and the
fraction done; then the connection is closed, so that clients reconnect to the server that takes over the ports.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence

import trio
from attrs import define

from actors.accepting import accept_for_ever
from actors.rest.dialects import Dialect, dialect_of_head

__all__ = ["Ports", "Preparation", "PreparationEnded", "prepare_in_a_process", "refusal"]

HEAD_BYTES = 16 * 1024
REQUEST_SECONDS = 5.0
"""What a request may take to come, and its answer to go."""
AT_ONCE = 64
"""Connections; one more is closed unheard."""
RETRY_SECONDS = 2
END_SECONDS = 2.0
"""Time the process gets to end before it is killed."""
LINE_BYTES = 4096


@define
class Preparation:
    """Progress of the preparation."""

    stage: str = "starting"
    fraction: float = 0.0
    """Of the whole, 0 to 1."""

    def take(self, line: bytes) -> bool:
        """Parse a line printed by the process; returns False if it reports no progress."""
        try:
            told = json.loads(line)
            stage, fraction = str(told["stage"]), float(told["fraction"])
        except (ValueError, KeyError, TypeError):
            return False
        if not math.isfinite(fraction):
            return False
        self.stage, self.fraction = stage, min(1.0, max(self.fraction, fraction))
        return True


class PreparationEnded(Exception):
    """A signal came, or the process failed; ``status`` is what the command ends with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the preparation ended with status {status}")
        self.status = status


@define(frozen=True)
class Ports:
    """The listening sockets, which answer with the progress."""

    sockets: Sequence[socket.socket]
    """Bound and listening; they stay open."""
    tls: ssl.SSLContext | None = None


def refusal(preparation: Preparation, head: bytes = b"GET / HTTP/1.1") -> bytes:
    """The whole HTTP answer to whatever is asked, in the shape of the API that it is asked of."""
    percent = round(preparation.fraction * 100)
    problem = {
        "title": "preparing",
        "status": 503,
        "detail": f"the server prepares its model, {percent} % done; then it takes requests",
        "code": "preparing",
        "temporary": True,
        "stage": preparation.stage,
        "fraction": round(preparation.fraction, 3),
    }
    method, kind = head.partition(b" ")[0], "application/problem+json"
    if (dialect := _dialect(head)) is not None:
        problem, kind = dialect.error(problem)[0], "application/json"
    body = json.dumps(problem).encode()
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        f"Date: {email.utils.formatdate(usegmt=True)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        f"Retry-After: {RETRY_SECONDS}",
        f"X-Request-Id: {secrets.token_hex(12)}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else body)


def _dialect(head: bytes) -> Dialect | None:
    first, *rest = head.splitlines() or [b""]
    _, _, target = first.partition(b" ")
    path = target.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    return dialect_of_head(path, {line.partition(b":")[0].strip().lower(): b"" for line in rest})


def prepare_in_a_process(
    command: list[str],
    ports: Ports | None,
    report: Callable[[str, float], None],
    *,
    preparation: Preparation | None = None,
) -> None:
    """Run ``command`` to its end and hand on what it tells of its progress; blocks.

    It leads a process group of its own, which ends with it: SIGINT and SIGTERM here end the group at once. Should this
    process be killed outright, the other one notices by its standard input. Raises `PreparationEnded`.
    """
    status = trio.run(_prepare, command, ports, report, preparation or Preparation())
    if status:
        raise PreparationEnded(status)


async def _prepare(
    command: list[str], ports: Ports | None, report: Callable[[str, float], None], preparation: Preparation
) -> int:
    told: list[int] = []
    # Before the process is there: from then on a signal must not leave it behind.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    async for number in signals:
                        told.append(number)
                        nursery.cancel_scope.cancel(reason="a signal came")
                        return

                nursery.start_soon(watch)
                for bound in () if ports is None else ports.sockets:
                    nursery.start_soon(_answer_on, bound, None if ports is None else ports.tls, preparation)
                await _follow(process, preparation, report)
                await process.wait()
                nursery.cancel_scope.cancel(reason="it is done")
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)
    return 128 + told[0] if told else abs(process.returncode or 0)


async def _follow(process: trio.Process, preparation: Preparation, report: Callable[[str, float], None]) -> None:
    """Read what it prints to its end."""
    assert process.stdout is not None
    kept = b""
    async for chunk in process.stdout:
        *lines, kept = (kept + chunk).split(b"\n")
        kept = kept[-LINE_BYTES:]
        for line in lines:
            if preparation.take(line):
                report(preparation.stage, preparation.fraction)


async def _end(process: trio.Process) -> None:
    """End it with all that it started."""
    with trio.move_on_after(END_SECONDS):
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
        await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()


def _signal(process: trio.Process, number: signal.Signals) -> None:
    """To the group, which may outlive the process that leads it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _answer_on(bound: socket.socket, tls: ssl.SSLContext | None, preparation: Preparation) -> None:
    free = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def take(stream: trio.SocketStream) -> None:
            try:
                free.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                await trio.aclose_forcefully(stream)
                return
            nursery.start_soon(_refuse, stream, tls, preparation, free)

        await accept_for_ever(bound, take, lambda _: None)


async def _refuse(
    stream: trio.SocketStream, tls: ssl.SSLContext | None, preparation: Preparation, free: trio.CapacityLimiter
) -> None:
    """Read the head of one request, refuse it, and close."""
    wrapped: trio.abc.Stream = stream if tls is None else trio.SSLStream(stream, tls, server_side=True)
    try:
        with trio.move_on_after(REQUEST_SECONDS):
            head = b""
            while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < HEAD_BYTES:
                data = await wrapped.receive_some(HEAD_BYTES)
                if not data:
                    return
                head += data
            await wrapped.send_all(refusal(preparation, head))
            await stream.send_eof()
            # What of the request is still on its way would make the system take the answer back.
            while await stream.receive_some(HEAD_BYTES):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError):
        pass  # it has left, or speaks something else
    finally:
        free.release_on_behalf_of(stream)
        await trio.aclose_forcefully(stream)


def own_program(*arguments: str) -> list[str]:
    """This program with these arguments, as a process of its own."""
    return [sys.executable, "-m", "actors.command_line.main", *arguments]
