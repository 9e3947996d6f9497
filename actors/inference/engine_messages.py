"""What the engine actor and the inference actor tell each other, inside the room."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from actors.inference.sampling import Sampling
from actors.inference.tools import ToolCallConstraint, ToolCallFormat
from actors.inference.worker_frames import ModelReport, Step

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
]


@frozen(kw_only=True)
class AdmitRow:
    """Work for the worker: one sequence to continue."""

    row: int
    """Number of this admission; never used twice."""
    prompt_ids: list[int] = field(repr=False)
    emitted_ids: list[int] = field(repr=False)
    """What was already emitted before a recovery; the worker goes on after it."""
    max_tokens: int
    """Most tokens of the whole answer, the emitted ones included."""
    stop_ids: list[int]
    sampling: Sampling
    domain: str = ""
    """Security domain of kept keys and values."""
    response_schema: dict[str, Any] | None = field(default=None, repr=False)
    call_rule: ToolCallConstraint | None = field(default=None, repr=False)
    free_calls: ToolCallFormat | None = None
    """How it writes calls that follow no rule; their arguments are held to JSON."""
    alternatives: int | None = None
    """How many likeliest tokens to report beside each emitted one."""
    prompt_alternatives: int | None = None
    """The same beside each token of the prompt but the first."""


@frozen
class CancelRow:
    """Free the row within one step."""

    row: int


@frozen
class Attach:
    """The inference actor has (re)started: drop all rows and say how the engine is."""


@frozen
class KillWorker:
    """An operator wants to see what becomes of its answers: end the process as `kill -9` does."""


EngineMessage = AdmitRow | CancelRow | Attach | KillWorker


@frozen(kw_only=True)
class EngineLoading:
    """A worker process has started and loads its model."""

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
    """What one step of the worker produced."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    step: Step


@frozen(kw_only=True)
class EngineAlive:
    """The worker said something that is no news: it still has nothing to do, or prepares a request's grammar."""

    engine: str
    """Path of the engine actor."""
    incarnation: int


@frozen(kw_only=True)
class EngineIdle:
    """The worker has nothing to do and holds this; told when it differs from what it held when last idle."""

    engine: str
    """Path of the engine actor."""
    incarnation: int
    memory: dict[str, float]
    """Bytes by what holds them."""


EngineNews = EngineLoading | EngineReady | EngineOutput | EngineAlive | EngineIdle
"""All that an engine tells the inference actor."""
