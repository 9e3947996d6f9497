"""What a task is: the thing itself, its parts, and the validators of its fields."""

from __future__ import annotations

import datetime
import enum
import re
import uuid
from typing import Any

from attrs import Attribute, field, frozen

from protocol.validation import CONTROLS, FieldFault, between, control_problem, described, each, length, plain_text

__all__ = [
    "APPROVAL_CONFIDENCE",
    "ATTACHMENTS",
    "DEPENDENCIES",
    "EACH_NAME",
    "MOMENT",
    "NAMES",
    "TAGS",
    "UUID_PATTERN",
    "AgentDecision",
    "AnalysisStatus",
    "Approval",
    "Attachment",
    "Proposal",
    "Task",
    "TaskPriority",
    "TaskStatus",
    "parse_moment_ms",
    "printed_text",
    "uuid_text",
]

APPROVAL_CONFIDENCE = 0.8
"""What is less certain than this waits for a person."""
MAXIMUM_LINKS = 64
UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
BLANK = " \t\r\n\u00a0\u3000"
PRINTED_PATTERN = rf"^[^{CONTROLS}]*[^ \t\r\n\u00a0\u3000{CONTROLS}][^{CONTROLS}]*$"
# RFC 3339 in words that any JSON Schema reader checks, from 1970 on: days of each month, and leap days of leap years.
MOMENT_PATTERN = (
    r"^((19[7-9]\d|[2-9]\d{3})-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"|(19(7[26]|8[048]|9[26])|[2-9]\d([02468][048]|[13579][26]))-02-29)"
    r"[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
LATEST_MS = 253_402_300_799_999
"""End of the year 9999."""
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
)


class TaskStatus(enum.Enum):
    """The columns of a board, from left to right."""

    BACKLOG = "backlog"
    TODO = "todo"
    IN_PROGRESS = "in_progress"
    TESTING = "testing"
    DONE = "done"


class TaskPriority(enum.Enum):
    """How much a task matters, least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0 for `low`, rising."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(TaskPriority)}


class Approval(enum.Enum):
    """What a person said of an agent's proposal."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    MODIFIED = "modified"


class AnalysisStatus(enum.Enum):
    """How far the model is with its analysis of a task."""

    NONE = "none"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


# --- validators ---------------------------------------------------------------------------------------


def printed_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Plain text that is more than white space; None passes."""
    problem = None if value is None else _printed_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)


def _printed_problem(value: str) -> str | None:
    return control_problem(value) or (None if value.strip(BLANK) else "must not be blank")


def uuid_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """A UUID in its usual form (RFC 9562, lower case); None passes."""
    problem = None if value is None else _uuid_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)


def _uuid_problem(value: str) -> str | None:
    try:
        if str(uuid.UUID(value)) == value:
            return None
    except ValueError:
        pass
    return f"must be a UUID in lower case, not {value[:40]!r}"


def _name_problem(value: str) -> str | None:
    if not 1 <= len(value) <= 64:
        return f"must have 1 to 64 characters, not {len(value)}"
    return _printed_problem(value)


def parse_moment_ms(text: str) -> int | None:
    """POSIX milliseconds of an RFC 3339 date and time with offset; None where it is none, or before 1970.

    What is finer than a millisecond is left out, so that what was told back means the same again.
    """
    if not _MOMENT.fullmatch(text):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text.upper())
        milliseconds = (moment - _EPOCH) // datetime.timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
    return milliseconds if 0 <= milliseconds <= LATEST_MS else None


def moment(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """An RFC 3339 date and time with offset, not before 1970; None passes."""
    if value is not None and parse_moment_ms(value) is None:
        raise FieldFault(attribute.name, f"must be an RFC 3339 date and time with its offset, not {value[:40]!r}")


def _without_doubles(_: object, attribute: Attribute[Any], value: list[str] | None) -> None:
    if value is not None and len(set(value)) != len(value):
        raise FieldFault(attribute.name, "must not name the same twice")


described(printed_text, pattern=PRINTED_PATTERN)
described(uuid_text, format="uuid", pattern=UUID_PATTERN)
described(moment, format="date-time", pattern=MOMENT_PATTERN)
described(_without_doubles, uniqueItems=True)

EACH_NAME = each(_name_problem, minLength=1, maxLength=64, pattern=PRINTED_PATTERN)
TAGS = [length(0, 32, "entries"), EACH_NAME, _without_doubles]
DEPENDENCIES = [
    length(0, MAXIMUM_LINKS, "entries"),
    each(_uuid_problem, format="uuid", pattern=UUID_PATTERN),
    _without_doubles,
]
ATTACHMENTS = length(0, MAXIMUM_LINKS, "entries")
NAMES = [length(0, MAXIMUM_LINKS, "entries"), EACH_NAME, _without_doubles]
MOMENT = [length(20, 40, "characters"), moment]


# --- things -------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Attachment:
    """Something that belongs to a task and is kept elsewhere; the server never opens it."""

    name: str = field(validator=[length(1, 255, "characters"), printed_text])
    """What a person calls it."""
    reference: str = field(validator=[length(1, 1024, "characters"), plain_text])
    """Where it is: a URL or a path of the client's own."""
    kind: str = field(default="other", validator=[length(1, 64, "characters"), plain_text])
    """As `image`, `document`, `code`, `log`."""


@frozen(kw_only=True)
class Proposal:
    """What an agent proposes to do with a task."""

    recommendation: str = field(validator=[length(1, 4000, "characters"), printed_text])
    """What to do."""
    reasoning: str = field(default="", validator=[length(0, 8000, "characters"), plain_text])
    """Why."""
    confidence: float = field(validator=between(0, 1))
    """How certain the agent is."""
    requires_approval: bool = False
    """Ask a person in any case; below a confidence of 0.8 one is always asked."""


@frozen(kw_only=True)
class AgentDecision:
    """A proposal and what a person said of it."""

    recommendation: str
    """What to do; empty where a task was unsure of itself and no agent proposed anything."""
    reasoning: str
    """Why."""
    confidence: float
    """How certain the agent is, from 0 to 1."""
    requires_approval: bool
    """Whether a person must be asked."""
    approval: Approval
    """What the person said."""
    feedback: str | None = None
    """In the person's own words."""


@frozen(kw_only=True)
class Task:
    """One task, whole."""

    id: str
    """A UUID."""
    client_id: str
    """Whose it is."""
    project: str
    """Which board it is on."""
    title: str
    """At most 255 characters."""
    description: str | None = None
    """What is to be done."""
    status: TaskStatus
    """Its column."""
    priority: TaskPriority
    """How much it matters."""
    position: str
    """Orders a column: compare byte by byte. Only the server makes one."""
    tags: list[str]
    """Words to find it by."""
    assignee: str | None = None
    """Who does it."""
    estimate_hours: float | None = None
    """How long it was thought to take."""
    actual_hours: float | None = None
    """How long it took."""
    due: str | None = None
    """RFC 3339 in UTC."""
    dependencies: list[str]
    """Ids of tasks that must be done before it."""
    attachments: list[Attachment]
    """What belongs to it and is kept elsewhere."""
    confidence: float | None = None
    """How sure its maker is of it, from 0 to 1."""
    agent_decision: AgentDecision | None = None
    """An agent's proposal and what a person said of it."""
    ai_analysis: str | None = None
    """What the model says of it; never written by anything but the model."""
    ai_analysis_status: AnalysisStatus
    """How far that is."""
    ai_analysis_confidence: float | None = None
    """Measured: exp(mean log-probability) of the analysis' tokens."""
    is_blocked: bool
    """Whether a dependency is not done."""
    requires_approval: bool
    """Whether a person must decide: an open proposal, or a confidence below 0.8 that nobody looked at."""
    version: int
    """1 at first, one more for every change by a person or an agent."""
    created: str
    """RFC 3339 in UTC."""
    updated: str
    """RFC 3339 in UTC."""
