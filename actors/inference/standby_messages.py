"""Messages between engines and the standby actor, internal to the service."""

from __future__ import annotations

from attrs import frozen

from actors.inference.worker_process import InferenceWorker
from runtime import Request

__all__ = ["PrepareStandby", "SpareMessage", "StandbyTaken", "TakeStandby"]


@frozen
class PrepareStandby:
    """Keep a process ready from now on."""


@frozen
class TakeStandby(Request[InferenceWorker | None]):
    """Takes the process standing by, if there is one; the caller owns it from then on."""


@frozen
class StandbyTaken:
    """The process has reached its new owner."""

    worker_pid: int


SpareMessage = PrepareStandby | TakeStandby | StandbyTaken
