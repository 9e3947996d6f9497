"""Frames between an engine and its worker, one class each, validated where they are read.

The first frame of each side contains the protocol version, and each side ends a connection with another version. Then
the server sends the model to load and the rows to compute; the worker sends the progress of the load and the output of
each step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from actors.inference.frames import FrameFault, enclose
from actors.inference.sampling import Sampling
from actors.inference.schema_errors import BadSchema
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
"""Version of everything in this module. Server and worker come from one installation; this guards upgrades under a
running server."""


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
    """First frame to any other worker, and second frame to one standing by."""

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
    """JSON text, because schemas may contain integers too large for frames."""
    call_rule: str | None = None
    """Result of `ToolCallConstraint.as_text`."""
    free_calls: str | None = None
    """Name of the format of calls of which only the arguments are constrained, to JSON."""
    alternatives: int | None = None
    prompt_alternatives: int | None = None


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """Free the row within one step."""

    row: int


class Clear(Struct, frozen=True, array_like=True, tag="clear"):
    """Drop all rows and confirm with `Cleared`."""


ToWorker = WaitForModel | Load | Admit | Cancel | Clear


Finish = Literal["stop", "length"]

# --- from the worker ------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """First frame of every worker."""

    protocol: int
    pid: int


class StandingBy(Struct, frozen=True, array_like=True, tag="standby"):
    """Sent once imports are complete and a model may be loaded."""


class Loading(Struct, frozen=True, array_like=True, tag="loading"):
    """The load has reached this stage."""

    stage: str


class LoadFailed(Struct, frozen=True, array_like=True, tag="load_failed"):
    """The load failed; the process ends."""

    error: str


class ModelReport(Struct, kw_only=True, forbid_unknown_fields=True):
    """The loaded model and its checks, shown to operators as is. A mock leaves out fields that do not apply."""

    model: str
    backend: str
    blas: str
    dtype: str
    has_pretrained_weights: bool
    canary_nll: float | None
    parameter_bytes: int
    warnings: list[str]
    warm_steps: list[tuple[float, int, int]]
    """Warm-up steps: seconds, rows that emitted a token, prompt tokens read."""
    provenance: str | UnsetType = UNSET
    adapter: str | UnsetType | None = UNSET
    checks: list[dict[str, Any]] | UnsetType = UNSET
    vocabulary_size: int | UnsetType = UNSET
    context_tokens: int | UnsetType = UNSET
    """Served part of the model's context length."""
    kv_bytes_per_token: int | UnsetType = UNSET
    pool_bytes: int | UnsetType = UNSET
    prefix_bytes: int | UnsetType = UNSET
    draft_tokens: int | UnsetType = UNSET
    """Maximum number of tokens drafted in a step with a single row."""
    compiled: bool | UnsetType = UNSET
    kernels: Literal["compiled", "compiling", "uncompiled"] | UnsetType = UNSET
    """`compiling` if the worker could use kernels that are not compiled yet."""
    single_row_products: bool | UnsetType = UNSET
    allocation_bytes_per_second: float | UnsetType | None = UNSET
    load_seconds: float | UnsetType = UNSET

    def as_data(self) -> dict[str, Any]:
        """Plain values, for health reports."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """The model is loaded, checked and warmed up."""

    report: ModelReport


class Cleared(Struct, frozen=True, array_like=True, tag="cleared"):
    """All rows admitted before `Clear` are gone."""


class Idle(Struct, frozen=True, array_like=True, tag="idle"):
    """The worker is idle; sent once a second."""

    memory: dict[str, float]
    """Bytes by owner."""


class Preparing(Struct, frozen=True, array_like=True, tag="preparing"):
    """Rows are being prepared and no step is due yet."""


class SampledToken(Struct, frozen=True, array_like=True, gc=False):
    """One token of one row."""

    row: int
    token_id: int
    log_probability: float
    """Under the model's own distribution, before temperature, penalties and masks."""
    finish: Finish | None
    """None while the row continues. A stop token ends the row and is not text."""
    alternatives: list[tuple[int, float]] | None = None
    """Likeliest tokens at this position with their log-probabilities, for rows that asked."""


class ScoredPrompt(Struct, frozen=True, array_like=True):
    """Likelihood of some tokens of a row's prompt given those before them."""

    row: int
    begin: int
    """Index in the prompt of the first of these tokens, at least 1."""
    log_probabilities: list[float]
    alternatives: list[list[tuple[int, float]]]
    """Likeliest tokens at each position, best first."""


class RowFailure(Struct, frozen=True, array_like=True):
    """Why a row was dropped."""

    reason: str
    code: ErrorCode = ErrorCode.ENGINE_FAILED
    """Error code reported to the caller."""

    @classmethod
    def of(cls, error: Exception) -> RowFailure:
        """Blames the caller for a schema that cannot be continued, and the engine for everything else."""
        if isinstance(error, BadSchema):
            return cls(str(error), ErrorCode.INVALID_FIELD)
        return cls(f"{type(error).__name__}: {error}")


class StepOutput(Struct, array_like=True, kw_only=True):
    """Result of one step."""

    emitted: list[SampledToken] = field(default_factory=list)
    """At most one token per row, or several in order if a draft was accepted."""
    failed: list[tuple[int, RowFailure]] = field(default_factory=list)
    """Rows dropped because of an exception, with the reason."""
    rows: list[int] = field(default_factory=list)
    """Every row computed in this step, including prefill."""
    reading: list[tuple[int, int]] = field(default_factory=list)
    """Rows whose prompts are being read, with the number of tokens read."""
    prefilled_tokens: int = 0
    drafted_tokens: int = 0
    """Tokens drafted and verified in this step."""
    accepted_tokens: int = 0
    """Drafted tokens that were accepted and are among those emitted."""
    scored: list[ScoredPrompt] = field(default_factory=list)
    """Scores of the prompt tokens read in this step, for rows that asked."""
    cached: list[tuple[int, int]] = field(default_factory=list)
    """Rows whose prompt had a cached prefix, with its length in tokens."""


class Step(Struct, frozen=True, array_like=True, tag="step"):
    """One step of all rows. Step 0 stands for a row that could not be admitted."""

    step: int
    seconds: float
    output: StepOutput
    memory: dict[str, float]
    """Bytes by owner; empty for step 0."""


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
"""Decodes a frame to the worker. Raises `msgspec.MsgspecError`."""
read_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=_path).decode
"""Decodes a frame from the worker. Raises `msgspec.MsgspecError`."""


def pack_frame(frame: ToWorker | FromWorker) -> bytes:
    """Encodes a frame. Raises `FrameFault` if it is too large."""
    return enclose(_encoder.encode(frame), type(frame).__name__)


def check_protocol(theirs: int) -> None:
    """Raises `FrameFault` if the peer uses another protocol version."""
    if theirs != PROTOCOL:
        raise FrameFault(f"the other end of the pipe speaks protocol {theirs}, this one {PROTOCOL}")
