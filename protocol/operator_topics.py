"""Topics that operators watch on the running server.

`watch` names topics; while a connection watches one, the server sends its complete state once and then the changes. A
client that reads slowly gets fewer and larger changes, never a queue of them.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from protocol.validation import between, each, length, plain_text

__all__ = [
    "PATH_CHARACTERS",
    "TOPICS",
    "TOPIC_KEYS",
    "CalibrationData",
    "CalibrationPoint",
    "ClientsChanged",
    "ConnectedDevice",
    "DeadLetterData",
    "DeadLettersChanged",
    "EngineData",
    "MailboxData",
    "MetricsChanged",
    "MetricsPoint",
    "ModelData",
    "ModelsChanged",
    "RequestData",
    "RequestsChanged",
    "TraceRecordData",
    "TraceRecords",
    "TraceWish",
    "TreeChanged",
    "TreeNodeData",
    "Watch",
    "Watching",
]

TOPIC_KEYS = {
    "tree": "path",
    "metrics": "time_ms",
    "requests": "id",
    "models": "full_name",
    "dead_letters": "id",
    "clients": "id",
}
"""For each topic the key field of its items, as text in `removed`."""
TOPICS = tuple(TOPIC_KEYS)
"""Topics that can be watched; the server sends them as `TOPIC_changed`."""
PATH_CHARACTERS = 256


def _known_topic(one: Any) -> str | None:
    return None if one in TOPICS else f"must be one of {', '.join(TOPICS)}, not {str(one)[:40]!r}"


@frozen(kw_only=True)
class TraceWish:
    """Traces messages in and out of one actor, by class name, until `maximum` of them were sent or another `watch` arrives."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])
    """Path of the actor in the tree."""
    maximum: int = field(default=200, validator=between(1, 1000))
    """Most records in total."""
    rate_per_second: int = field(default=20, validator=between(1, 100))
    """Most records per second; others are counted as skipped."""


@frozen(kw_only=True)
class Watch:
    """Sets the topics that this connection watches, replacing earlier ones; an empty list ends all. Needs the role `operator`."""

    topics: list[str] = field(factory=list, validator=[length(0, len(TOPICS), "entries"), each(_known_topic)])
    """Names of topics."""
    trace: TraceWish | None = None
    """An actor to trace; its messages are sent as `trace_records`."""


@frozen(kw_only=True)
class Watching:
    """Answers `watch`."""

    topics: list[str]
    trace: str | None = None
    """Path of the traced actor."""


# --- the tree -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class MailboxData:
    """A mailbox at one moment."""

    used: int
    """Messages waiting."""
    capacity: int
    peak: int
    """Most messages that have waited at once in this incarnation."""
    dropped: int
    """Messages dropped or replaced by the overflow policy."""
    blocked_senders: int


@frozen(kw_only=True)
class TreeNodeData:
    """A child of the supervision tree, with the field names of `leanvibe inspect tree --json`."""

    path: str
    """Its ids from the root, joined by `/`; `root` for the root itself. A parent's path is the child's without its last part."""
    kind: str
    """`actor`, or a supervisor's strategy: `one_for_one`, `one_for_all`, `rest_for_one`, `dynamic`."""
    state: str
    """Running actors are `idle`, `busy` or `suspended`."""
    incarnation: int
    restarts: int
    """Restarts over the life of the record."""
    restarts_in_window: int | None = None
    intensity: int | None = None
    started_ms: int | None = None
    """Start of this incarnation, POSIX milliseconds."""
    ready_seconds: float | None = None
    recovery_seconds: float | None = None
    mailbox: MailboxData | None = None
    handled: int | None = None
    """Messages that this incarnation has handled."""
    messages_per_second: float | None = None
    """Rate since the previous sample; None if that was not of this incarnation."""
    current_message: str | None = None
    """Class name of the message being handled."""
    current_age_seconds: float | None = None
    handler_failures: dict[str, int] = field(factory=dict)
    last_error: str | None = None
    """Error of the last incarnation, at most 2000 characters."""
    children_left_out: int = 0
    """For a supervisor with very many children: the number of children omitted."""


@frozen(kw_only=True)
class TreeChanged:
    """The supervision tree, or the changes in it."""

    is_whole: bool
    """True for a complete state, which replaces everything sent before."""
    changed: list[TreeNodeData]
    """New and changed children, parents before their children."""
    removed: list[str]
    """Paths of removed children."""
    is_ready: bool
    reasons: list[str]
    """Reasons why the server is not ready."""
    degraded: list[str]
    """Functions that do not work although the server is ready."""
    slow_steps: int
    """Number of times that the event loop was blocked too long."""


# --- figures ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class MetricsPoint:
    """Measured figures at one moment; figures that could not be measured are absent."""

    time_ms: int
    """POSIX milliseconds."""
    tokens_per_second: float | None = None
    """Token rate over all answers since the previous point."""
    tokens_per_step: float | None = None
    """Tokens per step of the engine since the previous point: rows, and the gain of speculation."""
    first_token_p50_ms: float | None = None
    """Over the last requests that got a token, at most 200."""
    first_token_p99_ms: float | None = None
    running: int
    waiting: int
    kv_bytes: float | None = None
    """Keys and values of live sequences."""
    prefix_bytes: float | None = None
    """Cached prefixes."""
    prefix_hit_rate: float | None = None
    """Share of all prompt tokens so far found in the prefix cache."""
    engine_memory_bytes: float | None = None
    """Resident memory of the engines' processes."""
    server_memory_bytes: float | None = None
    """Resident memory of the server's own process."""
    event_loop_delay_ms: float
    """Lateness of this sample."""
    push_queue: int
    """Messages waiting in the mailboxes of the channels that notify outside of this server."""


@frozen(kw_only=True)
class MetricsChanged:
    """Points since watching began, at most 300, or those added since."""

    is_whole: bool
    changed: list[MetricsPoint]
    removed: list[str]
    """Times of points that were dropped, as text."""


# --- requests -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RequestData:
    """A request to the model, without its text."""

    id: str
    """A serial number."""
    client_id: str
    model: str
    state: str
    """`queued`, `prefill`, `decode` or `ended`."""
    end_reason: str | None = None
    """`stop`, `length`, `cancelled`, `abandoned`, `lost` (with the inference actor), or an error code; None while it runs."""
    accepted_ms: int
    """POSIX milliseconds."""
    queued_ms: float
    """From acceptance to its first place in the batch, or until now if it still waits."""
    prefill_ms: float | None = None
    """From its first place in the batch to its first token."""
    decode_ms: float | None = None
    """From its first token to the end."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens taken from a cache."""
    answer_tokens: int
    engine_restarts: int
    """Number of times that its engine died while it ran."""


@frozen(kw_only=True)
class RequestsChanged:
    """Waiting and running requests and the last 200 that ended, or the changes in them."""

    is_whole: bool
    changed: list[RequestData]
    removed: list[str]
    """Ids of requests that were dropped."""


# --- models -------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class CalibrationPoint:
    """Answers of about one confidence, and the share of correct ones."""

    confidence: float
    rate: float


@frozen(kw_only=True)
class CalibrationData:
    """Result of `leanvibe model calibrate` for a model."""

    items: int
    """Number of answers judged."""
    points: list[CalibrationPoint]


@frozen(kw_only=True)
class ModelData:
    """A model that the server knows by name."""

    name: str
    full_name: str
    state: str
    """As in `GET /models`."""
    is_in_use: bool
    stage: str | None = None
    """Stage of a load, or the reason of its failure."""
    running: int
    """Number of answers in progress."""
    size_bytes: int | None = None
    need_bytes: int | None = None
    """Memory needed to load its weights; None if unknown."""
    type: str
    quantization: str
    provenance: str
    """`verified` if its content is vouched for by a manifest, else `unverified`."""
    source: str
    digest: str
    """SHA-256 of its weights; empty if unknown."""
    calibration: CalibrationData | None = None


@frozen(kw_only=True)
class EngineData:
    """The active engine, as measured."""

    state: str
    model: str
    problem: str | None = None
    worker_pid: int | None = None
    restarts: int
    memory_bytes: dict[str, float]
    """The worker's memory, by purpose."""
    memory_bound_bytes: int | None = None
    """Limit on weights, sequences and caches together."""
    canary_nll: float | None = None
    """Nats per token of the canary text, as measured when the model was loaded."""
    checks: list[dict[str, Any]]
    """Checks made when the model was loaded."""
    warnings: list[str]
    changing_to: str | None = None
    change_stage: str | None = None


@frozen(kw_only=True)
class ModelsChanged:
    """All models, or the changes in them."""

    is_whole: bool
    changed: list[ModelData]
    removed: list[str]
    """Full names of removed models."""
    engine: EngineData | None = None
    """None if the inference service could not be asked."""
    problem: str | None = None
    """The reason why these figures are outdated."""


# --- the rest -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class DeadLetterData:
    """A message that was not handled; only its class is given."""

    id: str
    """A serial number."""
    path: str
    message_type: str
    reason: str
    time_ms: int
    """POSIX milliseconds."""


@frozen(kw_only=True)
class DeadLettersChanged:
    """The last 256 dead letters, or the changes in them."""

    is_whole: bool
    changed: list[DeadLetterData]
    removed: list[str]
    total: int
    counts: dict[str, int]
    """Counts by reason, since the server started."""


@frozen(kw_only=True)
class ConnectedDevice:
    """A client's device that is connected over the WebSocket."""

    id: str
    """Client id and device id, separated by a slash."""
    client_id: str
    device_id: str
    connections: int


@frozen(kw_only=True)
class ClientsChanged:
    """Connected devices, at most 1000, or the changes in them."""

    is_whole: bool
    changed: list[ConnectedDevice]
    removed: list[str]
    problem: str | None = None
    """The reason why this is outdated."""


@frozen(kw_only=True)
class TraceRecordData:
    """A message of a traced actor."""

    direction: str
    """`in` (a tell), `ask` (a request) or `out` (sent by the traced actor)."""
    other: str
    """The sender of an `in` or `ask`, the receiver of an `out`; empty if it is not an actor."""
    message_type: str
    seconds: float
    """Time since the trace began."""


@frozen(kw_only=True)
class TraceRecords:
    """Records of a trace, in order."""

    path: str
    records: list[TraceRecordData]
    skipped: int
    """Messages over the rate so far."""
    is_over: bool
    """True for the last frame."""
