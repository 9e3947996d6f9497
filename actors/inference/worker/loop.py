"""The worker's step loop: the one thread that owns the model.

Between any two steps it takes admissions and cancellations. Frames out are written here; frames in are read
by the pipe thread, which ends the process when the server is gone.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from typing import Any

from actors.inference.frames import FrameFault, FrameReader, pack
from actors.inference.worker.faults import FaultPlan
from actors.inference.worker.stepper import Row, RowFailure, Stepper

__all__ = ["Pipe", "serve"]

COMMANDS_WAITING = 65_536
"""Frames the pipe thread may be ahead of the step loop; the server admits far fewer rows."""
BURST_TICK_SECONDS = 0.004
"""Requests of a burst follow each other faster than this."""
BURST_SECONDS = 0.040
"""The first of a burst waits no longer than this for the others: less than its first token takes."""
IDLE_SECONDS = 1.0
"""An idle worker says that it lives, and how much memory it holds, this often."""


class Pipe:
    """This end of the socketpair: `send` for the step loop, a reader thread for what comes in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.commands: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(COMMANDS_WAITING)
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Write one frame; waits while the server reads slowly. The step loop's thread only."""
        try:
            self._connection.sendall(pack(name, data))
        except OSError:
            os._exit(0)  # the server is gone

    def _read(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = self._connection.recv(65536)
                if not data:
                    os._exit(0)  # the server is gone: leave at once, so that no orphan keeps the memory
                for frame in reader.feed(data):
                    self.commands.put(frame)
            except (OSError, FrameFault):
                os._exit(1)


def serve(pipe: Pipe, stepper: Stepper, faults: FaultPlan) -> None:
    """Step until the process ends."""
    steps = 0
    while True:
        _take_commands(pipe, stepper, faults)
        if not stepper.has_work():
            continue
        steps += 1
        started = time.perf_counter()
        faults.strike(steps)
        result = stepper.step()
        for row in [one.row for one in result.emitted if one.finish is not None] + [row for row, _ in result.failed]:
            faults.forget(row)
        pipe.send(
            "step",
            {
                "step": steps,
                "seconds": time.perf_counter() - started,
                "emitted": [
                    (one.row, one.token_id, one.log_probability, one.finish, one.alternatives) for one in result.emitted
                ],
                "cached": result.cached,
                "failed": [(row, failure.reason, failure.code) for row, failure in result.failed],
                "rows": result.rows,
                "prefilled_tokens": result.prefilled_tokens,
                "drafted_tokens": result.drafted_tokens,
                "accepted_tokens": result.accepted_tokens,
                "memory": stepper.memory(),
            },
        )


def _take_commands(pipe: Pipe, stepper: Stepper, faults: FaultPlan) -> None:
    """Everything that waits; while there is no work, wait for the next.

    A worker that was idle waits for more for as long as more keeps coming, so that a burst is read side by side
    instead of its first prompt alone.
    """
    was_idle = not stepper.has_work()
    burst_ends_at = float("inf")
    while True:
        if not stepper.has_work():
            wait_seconds = IDLE_SECONDS
        else:
            burst_ends_at = min(burst_ends_at, time.monotonic() + BURST_SECONDS)
            wait_seconds = BURST_TICK_SECONDS if was_idle and time.monotonic() < burst_ends_at else 0.0
        try:
            name, data = pipe.commands.get(block=wait_seconds > 0, timeout=wait_seconds)
        except queue.Empty:
            if stepper.has_work():
                return
            pipe.send("idle", {"memory": stepper.memory()})
            continue
        match name:
            case "admit":
                _admit(pipe, stepper, faults, data)
            case "cancel":
                faults.forget(data["row"])
                stepper.cancel(data["row"])
            case "clear":
                stepper.clear()
                faults.clear()
                pipe.send("cleared", {})


def _admit(pipe: Pipe, stepper: Stepper, faults: FaultPlan, data: dict[str, Any]) -> None:
    """A row whose admission raises is that row's failure, not its neighbours'."""
    try:
        row = Row.from_frame(data)
        stepper.admit(row)
        faults.admitted(row)
    except Exception as error:  # noqa: BLE001  isolation border between rows
        failure = RowFailure.of(error)
        pipe.send(
            "step",
            {
                "step": 0,
                "seconds": 0.0,
                "emitted": [],
                "cached": [],
                "failed": [(data["row"], failure.reason, failure.code)],
                "rows": [],
                "prefilled_tokens": 0,
                "drafted_tokens": 0,
                "accepted_tokens": 0,
                "memory": {},
            },
        )
