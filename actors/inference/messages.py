"""Requests and events of the inference service. Other services import this module and nothing else of the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ArgumentSyntax
from actors.inference.errors import UNFINISHED, GenerationRefused, ModelRefused
from actors.inference.generation_events import (
    FirstTimes,
    GenerationCancelled,
    GenerationDone,
    GenerationEnded,
    GenerationEvent,
    GenerationFailed,
    GenerationTokens,
    ResumeFrom,
)
from actors.inference.model_messages import (
    DescribeEngine,
    DescribeModels,
    EngineHealth,
    KillEngine,
    ListModels,
    LoadModel,
    ModelChanged,
    ModelDetails,
    ModelState,
    UnloadModel,
)
from actors.inference.text.token_bytes import OneToken
from actors.inference.tools import (  # fmt: skip
    CallableFunction,
    GenerateFromIds,
    GenerateWithTools,
    ReasoningForm,
    ReasoningMarks,
    ToolCallConstraint,
    ToolCallFormat,
    is_held,
)
from actors.storage.messages import IdempotencyKey
from actors.tracing.trace_context import TraceContext
from protocol.commands import Generate, GetProgress
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
