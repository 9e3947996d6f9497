"""The worker's step loop: the one thread that owns the model.

Admissions and cancellations take effect between steps. This thread writes outgoing frames; the pipe thread reads
incoming ones and ends the process when the server is gone.
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
"""Limit on frames that the pipe thread reads ahead of the step loop; the server admits far fewer rows."""
BURST_TICK_SECONDS = 0.004
"""Requests of a burst arrive closer together than this."""
BURST_SECONDS = 0.040
"""Longest wait of a burst's first request for the others; shorter than the time to its first token."""
PREPARING_TICK_SECONDS = 0.25
"""Interval of `Preparing` frames while rows are prepared and there is nothing else to do; a step is due within a second."""
IDLE_SECONDS = 1.0
"""Interval at which an idle worker reports that it is alive and how much memory it holds."""


class Pipe:
    """The worker's end of the socketpair: `send` for the step loop, and a thread that reads incoming frames."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.commands: queue.Queue[ToWorker | Prepared] = queue.Queue(COMMANDS_WAITING)
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def send(self, frame: FromWorker) -> None:
        """Writes one frame; blocks while the server reads slowly. Call it from the step loop's thread only."""
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
                    os._exit(0)  # the server is gone: leave at once, so that no orphan holds the memory
                for frame in reader.feed(data):
                    self.commands.put(frame)
            except (OSError, FrameFault):
                os._exit(1)


def serve(pipe: Pipe, stepper: Stepper, faults: FaultSchedule) -> None:
    """Runs steps until the process ends."""
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
    """Handles all queued commands; blocks for the next one while there is no work.

    A worker that was idle keeps waiting while commands keep arriving, so that the prompts of a burst are read together
    instead of the first one alone.
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
            _fail(pipe, overdue, RowFailure("its grammar was not prepared in time"))
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
        # Rows are owed a step; without this report the silence would be taken for a hang.
        pipe.send(Preparing())
        return
    if preparation.take_used():
        # A grammar takes tens of megabytes in the arena of the thread that built it.
        give_back_memory()
    pipe.send(Idle(stepper.memory()))


def _receive(pipe: Pipe, stepper: Stepper, faults: FaultSchedule, preparation: Preparation, frame: Admit) -> None:
    """Admits a row. An exception during admission fails that row only, not its neighbours."""
    try:
        row = Row.admitted(frame)
    except Exception as error:  # noqa: BLE001  isolation boundary between rows
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
        return  # it was cancelled meanwhile
    if prepared.error is not None:
        _fail(pipe, prepared.row.row, RowFailure.of(prepared.error))
    else:
        _admit(pipe, stepper, faults, prepared.row, prepared.needed)


def _admit(pipe: Pipe, stepper: Stepper, faults: FaultSchedule, row: Row, needed: Any) -> None:
    try:
        stepper.admit(row, needed)
        faults.admitted(row)
    except Exception as error:  # noqa: BLE001  isolation boundary between rows
        _fail(pipe, row.row, RowFailure.of(error))


def _fail(pipe: Pipe, row: int, failure: RowFailure) -> None:
    pipe.send(Step(0, 0.0, StepOutput(failed=[(row, failure)]), {}))
