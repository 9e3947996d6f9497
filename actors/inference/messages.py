"""Requests and events of the inference service. Other services import this module and nothing else of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ArgumentSyntax
from actors.inference.text.token_bytes import OneToken
from actors.inference.token_prompt import GenerateFromIds
from actors.inference.tools import (  # fmt: skip
    CallableFunction,
    GenerateWithTools,
    ReasoningForm,
    ReasoningMarks,
    ToolCallConstraint,
    ToolCallFormat,
    is_held,
)
from actors.refusals import CommandRefused
from actors.storage.messages import IdempotencyKey
from actors.tracing.trace_context import TraceContext
from protocol.commands import Generate, GetProgress
from protocol.errors import ErrorCode
from protocol.events import Done, ProgressData
from runtime import ActorRef, Request

__all__ = [
    "ARGUMENT_SYNTAXES",
    "UNFINISHED",
    "ArgumentSyntax",
    "CallableFunction",
    "CancelGeneration",
    "Complete",
    "Completion",
    "DescribeEngine",
    "DescribeGeneration",
    "DescribeModels",
    "DetachStreams",
    "EngineHealth",
    "FirstTimes",
    "GenerateFromIds",
    "GenerateWithTools",
    "GenerationCancelled",
    "GenerationDone",
    "GenerationEnded",
    "GenerationEvent",
    "GenerationFailed",
    "GenerationProgress",
    "GenerationRefused",
    "GenerationStarted",
    "GenerationTokens",
    "InferenceRequest",
    "IsGenerating",
    "KillEngine",
    "ListModels",
    "LoadModel",
    "MeasurePrompt",
    "ModelChanged",
    "ModelDetails",
    "ModelRefused",
    "ModelState",
    "OneToken",
    "PromptSize",
    "PromptToken",
    "ReasoningForm",
    "ReasoningMarks",
    "ReportProgress",
    "ResumeFrom",
    "StartGeneration",
    "StreamSnapshot",
    "SubscribeStream",
    "Subscribed",
    "ToolCallConstraint",
    "ToolCallFormat",
    "UnloadModel",
    "UnsubscribeStream",
    "is_held",
]


UNFINISHED = "the server is shutting down, and the answer is not finished"
"""Message that subscribers receive with `ErrorCode.SHUTTING_DOWN`, whichever service sends it."""


class GenerationRefused(CommandRefused):
    """A generation was rejected or failed."""


@frozen(kw_only=True)
class FirstTimes:
    """Measurements of an answer up to its first token, on Trio's clock; sent with its tokens so that a restart does not
    lose them."""

    accepted_at: float
    admitted_at: float | None
    first_token_at: float | None
    cached_tokens: int | None


@frozen(kw_only=True)
class ResumeFrom:
    """A subscriber's position when the inference actor was lost, sufficient to continue the same answer."""

    seq: int
    """Last sequence number it received."""
    token_ids: tuple[int, ...]
    """Ids of all tokens behind the received text."""
    log_probability: float
    """Sum over these tokens."""
    seed: int
    model: str | None = None
    """Model that began the answer, from `GenerationStarted`; another model's ids would mean other text."""
    first_times: FirstTimes | None = None
    """None if no token was received."""


@frozen(kw_only=True)
class GenerationStarted:
    """A generation was accepted, now or by an earlier delivery of the same command."""

    stream: str
    """The requested name; with `is_repeat` the name used the first time."""
    seed: int
    prompt_tokens: int
    model: str = ""
    """Name of the model that answers, whatever is loaded later."""
    epoch: str = ""
    """Epoch of the stream; sequence numbers of another epoch are meaningless."""
    is_repeat: bool = False
    """True if this command was carried out before: the caller is not subscribed yet and does so with `SubscribeStream`.
    """
    left_out: tuple[str, ...] = ()
    """Parts of the schema or tools that the answer will not have, because they are not supported:
    `response_schema/properties/a`."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """Request to send to a new inference actor, with `subscriber` and `resume`, if this one is lost."""


@frozen(kw_only=True)
class PromptToken:
    """A prompt token and its likelihood given those before it."""

    index: int
    """Position in the prompt. A second position 0 means that another model reads the prompt, so all tokens are sent
    again."""
    token_id: int
    token: OneToken
    log_probability: float | None = None
    """None for the first token."""
    top: Sequence[tuple[int, OneToken, float]] = ()
    """Likeliest tokens at this position, best first, with their log-probabilities."""


@frozen(kw_only=True)
class StartGeneration(Request[GenerationStarted]):
    """Starts a generation whose stream belongs to the client id. Refused with `GenerationRefused`.

    When its last subscriber leaves, `generate.on_disconnect` decides what happens; a generation that never had a
    subscriber runs to its end.
    """

    client_id: str
    stream: str
    """Unique name chosen by the caller."""
    generate: Generate = field(repr=False)
    subscriber: ActorRef[GenerationEvent] | Callable[[GenerationEvent], None] | None = None
    """Receives every event: an actor until it ends or unsubscribes, or a function that never blocks."""
    resume: ResumeFrom | None = None
    """For a stream whose inference actor was lost; continues it under `epoch`."""
    domain: str = ""
    """Security domain: only requests of one domain share cached keys and values."""
    observer: ActorRef[GenerationEnded] | None = None
    """Receives one `GenerationEnded`; does not count as a subscriber."""
    completion_fields: Callable[[str, Done], dict[str, Any]] | None = field(default=None, repr=False)
    """Pure function of (whole text, done) that returns additional fields of `done` as JSON values."""
    to_context_end: bool = False
    """Lets the answer run to the end of the context if no length, or a longer one, was requested, as OpenAI's API does.
    Memory is then reserved in parts so that it does not block other requests; an answer that gets no more memory
    pauses."""
    ignores_end: bool = False
    """Lets the answer continue past the model's end token, up to its length or the end of the context."""
    tell_prompt: Callable[[Sequence[PromptToken]], None] | None = field(default=None, repr=False)
    """Receives the prompt's tokens as they are read, all before the first answer token, with as many alternatives as
    `generate.logprobs` asks for. Never blocks. Disables the prefix cache for this prompt."""
    wants_calibrated: bool = False
    """Adds `calibrated` to `done` if the model has a calibration."""
    key: IdempotencyKey | None = None
    """Stored before the answer starts, so that the command is carried out only once."""
    epoch: str | None = None
    caller: str = ""
    """Distinguishes callers that share a client id, which take turns in prompt encoding. Owns nothing."""
    asked_at: float | None = None
    """Time of the first request on Trio's clock, from which its deadline counts. None means now."""
    trace: TraceContext | None = None
    """Parent span of the answer's spans, set on acceptance, so that an answer resumed after a loss stays in its trace.
    """


@frozen(kw_only=True)
class StreamSnapshot:
    """State of a stream, for a subscriber that cannot be sent the events it missed."""

    seq: int
    """Last event included."""
    text: str = field(repr=False)
    state: str
    """`running`, `done`, `cancelled`, `failed`, or `unavailable` if there is no such stream."""


@frozen(kw_only=True)
class Subscribed:
    """Events that a subscriber missed, or a page of them."""

    stream: str
    epoch: str
    resumed: bool
    """True if `events` continue after `after_seq`; otherwise `snapshot` replaces everything up to its `seq`."""
    head: int
    """Last event of the stream."""
    snapshot: StreamSnapshot | None = None
    events: tuple[GenerationEvent, ...] = field(default=(), repr=False)
    """Next events, with tokens merged."""
    is_live: bool
    """True if this page reaches the head, so that all later events are sent. Otherwise ask again after the last of
    these."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """Request to send to a new inference actor, with `subscriber` and `resume`, if this one is lost; None if the stream
    has ended."""
    behind: ResumeFrom | None = field(default=None, repr=False)
    """The subscriber's position before `events`, needed to restart the stream."""
    key: IdempotencyKey | None = None
    """Key of the command that the stream answers."""


@frozen(kw_only=True)
class SubscribeStream(Request[Subscribed]):
    """Resumes a stream of this client id, page by page until `Subscribed.is_live`.

    The caller counts as a subscriber from the first page on. Streams of other client ids appear not to exist.
    """

    client_id: str
    stream: str
    epoch: str | None
    """Epoch of `after_seq`; None means the stream's own."""
    after_seq: int
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class UnsubscribeStream(Request[bool]):
    """Unsubscribes, as if the subscriber had ended. Returns True if it was subscribed."""

    stream: str
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class DetachStreams(Request[int]):
    """Announces that the server, not the client, is about to cut a subscriber off; streams that only it follows are
    detached.

    Returns their number. They wait `detach_seconds` for a subscriber to return, whatever `on_disconnect` says.
    """

    subscriber: ActorRef[GenerationEvent]


@frozen
class CancelGeneration(Request[bool]):
    """Ends a generation. Returns True if it was still running. Its last event is `GenerationCancelled`."""

    stream: str
    reason: str = "cancelled"


@frozen(kw_only=True)
class PromptSize:
    """Length of a prompt."""

    prompt_tokens: int
    context_tokens: int
    """Maximum length of prompt and answer together."""


@frozen
class MeasurePrompt(Request[PromptSize]):
    """Measures a prompt in tokens. Refused with `GenerationRefused` if the model's template rejects it."""

    generate: Generate = field(repr=False)
    client_id: str = ""
    """Client whose turn the encoding takes."""
    caller: str = ""
    """As in `StartGeneration`."""


@frozen
class IsGenerating(Request[bool]):
    """True if a generation of that name is waiting or running."""

    stream: str


@frozen(kw_only=True)
class GenerationProgress:
    """Progress of a generation."""

    is_running: bool
    """True if it has a row; otherwise it is waiting for one or is over."""
    prompt_tokens: int
    read_tokens: int
    """Prompt tokens read, including cached ones."""


@frozen
class DescribeGeneration(Request[GenerationProgress]):
    """Returns a generation's progress. One that is over or never existed is not running."""

    stream: str


@frozen(kw_only=True)
class ReportProgress(Request[ProgressData]):
    """The same as a client's command, limited to the client's own generations."""

    client_id: str
    device_id: str
    data: GetProgress
    key: IdempotencyKey | None


@frozen(kw_only=True)
class Completion:
    """A complete answer."""

    text: str
    done: Done


@frozen(kw_only=True)
class Complete(Request[Completion]):
    """Generates a complete answer. Cancelling the ask cancels the generation. Refused with `GenerationRefused`."""

    client_id: str
    generate: Generate
    domain: str = ""
    """Security domain: only requests of one domain share cached prompts."""


@frozen(kw_only=True)
class GenerationTokens:
    """Text of an answer with the ids of its tokens."""

    stream: str
    seq: int
    text: str
    index: int
    token_ids: tuple[int, ...]
    """Ids since the previous event; kept by the subscriber, so that nothing is lost with the inference actor."""
    log_probability: float
    """Sum over these ids."""
    logprobs: list[dict[str, Any]] | None = None
    """If requested: text, id, log-probability, bytes and position of each token, with the likeliest alternatives."""
    first_times: FirstTimes | None = field(default=None, repr=False)
    """Kept by the subscriber, like the ids."""
    first_seq: int = field()
    """First of the events merged into this one."""

    @first_seq.default
    def _itself(self) -> int:
        return self.seq


@frozen(kw_only=True)
class GenerationDone:
    """The answer is complete."""

    stream: str
    seq: int
    done: Done
    fields: Mapping[str, Any] = field(factory=dict)
    """Fields made by `completion_fields`."""
    stop_text: str | None = None
    """The stop text that ended it; None if the model or the length did, or if the answer was read back from storage."""


@frozen(kw_only=True)
class GenerationCancelled:
    """The generation was cancelled."""

    stream: str
    seq: int
    reason: str


@frozen(kw_only=True)
class GenerationFailed:
    """The generation failed."""

    stream: str
    seq: int
    code: ErrorCode
    message: str


@frozen(kw_only=True)
class GenerationEnded:
    """Tells the observer that a generation has ended, in whatever way."""

    stream: str
    client_id: str
    text: str = field(repr=False)
    """The whole text, or as much as there was."""
    done: Done | None
    """Set for a complete answer."""
    code: ErrorCode | None
    """Set for a failed answer; a cancelled or abandoned one has neither this nor `done`."""
    message: str | None
    trace: TraceContext | None = None
    """As in `StartGeneration`."""


GenerationEvent = GenerationTokens | GenerationDone | GenerationCancelled | GenerationFailed


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


class ModelRefused(GenerationRefused):
    """A model was not loaded or unloaded; the previous one still serves."""


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


InferenceRequest = (
    StartGeneration
    | CancelGeneration
    | Complete
    | MeasurePrompt
    | SubscribeStream
    | UnsubscribeStream
    | DetachStreams
    | IsGenerating
    | DescribeGeneration
    | ReportProgress
    | DescribeEngine
    | ListModels
    | LoadModel
    | UnloadModel
    | KillEngine
    | DescribeModels
)
"""All requests that other services may send to this one."""
