"""Plays an input over a connection of its own, and says what came of it."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable

import trio
from attrs import define, field

from tests.fuzzing.inputs import CUT, END, Input

__all__ = ["MOST_AT_ONCE", "Answered", "http_statuses", "play"]

QUIET_SECONDS = 0.25
"""What is no sound message may be left without an answer: so long nothing came, and we go."""
MOST_AT_ONCE = 65_536
MOST_BYTES = 4 * 1024 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r", re.IGNORECASE)


@define
class Answered:
    """What came back."""

    data: bytes = b""
    is_ended: bool = False
    """The server ended the connection."""
    is_late: bool = False
    """What had to be answered was not, before the deadline."""
    could_not_connect: str | None = None
    _parts: list[bytes] = field(factory=list)


async def play(
    one: Input, host: str, port: int, *, is_whole: Callable[[bytes], bool], replace: dict[bytes, bytes]
) -> Answered:
    """Send the steps and read meanwhile; ``is_whole`` says when an awaited answer is there. Cancelled, the connection is cut."""
    answered = Answered()
    with trio.socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if sys.platform == "linux":
                # Nonsense is charged to its address: each input has one of its own, else all would wait for one another.
                number = one.number % 60_000 + 300
                await connection.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
            with trio.fail_after(one.seconds):
                await connection.connect((host, port))
        except (OSError, trio.TooSlowError) as error:
            answered.could_not_connect = repr(error)
            return answered
        heard = trio.Event()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                size = 0
                while True:
                    try:
                        data = await connection.recv(MOST_AT_ONCE)
                    except OSError:
                        data = b""
                    if not data:
                        answered.is_ended = True
                        nursery.cancel_scope.cancel()
                        return
                    heard.set()
                    size += len(data)
                    if size <= MOST_BYTES:
                        answered.data += data
                    if one.must_answer and is_whole(answered.data):
                        nursery.cancel_scope.cancel()
                        return

            if one.reads:
                nursery.start_soon(read)
            with trio.move_on_after(one.seconds) as sending:
                await _send(one, connection, replace)
            if sending.cancelled_caught and one.must_answer:
                answered.is_late = True
            elif one.must_answer:
                await trio.sleep(one.seconds)
                answered.is_late = True
            else:
                while one.reads and CUT not in one.steps:
                    heard = trio.Event()
                    with trio.move_on_after(QUIET_SECONDS) as quiet:
                        await heard.wait()
                    if quiet.cancelled_caught:
                        break
            nursery.cancel_scope.cancel()
    return answered


async def _send(one: Input, connection: trio.socket.SocketType, replace: dict[bytes, bytes]) -> None:
    for step in one.steps:
        try:
            if isinstance(step, bytes):
                data = step
                for mark, value in replace.items():
                    data = data.replace(mark, value)
                while data:
                    data = data[await connection.send(data) :]
            elif isinstance(step, float | int):
                await trio.sleep(step)
            elif step == END:
                connection.shutdown(socket.SHUT_WR)
            elif step == CUT:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return
        except OSError:
            # It was refused before all of it was sent; what was said of it is being read.
            return


def http_statuses(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer in what came, one behind the other."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while True:
        match = _STATUS.match(data, at)
        end = data.find(b"\r\n\r\n", at)
        if match is None or end < 0:
            return found
        status = int(match[1])
        length = _LENGTH.search(data, at, end + 2)
        if length is not None:
            body = data[end + 4 : end + 4 + int(length[1])]
        elif status < 200 or status in (204, 304):
            body = b""
        else:
            # In chunks or to the end: what follows belongs to it.
            body = data[end + 4 :]
        if status >= 200:
            found.append((status, body))
        at = end + 4 + len(body)
