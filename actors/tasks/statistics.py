"""Statistics of a board, computed from stored data. A value without any measurement is None."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from actors.tasks.context import CommandContext
from actors.tasks.queries import blocked, counts_by_status
from actors.tasks.rows import PRIORITIES
from actors.tasks.tables import history, tasks
from actors.tasks.wip_limits import limits_of
from protocol.task_answers import ColumnFigures, TaskStatistics
from protocol.task_model import TaskPriority, TaskStatus
from protocol.tasks import TaskStats

__all__ = ["read_statistics"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MEASURED_DAYS = 90
RATE_DAYS = 30
BETWEEN = (TaskStatus.TODO, TaskStatus.IN_PROGRESS, TaskStatus.TESTING)


def read_statistics(connection: Connection, context: CommandContext[TaskStats]) -> TaskStatistics:
    """Compute the statistics of one project, or of all of a client's."""
    project, now_ms = context.data.project, context.now_ms
    mine: list[Any] = [tasks.c.client_id == context.client_id]
    past: list[Any] = [history.c.client_id == context.client_id]
    if project is not None:
        mine.append(tasks.c.project == project)
        past.append(history.c.project == project)
    counts = counts_by_status(connection, context.client_id, project)
    columns = _columns(connection, past, counts, context)
    measured = [one for one in columns if one.status in BETWEEN and one.mean_stay_hours is not None]
    cycles = connection.execute(
        select(func.count(history.c.cycle_ms).label("found"), func.avg(history.c.cycle_ms).label("mean")).where(
            *past,
            history.c.to_status == TaskStatus.DONE.value,
            history.c.time_ms.between(now_ms - MEASURED_DAYS * DAY_MS, now_ms),
        )
    ).one()
    return TaskStatistics(
        project=project,
        count=sum(counts.values()),
        by_status={one.value: counts.get(one, 0) for one in TaskStatus},
        by_priority=_by_priority(connection, mine),
        blocked=_count(connection, [*mine, blocked()]),
        overdue=_count(connection, [*mine, tasks.c.status != TaskStatus.DONE.value, tasks.c.due_ms < now_ms]),
        done_today=_done_between(connection, past, now_ms - now_ms % DAY_MS, now_ms),
        done_7_days=_done_between(connection, past, now_ms - 7 * DAY_MS, now_ms),
        done_per_day=_rate(connection, past, now_ms),
        mean_cycle_hours=_hours(cycles.mean),
        cycles=cycles.found,
        columns=columns,
        bottleneck=max(measured, key=lambda one: one.mean_stay_hours or 0.0).status if measured else None,
    )


def _columns(
    connection: Connection, past: list[Any], counts: dict[TaskStatus, int], context: CommandContext[TaskStats]
) -> list[ColumnFigures]:
    limits = {} if context.data.project is None else limits_of(connection, context.client_id, context.data.project)
    stays = {
        row.from_status: row
        for row in connection.execute(
            select(
                history.c.from_status,
                func.count(history.c.stay_ms).label("found"),
                func.avg(history.c.stay_ms).label("mean"),
            )
            .where(
                *past,
                history.c.from_status.is_not(None),
                history.c.time_ms.between(context.now_ms - MEASURED_DAYS * DAY_MS, context.now_ms),
            )
            .group_by(history.c.from_status)
        )
    }
    figures: list[ColumnFigures] = []
    for status in TaskStatus:
        stay, most, count = stays.get(status.value), limits.get(status), counts.get(status, 0)
        figures.append(
            ColumnFigures(
                status=status,
                count=count,
                limit=most,
                use=None if most is None else count / most,
                mean_stay_hours=None if stay is None else _hours(stay.mean),
                stays=0 if stay is None else stay.found,
            )
        )
    return figures


def _by_priority(connection: Connection, mine: list[Any]) -> dict[str, int]:
    rows = connection.execute(
        select(tasks.c.priority, func.count().label("found")).where(*mine).group_by(tasks.c.priority)
    )
    found = {PRIORITIES[row.priority]: row.found for row in rows}
    return {one.value: found.get(one, 0) for one in TaskPriority}


def _count(connection: Connection, conditions: list[Any]) -> int:
    return connection.execute(select(func.count()).select_from(tasks).where(*conditions)).scalar_one()


def _done_between(connection: Connection, past: list[Any], since_ms: int, now_ms: int) -> int:
    """Count tasks completed in this period. Entries in the future, from a clock that was ahead, do not count yet."""
    return connection.execute(
        select(func.count())
        .select_from(history)
        .where(
            *past,
            history.c.kind != "created",
            history.c.to_status == TaskStatus.DONE.value,
            history.c.time_ms.between(since_ms, now_ms),
        )
    ).scalar_one()


def _rate(connection: Connection, past: list[Any], now_ms: int) -> float:
    """Tasks completed per day over the last 30 days, or since the first history entry, but at least one day."""
    first: int | None = connection.execute(select(func.min(history.c.time_ms)).where(*past)).scalar()
    if first is None:
        return 0.0
    days = min(RATE_DAYS, max(1.0, (now_ms - first) / DAY_MS))
    return _done_between(connection, past, now_ms - RATE_DAYS * DAY_MS, now_ms) / days


def _hours(mean_ms: Any) -> float | None:
    return None if mean_ms is None else float(mean_ms) / HOUR_MS
