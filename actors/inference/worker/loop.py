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

from actors.inference.frames import FrameFault, TypedFrameReader
from actors.inference.worker.fault_injection import FaultSchedule
from actors.inference.worker.preparation import Preparation, Prepared
from actors.inference.worker.stepper import Row, Stepper
from actors.inference.worker_frames import (
    Admit,
    Cancel,
    Clear,
    Cleared,
    FromWorker,
    Idle,
    Preparing,
    RowFailure,
    Step,
    StepOutput,
    ToWorker,
    pack_frame,
    read_to_worker,
)
from actors.process_memory import give_back_memory

__all__ = ["Pipe", "serve"]

COMMANDS_WAITING = 65_536
"""Frames the pipe thread may be ahead of the step loop; the server admits far fewer rows."""
BURST_TICK_SECONDS = 0.004
"""Requests of a burst follow each other faster than this."""
BURST_SECONDS = 0.040
"""The first of a burst waits no longer than this for the others: less than its first token takes."""
PREPARING_TICK_SECONDS = 0.25
"""While rows are prepared and nothing else is to do, the worker says so this often; a step is due within a second."""
IDLE_SECONDS = 1.0
"""An idle worker says that it lives, and how much memory it holds, this often."""


class Pipe:
    """This end of the socketpair: `send` for the step loop, a reader thread for what comes in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.commands: queue.Queue[ToWorker | Prepared] = queue.Queue(COMMANDS_WAITING)
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def send(self, frame: FromWorker) -> None:
        """Write one frame; waits while the server reads slowly. The step loop's thread only."""
        try:
            self._connection.sendall(pack_frame(frame))
        except OSError:
            os._exit(0)  # the server is gone

    def _read(self) -> None:
        reader = TypedFrameReader(read_to_worker)
        while True:
            try:
                data = self._connection.recv(65536)
                if not data:
                    os._exit(0)  # the server is gone: leave at once, so that no orphan keeps the memory
                for frame in reader.feed(data):
                    self.commands.put(frame)
            except (OSError, FrameFault):
                os._exit(1)


def serve(pipe: Pipe, stepper: Stepper, faults: FaultSchedule) -> None:
    """Step until the process ends."""
    steps = 0
    preparation = Preparation(stepper.prepare, pipe.commands.put)
    while True:
        _take_commands(pipe, stepper, faults, preparation)
        if not stepper.has_work():
            continue
        steps += 1
        started = time.perf_counter()
        faults.strike(steps)
        result = stepper.step()
        for row in [one.row for one in result.emitted if one.finish is not None] + [row for row, _ in result.failed]:
            faults.forget(row)
        seconds = time.perf_counter() - started
        pipe.send(Step(steps, seconds, result, stepper.memory()))


def _take_commands(pipe: Pipe, stepper: Stepper, faults: FaultSchedule, preparation: Preparation) -> None:
    """Everything that waits; while there is no work, wait for the next.

    A worker that was idle waits for more for as long as more keeps coming, so that a burst is read side by side
    instead of its first prompt alone.
    """
    was_idle = not stepper.has_work()
    burst_ends_at = float("inf")
    while True:
        if not stepper.has_work():
            wait_seconds = PREPARING_TICK_SECONDS if len(preparation) else IDLE_SECONDS
        else:
            burst_ends_at = min(burst_ends_at, time.monotonic() + BURST_SECONDS)
            wait_seconds = BURST_TICK_SECONDS if was_idle and time.monotonic() < burst_ends_at else 0.0
        for overdue in preparation.take_overdue():
            _fail(pipe, overdue, RowFailure("what it asks for was not prepared in time"))
        try:
            command = pipe.commands.get(block=wait_seconds > 0, timeout=wait_seconds)
        except queue.Empty:
            if stepper.has_work():
                return
            _tell_that_it_lives(pipe, stepper, preparation)
            continue
        match command:
            case Admit():
                _receive(pipe, stepper, faults, preparation, command)
            case Prepared():
                _take_prepared(pipe, stepper, faults, preparation, command)
            case Cancel(row):
                faults.forget(row)
                preparation.cancel(row)
                stepper.cancel(row)
            case Clear():
                preparation.clear()
                stepper.clear()
                faults.clear()
                pipe.send(Cleared())


def _tell_that_it_lives(pipe: Pipe, stepper: Stepper, preparation: Preparation) -> None:
    if len(preparation):
        # Rows are owed a step, and it is no hang that none comes yet.
        pipe.send(Preparing())
        return
    if preparation.take_used():
        # A grammar takes tens of megabytes, in an arena of the thread that made it.
        give_back_memory()
    pipe.send(Idle(stepper.memory()))


def _receive(pipe: Pipe, stepper: Stepper, faults: FaultSchedule, preparation: Preparation, frame: Admit) -> None:
    """A row whose admission raises is that row's failure, not its neighbours'."""
    try:
        row = Row.admitted(frame)
    except Exception as error:  # noqa: BLE001  isolation border between rows
        _fail(pipe, frame.row, RowFailure.of(error))
        return
    if row.must_be_prepared:
        preparation.begin(row)
    else:
        _admit(pipe, stepper, faults, row, None)


def _take_prepared(
    pipe: Pipe, stepper: Stepper, faults: FaultSchedule, preparation: Preparation, prepared: Prepared
) -> None:
    if not preparation.take(prepared):
        return  # it was taken back meanwhile
    if prepared.error is not None:
        _fail(pipe, prepared.row.row, RowFailure.of(prepared.error))
    else:
        _admit(pipe, stepper, faults, prepared.row, prepared.needed)


def _admit(pipe: Pipe, stepper: Stepper, faults: FaultSchedule, row: Row, needed: Any) -> None:
    try:
        stepper.admit(row, needed)
        faults.admitted(row)
    except Exception as error:  # noqa: BLE001  isolation border between rows
        _fail(pipe, row.row, RowFailure.of(error))


def _fail(pipe: Pipe, row: int, failure: RowFailure) -> None:
    pipe.send(Step(0, 0.0, StepOutput(failed=[(row, failure)]), {}))
