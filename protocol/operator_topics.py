"""What operators watch of the running server.

`watch` names topics; while a connection watches one, the server sends its whole state once and then what changed of it. A
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
"""Of each topic the field that its things are known by, as text in `removed`."""
TOPICS = tuple(TOPIC_KEYS)
"""What may be watched; the server tells it by the message `TOPIC_changed`."""
PATH_CHARACTERS = 256


def _known_topic(one: Any) -> str | None:
    return None if one in TOPICS else f"must be one of {', '.join(TOPICS)}, not {str(one)[:40]!r}"


@frozen(kw_only=True)
class TraceWish:
    """Messages in and out of one actor, by their class names, until `maximum` of them were told or another `watch` comes."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])
    """Of the actor, as the tree names it."""
    maximum: int = field(default=200, validator=between(1, 1000))
    """Most records in all."""
    rate_per_second: int = field(default=20, validator=between(1, 100))
    """Most records a second; what is over it is counted as skipped."""


@frozen(kw_only=True)
class Watch:
    """Which topics this connection watches from now on, in place of those before; none ends all. Needs the role `operator`."""

    topics: list[str] = field(factory=list, validator=[length(0, len(TOPICS), "entries"), each(_known_topic)])
    """Names of topics."""
    trace: TraceWish | None = None
    """One actor whose messages are told by `trace_records`."""


@frozen(kw_only=True)
class Watching:
    """Answers `watch`."""

    topics: list[str]
    trace: str | None = None
    """Path of the actor that is traced."""


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
    """One child of the supervision tree, under the names that `leanvibe inspect tree --json` uses."""

    path: str
    """Its ids from the root on; `root` for the root itself. A parent's path is that of the child without its last part."""
    kind: str
    """`actor`, or a supervisor's strategy: `one_for_one`, `one_for_all`, `rest_for_one`, `dynamic`."""
    state: str
    """Running actors are `idle`, `busy` or `suspended`."""
    incarnation: int
    restarts: int
    """Over the life of the record."""
    restarts_in_window: int | None = None
    intensity: int | None = None
    started_ms: int | None = None
    """When this incarnation started, POSIX milliseconds."""
    ready_seconds: float | None = None
    recovery_seconds: float | None = None
    mailbox: MailboxData | None = None
    handled: int | None = None
    """Messages that this incarnation has handled."""
    messages_per_second: float | None = None
    """Over the time since the collection before; None where there was none of this incarnation."""
    current_message: str | None = None
    """Class name of the message being handled."""
    current_age_seconds: float | None = None
    handler_failures: dict[str, int] = field(factory=dict)
    last_error: str | None = None
    """What the last incarnation raised, in 2000 characters at most."""
    children_left_out: int = 0
    """Of a supervisor with very many children: how many are not told."""


@frozen(kw_only=True)
class TreeChanged:
    """The supervision tree, or what changed of it."""

    is_whole: bool
    """True where it is everything, and nothing told before holds any more."""
    changed: list[TreeNodeData]
    """New and changed children, a parent before its children."""
    removed: list[str]
    """Paths of those that are gone."""
    is_ready: bool
    reasons: list[str]
    """Why the server is not ready."""
    degraded: list[str]
    """What does not work while it is."""
    slow_steps: int
    """How often something has held the event loop too long."""


# --- figures ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class MetricsPoint:
    """Figures of one moment, each measured; one that could not be measured is left out."""

    time_ms: int
    """POSIX milliseconds."""
    tokens_per_second: float | None = None
    """Tokens of all answers since the point before."""
    tokens_per_step: float | None = None
    """Tokens that a step of the engine brought, since the point before: rows, and what speculation adds."""
    first_token_p50_ms: float | None = None
    """Of the last requests that got a token, 200 at most."""
    first_token_p99_ms: float | None = None
    running: int
    waiting: int
    kv_bytes: float | None = None
    """Keys and values of live sequences."""
    prefix_bytes: float | None = None
    """Cached prefixes."""
    prefix_hit_rate: float | None = None
    """Share of all prompt tokens so far that was found in the prefix cache."""
    engine_memory_bytes: float | None = None
    """Resident memory of the engines' processes."""
    server_memory_bytes: float | None = None
    """Resident memory of the server's own process."""
    event_loop_delay_ms: float
    """By how much the collection came later than it was due."""
    push_queue: int
    """Messages that wait in the mailboxes of the channels that notify outside of this server."""


@frozen(kw_only=True)
class MetricsChanged:
    """Points of the time since somebody began to look, 300 at most, or those that came since."""

    is_whole: bool
    changed: list[MetricsPoint]
    removed: list[str]
    """Times of the points that are no longer kept, as text."""


# --- requests -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RequestData:
    """One request to the model: never its text."""

    id: str
    """A running number."""
    client_id: str
    model: str
    state: str
    """`queued`, `prefill`, `decode` or `ended`."""
    end_reason: str | None = None
    """`stop`, `length`, `cancelled`, `abandoned`, `lost` (with the inference actor), or an error code; None while it runs."""
    accepted_ms: int
    """POSIX milliseconds."""
    queued_ms: float
    """From acceptance to its first row, so far where it still waits."""
    prefill_ms: float | None = None
    """From its first row to its first token."""
    decode_ms: float | None = None
    """From its first token to the end."""
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, those that were not computed again."""
    answer_tokens: int
    engine_restarts: int
    """How often its engine died under it."""


@frozen(kw_only=True)
class RequestsChanged:
    """Requests that wait or run, and the last 200 that ended; or what changed of them."""

    is_whole: bool
    changed: list[RequestData]
    removed: list[str]
    """Ids of those that are no longer kept."""


# --- models -------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class CalibrationPoint:
    """Answers of about one confidence, and which share of them was right."""

    confidence: float
    rate: float


@frozen(kw_only=True)
class CalibrationData:
    """What `leanvibe model calibrate` measured of a model."""

    items: int
    """How many answers were judged."""
    points: list[CalibrationPoint]


@frozen(kw_only=True)
class ModelData:
    """One model that the server knows by name."""

    name: str
    full_name: str
    state: str
    """As `GET /models` has it."""
    is_in_use: bool
    stage: str | None = None
    """What a load is doing, or why it failed."""
    running: int
    """Its answers in the making."""
    size_bytes: int | None = None
    need_bytes: int | None = None
    """Memory that its weights take once they are loaded; None where that cannot be told."""
    type: str
    quantization: str
    provenance: str
    """Whether somebody vouches for its content: `verified` or `unverified`."""
    source: str
    digest: str
    """SHA-256 of its weights; empty where none is known."""
    calibration: CalibrationData | None = None


@frozen(kw_only=True)
class EngineData:
    """The engine in use, as measured."""

    state: str
    model: str
    problem: str | None = None
    worker_pid: int | None = None
    restarts: int
    memory_bytes: dict[str, float]
    """What the worker holds, by what holds it."""
    memory_bound_bytes: int | None = None
    """What weights, sequences and caches may hold together."""
    canary_nll: float | None = None
    """Nats per token of the canary text, as measured when the model was loaded."""
    checks: list[dict[str, Any]]
    """What was looked at before it was believed."""
    warnings: list[str]
    changing_to: str | None = None
    change_stage: str | None = None


@frozen(kw_only=True)
class ModelsChanged:
    """All models, or what changed of them."""

    is_whole: bool
    changed: list[ModelData]
    removed: list[str]
    """Full names of those that are gone."""
    engine: EngineData | None = None
    """None where the inference service could not be asked."""
    problem: str | None = None
    """Why these figures are older than they should be."""


# --- the rest -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class DeadLetterData:
    """One message that nobody handled, by its class alone."""

    id: str
    """A running number."""
    path: str
    message_type: str
    reason: str
    time_ms: int
    """POSIX milliseconds."""


@frozen(kw_only=True)
class DeadLettersChanged:
    """The last 256 dead letters, or what changed of them."""

    is_whole: bool
    changed: list[DeadLetterData]
    removed: list[str]
    total: int
    counts: dict[str, int]
    """By reason, since the server started."""


@frozen(kw_only=True)
class ConnectedDevice:
    """One device of one client that is connected over the WebSocket."""

    id: str
    """Client id and device id, with a slash between them."""
    client_id: str
    device_id: str
    connections: int


@frozen(kw_only=True)
class ClientsChanged:
    """Who is connected, or what changed of it; 1000 devices at most."""

    is_whole: bool
    changed: list[ConnectedDevice]
    removed: list[str]
    problem: str | None = None
    """Why this is older than it should be."""


@frozen(kw_only=True)
class TraceRecordData:
    """One message of a traced actor."""

    direction: str
    """`in` (told), `ask` (asked) or `out` (sent by the traced actor)."""
    other: str
    """The sender of an `in` or `ask`, the receiver of an `out`; empty where it is no actor."""
    message_type: str
    seconds: float
    """Since the trace began."""


@frozen(kw_only=True)
class TraceRecords:
    """Records of a trace, in order."""

    path: str
    records: list[TraceRecordData]
    skipped: int
    """Messages over the rate so far."""
    is_over: bool
    """True of the last of them."""
