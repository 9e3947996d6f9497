"""Detects sleep of the machine, during which Trio's clock stops and the server's does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

import trio
from attrs import frozen

from protocol.client.connection import Connection
from protocol.client.errors import Disconnected

__all__ = ["NOTICED_SECONDS", "ClockMarks", "SleepWatch", "read_marks", "slept_seconds"]

NOTICED_SECONDS = 2.0
"""Shorter sleeps cannot be distinguished from reading the clocks one after the other, or from small adjustments."""

POLL_SECONDS = 1.0
"""Interval of checking the clocks."""
WAKE_SECONDS = 5.0
"""Time within which the server must be heard after a sleep; otherwise another connection is made."""


@frozen
class ClockMarks:
    """Lead of the clocks that run during sleep over the one that stops, in seconds."""

    boot: float
    """Lead of the clock since boot."""
    wall: float
    """Lead of the time of day, the only one that shows a paused virtual machine. Setting it looks like sleep."""


def read_marks() -> ClockMarks:
    """Reads the current marks."""
    awake = time.perf_counter()
    return ClockMarks(boot=_since_boot() - awake, wall=time.time() - awake)


def slept_seconds(earlier: ClockMarks, now: ClockMarks) -> float:
    """Seconds of sleep between two marks, which Trio's clock does not count; 0 if not noticeable."""
    slept = max(now.boot - earlier.boot, now.wall - earlier.wall)
    return slept if slept >= NOTICED_SECONDS else 0.0


def _since_boot() -> float:
    if sys.platform == "darwin":
        # On macOS this clock counts sleep, and `perf_counter` does not.
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SleepWatch:
    """Notices that the machine has slept, ends the pause between attempts, and checks that the connection still lives."""

    def __init__(self, connection: Callable[[], Connection | None], next_id: Callable[[], str]) -> None:
        """``connection`` returns the client's current connection, ``next_id`` a fresh command id."""
        self._connection = connection
        self._next_id = next_id
        self._has_woken = trio.Event()

    async def wait_woken(self) -> None:
        """Wait until the machine wakes from a sleep."""
        await self._has_woken.wait()

    async def run(self) -> None:
        """Poll the clocks until cancelled."""
        marks = read_marks()
        while True:
            await trio.sleep(POLL_SECONDS)
            before, marks = marks, read_marks()
            if slept_seconds(before, marks) == 0.0:
                continue
            self._has_woken.set()
            self._has_woken = trio.Event()
            if (connection := self._connection()) is not None:
                await self._check(connection)

    async def _check(self, connection: Connection) -> None:
        """Gives up a connection that stays silent: one that the network dropped looks sound until something is sent on it."""
        asked_at = trio.current_time()
        with trio.move_on_after(WAKE_SECONDS), suppress(Disconnected):
            await connection.send({"type": "ping", "id": self._next_id(), "data": None})
        await trio.sleep_until(asked_at + WAKE_SECONDS)
        if connection.heard_at < asked_at:
            await connection.give_up("nothing heard since this machine woke")
