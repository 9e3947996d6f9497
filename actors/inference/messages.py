"""What the inference room takes and tells. Other rooms import this file and nothing else of the room."""

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
"""What followers are told with `ErrorCode.SHUTTING_DOWN`, by whichever room has the last word."""


class GenerationRefused(CommandRefused):
    """A generation was not accepted, or failed."""


@frozen(kw_only=True)
class FirstTimes:
    """What was measured of an answer up to its first token, on Trio's clock; told with its tokens so that it is not lost."""

    accepted_at: float
    admitted_at: float | None
    first_token_at: float | None
    cached_tokens: int | None


@frozen(kw_only=True)
class ResumeFrom:
    """Where a follower was when the inference actor was lost: enough to go on with the same answer."""

    seq: int
    """Last sequence number it received."""
    token_ids: tuple[int, ...]
    """All token ids behind the text it received."""
    log_probability: float
    """Sum over these tokens."""
    seed: int
    model: str | None = None
    """The model that began it, as `GenerationStarted` told; another model's token ids mean other text."""
    first_times: FirstTimes | None = None
    """Of its beginning; None where no token was received."""


@frozen(kw_only=True)
class GenerationStarted:
    """A generation was accepted, or the same command had been accepted before."""

    stream: str
    """The name asked for; with `is_repeat` that of the first time."""
    seed: int
    prompt_tokens: int
    model: str = ""
    """Name of the model that answers it, whatever is loaded later."""
    epoch: str = ""
    """Of the stream; another one means that sequence numbers known before mean nothing."""
    is_repeat: bool = False
    """True when this command was carried out before: the asker is no follower yet, and joins with `SubscribeStream`."""
    left_out: tuple[str, ...] = ()
    """What of the schema or tools that the answer follows it will not have, since it cannot be followed: `response_schema/properties/a`."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """What to ask of a new inference actor, with `subscriber` and `resume`, should this one be lost."""


@frozen(kw_only=True)
class PromptToken:
    """A token of a prompt, and how likely it was behind those before it."""

    index: int
    """Its place in the prompt. Place 0 again means that another model reads the prompt, and all begins anew."""
    token_id: int
    token: OneToken
    log_probability: float | None = None
    """None of the first."""
    top: Sequence[tuple[int, OneToken, float]] = ()
    """The likeliest tokens at its place, best first, with their log-probabilities."""


@frozen(kw_only=True)
class StartGeneration(Request[GenerationStarted]):
    """Begin a generation whose stream belongs to the client id. Refused with `GenerationRefused`.

    When its last follower leaves, `generate.on_disconnect` says what becomes of it; one that never had a
    follower runs to its end.
    """

    client_id: str
    stream: str
    """Unique name chosen by the asker."""
    generate: Generate = field(repr=False)
    subscriber: ActorRef[GenerationEvent] | Callable[[GenerationEvent], None] | None = None
    """Is told every event: an actor until it ends or unfollows, or a function that never waits."""
    resume: ResumeFrom | None = None
    """For a stream whose inference actor was lost; with `epoch`, under which it goes on."""
    domain: str = ""
    """Security domain: only requests of one domain share kept keys and values."""
    observer: ActorRef[GenerationEnded] | None = None
    """Is told one `GenerationEnded`; it does not count as a follower."""
    completion_fields: Callable[[str, Done], dict[str, Any]] | None = field(default=None, repr=False)
    """Pure: (whole text, done) → fields that the data of `done` has as well, JSON values."""
    to_context_end: bool = False
    """Whether an answer goes on up to the context's end where no length was asked, or a longer one, as at OpenAI's peers. Memory is then reserved
    for it piece by piece, so that it holds up no others: an answer that finds none waits in its middle."""
    ignores_end: bool = False
    """Whether the answer goes on past the model's own end, up to its length or the context's end."""
    tell_prompt: Callable[[Sequence[PromptToken]], None] | None = field(default=None, repr=False)
    """Is told the prompt's tokens as they are read, all before the first of the answer, with as many alternatives as
    `generate.logprobs` says. Never waits. Then nothing that is kept of the prompt is used."""
    wants_calibrated: bool = False
    """Whether `done` shall have `calibrated` where the model has a calibration."""
    key: IdempotencyKey | None = None
    """Kept before the answer, so that the same command is carried out once."""
    epoch: str | None = None
    caller: str = ""
    """Which of those who share the client id asks: they take turns where prompts are read. Nothing is owned by it."""
    asked_at: float | None = None
    """When it was asked for the first time, on Trio's clock; its deadline counts from then. None is now."""
    trace: TraceContext | None = None
    """The span that the answer's are below, set when it is accepted, so that an answer which goes on after a loss stays in its trace."""


@frozen(kw_only=True)
class StreamSnapshot:
    """A stream as it stands, for a follower that cannot be given the events it lacks."""

    seq: int
    """Last event in it."""
    text: str = field(repr=False)
    state: str
    """`running`, `done`, `cancelled`, `failed`, or `unavailable` where there is no such stream."""


@frozen(kw_only=True)
class Subscribed:
    """What a follower lacks of a stream, or a part of it."""

    stream: str
    epoch: str
    resumed: bool
    """Whether it goes on after `after_seq`; else `snapshot` stands for all up to its `seq`."""
    head: int
    """Last event of the stream."""
    snapshot: StreamSnapshot | None = None
    events: tuple[GenerationEvent, ...] = field(default=(), repr=False)
    """What comes next, tokens merged."""
    is_live: bool
    """True when this reaches the head: all later events are told. Otherwise ask again after the last one of these."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """What to ask of a new inference actor, with `subscriber` and `resume`, should this one be lost; None of an ended one."""
    behind: ResumeFrom | None = field(default=None, repr=False)
    """Where the follower stands before `events`: what it needs besides to have the stream started again."""
    key: IdempotencyKey | None = None
    """Of the command that the stream answers."""


@frozen(kw_only=True)
class SubscribeStream(Request[Subscribed]):
    """Go on with a stream of this client id, page by page until `Subscribed.is_live`.

    From the first page on the asker counts as a follower. Streams of other client ids are as if they did not exist.
    """

    client_id: str
    stream: str
    epoch: str | None
    """The epoch that `after_seq` belongs to; None takes the stream's own."""
    after_seq: int
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class UnsubscribeStream(Request[bool]):
    """Follow a stream no more, as if the follower had ended; answers whether it did follow."""

    stream: str
    subscriber: ActorRef[GenerationEvent]


@frozen(kw_only=True)
class DetachStreams(Request[int]):
    """A follower is about to be cut off by the server, not by its client: what it alone follows runs on as if detached.

    Answers how many streams that are. They wait `detach_seconds` for somebody to come back, whatever `on_disconnect` says.
    """

    subscriber: ActorRef[GenerationEvent]


@frozen
class CancelGeneration(Request[bool]):
    """End a generation; answers whether it was still running. Its last event is `GenerationCancelled`."""

    stream: str
    reason: str = "cancelled"


@frozen(kw_only=True)
class PromptSize:
    """What a prompt takes."""

    prompt_tokens: int
    context_tokens: int
    """What prompt and answer together may have."""


@frozen
class MeasurePrompt(Request[PromptSize]):
    """How long this would be as a prompt. Refused with `GenerationRefused` where the model's template takes it not."""

    generate: Generate = field(repr=False)
    client_id: str = ""
    """Whose turn to be read it is."""
    caller: str = ""
    """As of `StartGeneration`."""


@frozen
class IsGenerating(Request[bool]):
    """Whether a generation of that name waits or runs."""

    stream: str


@frozen(kw_only=True)
class GenerationProgress:
    """How far a generation has come."""

    is_running: bool
    """Whether it has a row; otherwise it waits for one, or is over."""
    prompt_tokens: int
    read_tokens: int
    """Of the prompt, kept ones among them."""


@frozen
class DescribeGeneration(Request[GenerationProgress]):
    """How far it is. One that is over, or never was, runs no more."""

    stream: str


@frozen(kw_only=True)
class ReportProgress(Request[ProgressData]):
    """The same as a client's command: of its own generations alone."""

    client_id: str
    device_id: str
    data: GetProgress
    key: IdempotencyKey | None


@frozen(kw_only=True)
class Completion:
    """A whole answer."""

    text: str
    done: Done


@frozen(kw_only=True)
class Complete(Request[Completion]):
    """Generate a whole answer. Cancelling the ask cancels the generation. Refused with `GenerationRefused`."""

    client_id: str
    generate: Generate
    domain: str = ""
    """Security domain: only requests of one domain share what was computed of their prompts."""


@frozen(kw_only=True)
class GenerationTokens:
    """Some text, and the token ids that it took."""

    stream: str
    seq: int
    text: str
    index: int
    token_ids: tuple[int, ...]
    """Ids since the event before; kept by the follower so that a lost inference actor loses nothing."""
    log_probability: float
    """Sum over these ids."""
    logprobs: list[dict[str, Any]] | None = None
    """For requests that asked: each token's text, id, log-probability, bytes and place, with the likeliest alternatives."""
    first_times: FirstTimes | None = field(default=None, repr=False)
    """Kept by the follower, as the ids are."""
    first_seq: int = field()
    """First of the events that were merged into this one."""

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
    """What `completion_fields` made."""
    stop_text: str | None = None
    """The stop text that ended it; None where the model or the length did, and of an answer read back from storage."""


@frozen(kw_only=True)
class GenerationCancelled:
    """The generation was cancelled."""

    stream: str
    seq: int
    reason: str


@frozen(kw_only=True)
class GenerationFailed:
    """The generation cannot go on."""

    stream: str
    seq: int
    code: ErrorCode
    message: str


@frozen(kw_only=True)
class GenerationEnded:
    """To the observer: a generation is over, however."""

    stream: str
    client_id: str
    text: str = field(repr=False)
    """All of it, or what there was."""
    done: Done | None
    """Of a complete answer."""
    code: ErrorCode | None
    """Of one that failed; neither this nor `done` of one that was cancelled or abandoned."""
    message: str | None
    trace: TraceContext | None = None
    """As of `StartGeneration`."""


GenerationEvent = GenerationTokens | GenerationDone | GenerationCancelled | GenerationFailed


@frozen(kw_only=True)
class EngineHealth:
    """The engine as measured, for health and metrics. None where nothing was measured yet."""

    engine: str
    """`mlx` or `mock`."""
    state: str
    """`loading`, `ready`, `down`, or `unloaded`: then the next request loads the model again."""
    model: str
    """The model in use now."""
    worker_pid: int | None
    restarts: int
    report: Mapping[str, Any]
    """What the worker said when it was ready: backend, blas, dtype, canary, warnings."""
    problem: str | None
    """Why it is not ready, or the last thing that went wrong while loading."""
    queue_depth: int
    running: int
    tokens_per_second: float | None
    """Over the last steps with rows, all rows together."""
    last_inference_ms: float | None
    """Duration of the newest finished request."""
    memory: Mapping[str, float] = field(factory=dict)
    """The worker's newest memory figures, bytes."""
    memory_bound_bytes: int | None = None
    """What weights, live rows, kept prefixes and MLX's pool may hold together."""
    all_processes_bytes: float | None = None
    """What the server and every process that it started hold in memory, where that was asked for."""
    refuses: str | None = None
    """Why new requests are refused now; None while they are taken."""
    totals: Mapping[str, float] = field(factory=dict)
    """Counters since the inference actor started: prompt and generation tokens, requests by outcome."""
    changing_to: str | None = None
    """The model that is being loaded to take over."""
    change_stage: str | None = None
    """What that load is doing."""
    context_tokens: int = 0
    """What prompt and answer of one request may have together."""
    tool_call_format: ToolCallFormat = ToolCallFormat.TAGGED
    """How the model in use writes calls of tools."""
    has_tools: bool = False
    """Whether its own chat template has tools; else they are described to it in a generic form."""
    reasoning: ReasoningForm = field(factory=ReasoningForm)
    """How it marks what it thinks before it answers."""
    silent_seconds: float | None = None
    """Since the worker last said something, which it does after every step and once a second without one."""


@frozen
class DescribeEngine(Request[EngineHealth]):
    """How the engine is."""

    with_memory: bool = False
    """Whether the memory of all processes is wanted, which takes some milliseconds to read."""


class ModelRefused(GenerationRefused):
    """A model was not loaded or unloaded, and what served before still does; carries what an `error` needs."""


@frozen(kw_only=True)
class ModelState:
    """One model that the server knows by name."""

    name: str
    """What to call it: the short name where there is one."""
    full_name: str
    """The hub id or the folder's name."""
    state: str
    """`absent`, `available`, `loading`, `loaded`, `unloading`, `draining`, `failed`, or `unloaded`: in use, and loaded again by
    the next request."""
    is_in_use: bool
    """Whether new requests go to it."""
    stage: str | None
    """What a load is doing, or why it failed."""
    running: int
    """Its answers in the making."""
    size_bytes: int | None
    """All its files together; None for one that is not on this machine."""
    type: str
    """Model type and type of the weights."""
    quantization: str
    """Bits and group of packed weights, or empty."""
    provenance: str
    """`verified` or `unverified`."""
    source: str
    """Where it came from."""
    adapter: str | None = None
    """Name of the LoRA adapter that is put onto it."""
    digest: str = ""
    """SHA-256 of its weights, as `InventoryEntry` has it; empty where none is known."""
    modified_seconds: float | None = None
    """When its weights were last written, POSIX seconds."""


@frozen
class ListModels(Request[tuple[ModelState, ...]]):
    """Every model that the server knows by name, and which is in use."""


@frozen(kw_only=True)
class ModelDetails:
    """What its files say of a model that is on this machine."""

    state: ModelState
    need_bytes: int | None
    """Memory of its weights once they are loaded; None where the files do not tell."""
    calibration: tuple[int, tuple[tuple[float, float], ...]] | None
    """What `leanvibe model calibrate` measured: how many answers, and pairs of confidence and the share that was right."""


@frozen
class DescribeModels(Request[tuple[ModelDetails, ...]]):
    """Every model that the server knows by name, with what its files say: reads them, so it is for people who look."""


@frozen(kw_only=True)
class ModelChanged:
    """A model was loaded or unloaded."""

    model: str
    state: str
    """`loaded` or `unloaded`."""
    worker_pid: int | None


@frozen
class LoadModel(Request[ModelChanged]):
    """Load a model by its name and let it take over; answered once new requests go to it.

    Refused with `ModelRefused`; then what served before still does. An asker that leaves changes nothing about the load.
    """

    name: str


@frozen
class UnloadModel(Request[ModelChanged]):
    """Let the model in use finish its answers, then end its process; the next request loads it again.

    Answered once the process is gone. Refused with `ModelRefused`.
    """

    name: str


@frozen
class KillEngine(Request[int]):
    """Kill the process of the engine in use, as `kill -9` does, and answer its id. Refused with `ModelRefused`.

    For operators who want to see that answers go on.
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
"""All that other services may ask of this one."""
