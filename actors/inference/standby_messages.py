"""What engines and the spare actor tell each other, inside the room."""

from __future__ import annotations

from attrs import frozen

from actors.inference.worker_process import InferenceWorker
from runtime import Request

__all__ = ["PrepareStandby", "SpareMessage", "StandbyTaken", "TakeStandby"]


@frozen
class PrepareStandby:
    """From now on keep a process ready."""


@frozen
class TakeStandby(Request[InferenceWorker | None]):
    """The process that stands by, if there is one; it belongs to the asker from then on."""


@frozen
class StandbyTaken:
    """The process has come to its new owner."""

    worker_pid: int


SpareMessage = PrepareStandby | TakeStandby | StandbyTaken
