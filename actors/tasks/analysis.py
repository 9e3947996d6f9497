"""Analysis of tasks by the model: the question, and storage of the answer."""

from __future__ import annotations

from attrs import evolve, field, frozen
from sqlalchemy import Connection, select, update

from actors.storage.messages import LogEvent, Outcome
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.context import CommandContext
from actors.tasks.rows import find_task
from actors.tasks.tables import tasks
from protocol.codec import encode
from protocol.commands import ChatMessage, Generate, Role
from protocol.task_model import AnalysisStatus, Task
from protocol.tasks import TaskBulk, TaskCreate

__all__ = [
    "ANALYSIS_BYTES",
    "AnalysisFound",
    "PendingAnalysesQuery",
    "PendingAnalysis",
    "cut_to",
    "find_pending",
    "question",
    "record_analysis",
    "wants_analysis",
]

ANALYSIS_BYTES = 16 * 1024
"""Maximum size of an analysis as JSON; longer ones are truncated and marked."""
ANALYSIS_TOKENS = 192
PENDING_AT_ONCE = 16
# In the same message as the task: with a separate system message, small models greet instead of answering.
QUESTION = (
    "Here is a task of a software project. Explain in a few sentences what has to be done, in which steps, and what "
    "could go wrong."
)


@frozen(kw_only=True)
class PendingAnalysis:
    """A task with a pending analysis."""

    client_id: str
    task_id: str
    title: str = field(repr=False)
    description: str | None = field(repr=False)


@frozen(kw_only=True)
class PendingAnalysesQuery:
    """Selects the tasks that have waited longest."""

    but: frozenset[str] = frozenset()
    """Ids of tasks being analysed now."""


@frozen(kw_only=True)
class AnalysisFound:
    """The outcome of an analysis."""

    task_id: str
    text: str | None = field(repr=False)
    """The model's answer; None if it failed."""
    confidence: float | None
    """Measured together with the text."""


def wants_analysis(data: object) -> bool:
    """True if this command creates a task with a pending analysis."""
    match data:
        case TaskCreate():
            return data.analyze_with_ai
        case TaskBulk():
            return any(item.create is not None and item.create.analyze_with_ai for item in data.items)
    return False


def question(pending: PendingAnalysis) -> Generate:
    """Build the question for the model."""
    wanted = f"{QUESTION}\n\nTask: {pending.title}"
    if pending.description:
        wanted += f"\n{pending.description}"
    return Generate(messages=[ChatMessage(Role.USER, wanted)], max_tokens=ANALYSIS_TOKENS)


def find_pending(connection: Connection, wanted: PendingAnalysesQuery) -> list[PendingAnalysis]:
    """Return tasks with a pending analysis, oldest first."""
    rows = connection.execute(
        select(tasks.c.client_id, tasks.c.id, tasks.c.title, tasks.c.description)
        .where(tasks.c.ai_analysis_status == AnalysisStatus.PENDING.value, tasks.c.id.not_in(sorted(wanted.but)))
        .order_by(tasks.c.created_ms, tasks.c.id)
        .limit(PENDING_AT_ONCE)
    )
    return [
        PendingAnalysis(client_id=row.client_id, task_id=row.id, title=row.title, description=row.description)
        for row in rows
    ]


def record_analysis(connection: Connection, context: CommandContext[AnalysisFound]) -> Outcome[Task | None]:
    """Store an analysis or its failure. The version does not change, so that editing the task does not conflict with
    it.

    Tasks that were deleted, or have no pending analysis, are left alone, so that a repeated analysis counts once.
    """
    found = context.data
    stored = find_task(connection, context.client_id, found.task_id)
    if stored is None or stored.task.ai_analysis_status is not AnalysisStatus.PENDING:
        return Outcome(value=None)
    text, is_cut = (None, False) if found.text is None else cut_to(found.text, ANALYSIS_BYTES)
    status = AnalysisStatus.FAILED if text is None else AnalysisStatus.DONE
    connection.execute(
        update(tasks)
        .where(tasks.c.id == found.task_id)
        .values(ai_analysis=text, ai_analysis_status=status.value, ai_analysis_confidence=found.confidence)
    )
    task = evolve(stored.task, ai_analysis=text, ai_analysis_status=status, ai_analysis_confidence=found.confidence)
    recorder = ChangeRecorder()
    if text is not None:
        data = {"command": "task_create", "task_id": task.id, "analysis": text}
        recorder.events.append(
            LogEvent(type="ai_response", channel="ai", data=data | ({"truncated": True} if is_cut else {}))
        )
        recorder.trigger("analysis_done", task)
    recorder.publish("task_updated", task)
    outcome: Outcome[Task | None] = recorder.outcome(task)
    return outcome


def cut_to(text: str, most_bytes: int) -> tuple[str, bool]:
    """Return as much of the text as fits as JSON without its quotes, and True if it was truncated."""
    text = text.replace("\0", "\ufffd")
    if _size(text) <= most_bytes:
        return text, False
    low, high = 0, min(len(text), most_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if _size(text[:middle]) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low], True


def _size(text: str) -> int:
    return len(encode([text])) - 4
