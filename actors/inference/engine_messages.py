"""Messages between the inference actor, its engines and the warm standby, internal to the service."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from actors.inference.sampling import Sampling
from actors.inference.tools import ToolCallConstraint, ToolCallFormat
from actors.inference.worker_frames import ModelReport, Step
from actors.inference.worker_process import InferenceWorker
from runtime import Request

__all__ = [
    "AdmitRow",
    "Attach",
    "CancelRow",
    "EngineAlive",
    "EngineIdle",
    "EngineLoading",
    "EngineMessage",
    "EngineNews",
    "EngineOutput",
    "EngineReady",
    "KillWorker",
    "PrepareStandby",
    "StandbyMessage",
    "StandbyTaken",
    "TakeStandby",
]


@frozen(kw_only=True)
class AdmitRow:
    """Admits a row to the worker's batch: one sequence to continue."""

    row: int
    """Number of this admission; never reused."""
    prompt_ids: list[int] = field(repr=False)
    emitted_ids: list[int] = field(repr=False)
    """Tokens emitted before a recovery; the worker continues after them."""
    max_tokens: int
    """Maximum tokens of the whole answer, including those already emitted."""
    stop_ids: list[int]
    sampling: Sampling
    domain: str = ""
    """Security domain of cached keys and values."""
    response_schema: dict[str, Any] | None = field(default=None, repr=False)
    call_rule: ToolCallConstraint | None = field(default=None, repr=False)
    free_calls: ToolCallFormat | None = None
    """Format of calls that follow no rule; their arguments are constrained to JSON."""
    alternatives: int | None = None
    """Number of likeliest alternatives to report with each emitted token."""
    prompt_alternatives: int | None = None
    """The same for each prompt token except the first."""


@frozen
class CancelRow:
    """Frees the row within one step."""

    row: int


@frozen
class Attach:
    """The inference actor has (re)started: drop all rows and report the engine's state."""


@frozen
class KillWorker:
    """An operator asked to kill the process, as `kill -9` does, to see how answers recover."""


EngineMessage = AdmitRow | CancelRow | Attach | KillWorker


@frozen(kw_only=True)
class EngineLoading:
    """A worker process has started and is loading its model."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    worker_pid: int
    stage: str


@frozen(kw_only=True)
class EngineReady:
    """The worker has loaded, checked and warmed up its model, and holds no rows."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    worker_pid: int
    report: ModelReport


@frozen(kw_only=True)
class EngineOutput:
    """Output of one worker step."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    step: Step


@frozen(kw_only=True)
class EngineAlive:
    """The worker is alive without news: it is still idle, or is preparing a request's grammar."""

    engine: str
    """Path of the engine actor."""
    incarnation: int


@frozen(kw_only=True)
class EngineIdle:
    """The worker is idle; sent when its memory differs from its last idle report."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    memory: dict[str, float]
    """Bytes by owner."""


EngineNews = EngineLoading | EngineReady | EngineOutput | EngineAlive | EngineIdle
"""All messages from an engine to the inference actor."""


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


StandbyMessage = PrepareStandby | TakeStandby | StandbyTaken
