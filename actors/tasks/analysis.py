"""The model's analysis of a task: what it is asked, and how its answer is kept."""

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
"""JSON of the longest analysis; what is beyond is cut and marked."""
ANALYSIS_TOKENS = 192
PENDING_AT_ONCE = 16
# With the task and not in a message of the system's: small models greet instead of answering when those stand apart.
QUESTION = (
    "Here is a task of a software project. Explain in a few sentences what has to be done, in which steps, and what "
    "could go wrong."
)


@frozen(kw_only=True)
class PendingAnalysis:
    """A task that waits for its analysis."""

    client_id: str
    task_id: str
    title: str = field(repr=False)
    description: str | None = field(repr=False)


@frozen(kw_only=True)
class PendingAnalysesQuery:
    """Asks for the tasks that have waited longest."""

    but: frozenset[str] = frozenset()
    """Ids of those that are being worked on."""


@frozen(kw_only=True)
class AnalysisFound:
    """What became of an analysis."""

    task_id: str
    text: str | None = field(repr=False)
    """What the model said; None where it failed."""
    confidence: float | None
    """Measured, with the text."""


def wants_analysis(data: object) -> bool:
    """Does this command make a task that waits for an analysis?"""
    match data:
        case TaskCreate():
            return data.analyze_with_ai
        case TaskBulk():
            return any(item.create is not None and item.create.analyze_with_ai for item in data.items)
    return False


def question(pending: PendingAnalysis) -> Generate:
    """What the model is asked."""
    wanted = f"{QUESTION}\n\nTask: {pending.title}"
    if pending.description:
        wanted += f"\n{pending.description}"
    return Generate(messages=[ChatMessage(Role.USER, wanted)], max_tokens=ANALYSIS_TOKENS)


def find_pending(connection: Connection, wanted: PendingAnalysesQuery) -> list[PendingAnalysis]:
    """Tasks that wait for their analysis, oldest first."""
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
    """Keep an analysis, or that there is none. The version stays: nobody who edits the task is in the way of this.

    A task that is gone or waits no longer is left alone, so an analysis that was made twice counts once.
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
    """As much of the text as has at most so many bytes of JSON without its quotes, and whether that is less than all."""
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
