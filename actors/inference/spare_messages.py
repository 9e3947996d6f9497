"""What engines and the spare actor tell each other, inside the room."""

from __future__ import annotations

from attrs import frozen

from actors.inference.worker_process import WorkerProcess
from runtime import Request

__all__ = ["SpareMessage", "SpareTaken", "StandBy", "TakeSpare"]


@frozen
class StandBy:
    """From now on keep a process ready."""


@frozen
class TakeSpare(Request[WorkerProcess | None]):
    """The process that stands by, if there is one; it belongs to the asker from then on."""


@frozen
class SpareTaken:
    """The process has come to its new owner."""

    worker_pid: int


SpareMessage = StandBy | TakeSpare | SpareTaken
