"""The frames between an engine and its worker: one class each, checked against its types where it is read.

The first frame of each side names the protocol, and either side ends what speaks another. Then the server says what to load
and which rows to compute; the worker says how far its load is, and what each step came to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from actors.inference.bad_schema import BadSchema
from actors.inference.frames import FrameFault, enclose
from actors.inference.sampling import Sampling
from actors.inference.worker_config import WorkerConfig
from protocol.errors import ErrorCode

__all__ = [
    "PROTOCOL",
    "Admit",
    "Cancel",
    "Clear",
    "Cleared",
    "Finish",
    "FromWorker",
    "Hello",
    "Idle",
    "Load",
    "LoadFailed",
    "Loading",
    "ModelFiles",
    "ModelReport",
    "Preparing",
    "Ready",
    "RowFailure",
    "SampledToken",
    "ScoredPrompt",
    "StandingBy",
    "Step",
    "StepOutput",
    "ToWorker",
    "WaitForModel",
    "check_protocol",
    "pack_frame",
    "read_from_worker",
    "read_to_worker",
]

PROTOCOL = 3
"""Of everything in this file. Server and worker are the same installation; an upgrade under a running server is what it is for."""


# --- from the server ------------------------------------------------------------------------------


class ModelFiles(Struct, frozen=True, array_like=True):
    """The model that a worker loads."""

    name: str
    folder: Path | None = None
    """None for a model of the mock engine."""
    adapter: Path | None = None


class WaitForModel(Struct, frozen=True, array_like=True, tag="wait_for_model"):
    """First frame to a worker that imports everything and waits for a model."""

    protocol: int
    config: WorkerConfig


class Load(Struct, frozen=True, array_like=True, tag="load"):
    """First frame to any other worker, and the second to one that stands by."""

    protocol: int
    config: WorkerConfig
    model: ModelFiles


class Admit(Struct, frozen=True, array_like=True, kw_only=True, tag="admit"):
    """One sequence to continue; see `engine_messages.AdmitRow`."""

    row: int
    prompt_ids: list[int]
    emitted_ids: list[int]
    max_tokens: int
    stop_ids: list[int]
    sampling: Sampling
    domain: str = ""
    response_schema: str | None = None
    """As text: integers of a schema may be larger than frames can hold."""
    call_rule: str | None = None
    """What `ToolCallConstraint.as_text` made."""
    free_calls: str | None = None
    """Name of the format of calls that follow nothing but that their arguments are JSON."""
    alternatives: int | None = None
    prompt_alternatives: int | None = None


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """Free the row within one step."""

    row: int


class Clear(Struct, frozen=True, array_like=True, tag="clear"):
    """Drop all rows, and say when that is done."""


ToWorker = WaitForModel | Load | Admit | Cancel | Clear


Finish = Literal["stop", "length"]

# --- from the worker ------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """First frame of every worker."""

    protocol: int
    pid: int


class StandingBy(Struct, frozen=True, array_like=True, tag="standby"):
    """Everything is imported; a model may come."""


class Loading(Struct, frozen=True, array_like=True, tag="loading"):
    """The load has come to this stage."""

    stage: str


class LoadFailed(Struct, frozen=True, array_like=True, tag="load_failed"):
    """The load came to nothing, and why; the process ends."""

    error: str


class ModelReport(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is loaded and how it was checked. Operators see it as it is; what a mock has nothing to say of is left out."""

    model: str
    backend: str
    blas: str
    dtype: str
    has_pretrained_weights: bool
    canary_nll: float | None
    parameter_bytes: int
    warnings: list[str]
    warm_steps: list[tuple[float, int, int]]
    """Of each step of the warm-up: seconds, rows that emitted a token, prompt tokens read."""
    provenance: str | UnsetType = UNSET
    adapter: str | UnsetType | None = UNSET
    checks: list[dict[str, Any]] | UnsetType = UNSET
    vocabulary_size: int | UnsetType = UNSET
    context_tokens: int | UnsetType = UNSET
    """What is served of the model's length."""
    kv_bytes_per_token: int | UnsetType = UNSET
    pool_bytes: int | UnsetType = UNSET
    prefix_bytes: int | UnsetType = UNSET
    draft_tokens: int | UnsetType = UNSET
    """Most that is guessed in a step of one row."""
    compiled: bool | UnsetType = UNSET
    kernels: Literal["compiled", "compiling", "uncompiled"] | UnsetType = UNSET
    """`compiling` where the worker could compute with compiled code that is not there yet."""
    single_row_products: bool | UnsetType = UNSET
    allocation_bytes_per_second: float | UnsetType | None = UNSET
    load_seconds: float | UnsetType = UNSET

    def as_data(self) -> dict[str, Any]:
        """Plain values, for health."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """The model is loaded, checked and warmed up."""

    report: ModelReport


class Cleared(Struct, frozen=True, array_like=True, tag="cleared"):
    """No row is left of those before `Clear`."""


class Idle(Struct, frozen=True, array_like=True, tag="idle"):
    """Nothing to do; said once a second."""

    memory: dict[str, float]
    """Bytes by what holds them."""


class Preparing(Struct, frozen=True, array_like=True, tag="preparing"):
    """Rows are prepared and no step is due yet."""


class SampledToken(Struct, frozen=True, array_like=True, gc=False):
    """One token of one row."""

    row: int
    token_id: int
    log_probability: float
    """Under the model's own distribution, before temperature, penalties and masks."""
    finish: Finish | None
    """None while the row goes on. A stop token ends the row and is not text."""
    alternatives: list[tuple[int, float]] | None = None
    """Likeliest tokens at this position with their log-probabilities, for rows that asked."""


class ScoredPrompt(Struct, frozen=True, array_like=True):
    """How likely some tokens of a row's prompt are behind those before them."""

    row: int
    begin: int
    """Index of the first of them in the prompt, at least 1."""
    log_probabilities: list[float]
    alternatives: list[list[tuple[int, float]]]
    """Of each, the likeliest tokens at its place, best first."""


class RowFailure(Struct, frozen=True, array_like=True):
    """Why a row was dropped."""

    reason: str
    code: ErrorCode = ErrorCode.ENGINE_FAILED
    """Of the failure as its asker is told."""

    @classmethod
    def of(cls, error: Exception) -> RowFailure:
        """A schema that cannot be followed any further is its asker's; everything else is the engine's."""
        if isinstance(error, BadSchema):
            return cls(str(error), ErrorCode.INVALID_FIELD)
        return cls(f"{type(error).__name__}: {error}")


class StepOutput(Struct, array_like=True, kw_only=True):
    """What one step did."""

    emitted: list[SampledToken] = field(default_factory=list)
    """At most one token of each row, in the order of its answer several where a draft was right."""
    failed: list[tuple[int, RowFailure]] = field(default_factory=list)
    """Rows that were dropped because something of theirs raised, with the reason."""
    rows: list[int] = field(default_factory=list)
    """Every row that this step computed for, prefill included."""
    reading: list[tuple[int, int]] = field(default_factory=list)
    """Rows whose prompts are being read, and how much of each is."""
    prefilled_tokens: int = 0
    drafted_tokens: int = 0
    """Tokens that were guessed and judged in this step."""
    accepted_tokens: int = 0
    """Of these, how many are among the emitted ones."""
    scored: list[ScoredPrompt] = field(default_factory=list)
    """Of prompts that were to be scored, what this step read."""
    cached: list[tuple[int, int]] = field(default_factory=list)
    """Rows whose prompt began in kept keys and values, and how many tokens of it did."""


class Step(Struct, frozen=True, array_like=True, tag="step"):
    """One step of all rows. Step 0 was none: a row could not be admitted."""

    step: int
    seconds: float
    output: StepOutput
    memory: dict[str, float]
    """Bytes by what holds them; empty for step 0."""


FromWorker = Hello | StandingBy | Loading | LoadFailed | Ready | Cleared | Idle | Preparing | Step


# --- both -----------------------------------------------------------------------------------------


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not cross the pipe")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"{value!r:.40} is no {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)

read_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=_path).decode
"""One frame for the worker from its bytes. Raises `msgspec.MsgspecError`."""
read_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=_path).decode
"""One frame of the worker from its bytes. Raises `msgspec.MsgspecError`."""


def pack_frame(frame: ToWorker | FromWorker) -> bytes:
    """One frame as bytes. Raises `FrameFault` when it is over the bound."""
    return enclose(_encoder.encode(frame), type(frame).__name__)


def check_protocol(theirs: int) -> None:
    """Raise `FrameFault` where the other side speaks another protocol."""
    if theirs != PROTOCOL:
        raise FrameFault(f"the other end of the pipe speaks protocol {theirs}, this one {PROTOCOL}")
