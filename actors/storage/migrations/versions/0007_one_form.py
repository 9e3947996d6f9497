"""Normalise names, tags and search texts to NFC, because text in another form was never found."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

tasks = sa.table(
    "tasks",
    *(sa.column(name) for name in ("id", "project", "assignee", "tags", "title", "description", "search_text")),
)
task_tags = sa.table("task_tags", sa.column("task_id"), sa.column("tag"))
board_limits = sa.table("board_limits", *(sa.column(name) for name in ("client_id", "project", "status", "most")))
task_history = sa.table("task_history", sa.column("number"), sa.column("project"))


def upgrade() -> None:
    """Normalise every row. If two become equal, the first stays."""
    connection = op.get_bind()
    for row in _rows(connection, tasks):
        names = [_form(one) for one in json.loads(row.tags)]
        values = {
            "project": _form(row.project),
            "assignee": None if row.assignee is None else _form(row.assignee),
            "tags": json.dumps(list(dict.fromkeys(names)), ensure_ascii=False, separators=(",", ":"))
            if names != json.loads(row.tags)
            else row.tags,
            "search_text": _form(row.search_text),
        }
        changed = {name: value for name, value in values.items() if value != getattr(row, name)}
        if changed:
            connection.execute(tasks.update().where(tasks.c.id == row.id).values(**changed))
    for row in _rows(connection, task_tags):
        key = (task_tags.c.task_id == row.task_id, task_tags.c.tag)
        if (tag := _form(row.tag)) != row.tag:
            connection.execute(task_tags.delete().where(key[0], key[1] == row.tag))
            if connection.execute(sa.select(task_tags.c.tag).where(key[0], key[1] == tag)).first() is None:
                connection.execute(task_tags.insert().values(task_id=row.task_id, tag=tag))
    for row in _rows(connection, board_limits):
        limits = board_limits.c
        here = (limits.client_id == row.client_id, limits.status == row.status)
        if (project := _form(row.project)) != row.project:
            connection.execute(board_limits.delete().where(*here, limits.project == row.project))
            if connection.execute(sa.select(limits.most).where(*here, limits.project == project)).first() is None:
                values = {"client_id": row.client_id, "project": project, "status": row.status, "most": row.most}
                connection.execute(board_limits.insert().values(**values))
    projects = sa.select(task_history.c.project).distinct()
    for project in connection.execute(projects).scalars().all():
        if _form(project) != project:
            there = task_history.c.project == project
            connection.execute(task_history.update().where(there).values(project=_form(project)))


def downgrade() -> None:
    """Do nothing: an older program accepts either form."""


def _rows(connection: sa.Connection, table: Any) -> list[Any]:
    """Return the rows that may need normalising, read before any is changed."""
    found = connection.execute(sa.select(table).execution_options(yield_per=1000))
    return [row for row in found if any(type(one) is str and not one.isascii() for one in row)]


def _form(text: str) -> str:
    return unicodedata.normalize("NFC", text)
