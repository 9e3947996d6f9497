"""Requests about models and their engines: health, the list of models, and changes of the model in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.inference.answer_forms import ReasoningForm, ToolCallFormat
from runtime import Request

__all__ = [
    "DescribeEngine",
    "DescribeModels",
    "EngineHealth",
    "KillEngine",
    "ListModels",
    "LoadModel",
    "ModelChanged",
    "ModelDetails",
    "ModelState",
    "UnloadModel",
]


@frozen(kw_only=True)
class EngineHealth:
    """State and measurements of the engine, for health checks and metrics. None stands for values not measured yet."""

    engine: str
    """`mlx` or `mock`."""
    state: str
    """`loading`, `ready`, `down`, or `unloaded` (loaded again by the next request)."""
    model: str
    """The model in use."""
    worker_pid: int | None
    restarts: int
    report: Mapping[str, Any]
    """The worker's report when it became ready: backend, blas, dtype, canary, warnings."""
    problem: str | None
    """Why it is not ready, or the last problem while loading."""
    queue_depth: int
    running: int
    tokens_per_second: float | None
    """Over the latest steps with rows, all rows together."""
    last_inference_ms: float | None
    """Duration of the most recently finished request."""
    memory: Mapping[str, float] = field(factory=dict)
    """Latest memory figures of the worker, bytes."""
    memory_bound_bytes: int | None = None
    """Joint limit of weights, live rows, cached prefixes and MLX's pool."""
    all_processes_bytes: float | None = None
    """Memory of the server and all processes it started, if requested."""
    refuses: str | None = None
    """Why new requests are refused now; None while they are accepted."""
    totals: Mapping[str, float] = field(factory=dict)
    """Totals since the inference actor started: prompt and generation tokens, requests by outcome."""
    changing_to: str | None = None
    """Model being loaded to take over."""
    change_stage: str | None = None
    """Current stage of that load."""
    context_tokens: int = 0
    """Maximum length of prompt and answer of one request together."""
    tool_call_format: ToolCallFormat = ToolCallFormat.TAGGED
    """Tool-call format of the model in use."""
    has_tools: bool = False
    """True if its own chat template supports tools; otherwise they are described to it in a generic form."""
    reasoning: ReasoningForm = field(factory=ReasoningForm)
    """How it marks its reasoning."""
    silent_seconds: float | None = None
    """Seconds since the worker's last message; it sends one after every step and, when idle, once a second."""


@frozen
class DescribeEngine(Request[EngineHealth]):
    """Asks for the engine's state."""

    with_memory: bool = False
    """Includes the memory of all processes, which takes some milliseconds to read."""


@frozen(kw_only=True)
class ModelState:
    """A model known to the server by name."""

    name: str
    """Short name if it has one, else the full name."""
    full_name: str
    """Hub id or folder name."""
    state: str
    """`absent`, `available`, `loading`, `loaded`, `unloading`, `draining`, `failed`, or `unloaded` (in use, and loaded
    again by the next request)."""
    is_in_use: bool
    """True if new requests go to it."""
    stage: str | None
    """Current stage of a load, or why it failed."""
    running: int
    """Answers in progress."""
    size_bytes: int | None
    """Size of all its files; None if it is not on this machine."""
    type: str
    """Model type and weight type."""
    quantization: str
    """Bits and group size of packed weights, or empty."""
    provenance: str
    """`verified` or `unverified`."""
    source: str
    """Origin of its files."""
    adapter: str | None = None
    """Name of the LoRA adapter applied to it."""
    digest: str = ""
    """SHA-256 of its weights, as in `InventoryEntry`; empty if unknown."""
    modified_seconds: float | None = None
    """Modification time of its weights, POSIX seconds."""


@frozen
class ListModels(Request[tuple[ModelState, ...]]):
    """Lists every model that the server knows by name, and marks the one in use."""


@frozen(kw_only=True)
class ModelDetails:
    """Details from the files of a model on this machine."""

    state: ModelState
    need_bytes: int | None
    """Memory of its weights once loaded; None if the files do not tell."""
    calibration: tuple[int, tuple[tuple[float, float], ...]] | None
    """Result of `leanvibe model calibrate`: number of answers, and pairs of confidence and share of right answers."""


@frozen
class DescribeModels(Request[tuple[ModelDetails, ...]]):
    """Lists every named model with details from its files. Reads those files, so it is meant for people rather than for
    polling."""


@frozen(kw_only=True)
class ModelChanged:
    """A model was loaded or unloaded."""

    model: str
    state: str
    """`loaded` or `unloaded`."""
    worker_pid: int | None


@frozen
class LoadModel(Request[ModelChanged]):
    """Loads a model by name and makes it the one in use. Answered once new requests go to it.

    Refused with `ModelRefused`; the previous model then still serves. Cancelling the ask does not cancel the load.
    """

    name: str


@frozen
class UnloadModel(Request[ModelChanged]):
    """Lets the model in use finish its answers, then ends its process; the next request loads it again.

    Answered once the process is gone. Refused with `ModelRefused`.
    """

    name: str


@frozen
class KillEngine(Request[int]):
    """Kills the process of the engine in use, as `kill -9` does, and returns its id. Refused with `ModelRefused`.

    Lets operators check that answers survive.
    """
