"""The `Task` and its parts, and the validators of their fields."""

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
"""Proposals with less confidence than this need a person's approval."""
MAXIMUM_LINKS = 64
UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
BLANK = " \t\r\n\u00a0\u3000"
PRINTED_PATTERN = rf"^[^{CONTROLS}]*[^ \t\r\n\u00a0\u3000{CONTROLS}][^{CONTROLS}]*$"
# RFC 3339 as a pattern for any JSON Schema validator, from 1970 on: days of each month, and leap days of leap years.
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
    """Importance of a task, lowest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0 for `low`, ascending."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(TaskPriority)}


class Approval(enum.Enum):
    """A person's verdict on an agent's proposal."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    MODIFIED = "modified"


class AnalysisStatus(enum.Enum):
    """State of the model's analysis of a task."""

    NONE = "none"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


# --- validators ---------------------------------------------------------------------------------------


def printed_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: plain text that is not blank; None passes."""
    problem = None if value is None else _printed_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)


def _printed_problem(value: str) -> str | None:
    return control_problem(value) or (None if value.strip(BLANK) else "must not be blank")


def uuid_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: a UUID in its usual form (RFC 9562, lower case); None passes."""
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
    """POSIX milliseconds of an RFC 3339 date and time with offset; None if invalid or before 1970.

    Digits finer than a millisecond are dropped, so that a value returned by the server parses to the same time.
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
    """Validator: an RFC 3339 date and time with offset, not before 1970; None passes."""
    if value is not None and parse_moment_ms(value) is None:
        raise FieldFault(attribute.name, f"must be an RFC 3339 date and time with its offset, not {value[:40]!r}")


def _without_doubles(_: object, attribute: Attribute[Any], value: list[str] | None) -> None:
    if value is not None and len(set(value)) != len(value):
        raise FieldFault(attribute.name, "must not contain duplicates")


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
    """An external object that belongs to a task; the server never opens it."""

    name: str = field(validator=[length(1, 255, "characters"), printed_text])
    """Display name."""
    reference: str = field(validator=[length(1, 1024, "characters"), plain_text])
    """Location: a URL or a path of the client's own."""
    kind: str = field(default="other", validator=[length(1, 64, "characters"), plain_text])
    """Kind, such as `image`, `document`, `code`, `log`."""


@frozen(kw_only=True)
class Proposal:
    """An agent's proposal for a task."""

    recommendation: str = field(validator=[length(1, 4000, "characters"), printed_text])
    """Recommended action."""
    reasoning: str = field(default="", validator=[length(0, 8000, "characters"), plain_text])
    """Reasons for it."""
    confidence: float = field(validator=between(0, 1))
    """The agent's confidence."""
    requires_approval: bool = False
    """Always requires a person's approval; below a confidence of 0.8 it is required anyway."""


@frozen(kw_only=True)
class AgentDecision:
    """A proposal and a person's verdict."""

    recommendation: str
    """Recommended action; empty if a task had low confidence and no agent proposed anything."""
    reasoning: str
    """Reasons for it."""
    confidence: float
    """The agent's confidence, from 0 to 1."""
    requires_approval: bool
    """True if a person must approve."""
    approval: Approval
    """The person's verdict."""
    feedback: str | None = None
    """In the person's own words."""


@frozen(kw_only=True)
class Task:
    """A complete task."""

    id: str
    """A UUID."""
    client_id: str
    """Owner of the task."""
    project: str
    """Board of the task."""
    title: str
    """At most 255 characters."""
    description: str | None = None
    """Work to be done."""
    status: TaskStatus
    """Column of the task."""
    priority: TaskPriority
    """Importance."""
    position: str
    """Sort key within a column, compared byte by byte. Only the server creates it."""
    tags: list[str]
    """Words to find it by."""
    assignee: str | None = None
    """Person or agent responsible for it."""
    estimate_hours: float | None = None
    """Estimated effort."""
    actual_hours: float | None = None
    """Actual effort."""
    due: str | None = None
    """RFC 3339 in UTC."""
    dependencies: list[str]
    """Ids of tasks that must be done before it."""
    attachments: list[Attachment]
    """External objects that belong to it."""
    confidence: float | None = None
    """Creator's confidence in the task, from 0 to 1."""
    agent_decision: AgentDecision | None = None
    """An agent's proposal and a person's verdict."""
    ai_analysis: str | None = None
    """The model's analysis; written only by the model."""
    ai_analysis_status: AnalysisStatus
    """State of the analysis."""
    ai_analysis_confidence: float | None = None
    """Measured: exp(mean log-probability) of the analysis' tokens."""
    is_blocked: bool
    """True if a dependency is not done."""
    requires_approval: bool
    """True if a person must decide: on an open proposal, or a confidence below 0.8 that was not reviewed."""
    version: int
    """1 at first, increased by every change of a person or an agent."""
    created: str
    """RFC 3339 in UTC."""
    updated: str
    """RFC 3339 in UTC."""
