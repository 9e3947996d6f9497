"""Tables of the tasks service. Data derived from other tasks, such as being blocked, is computed on reading and never
stored.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

__all__ = ["board_limits", "history", "metadata", "task_claims", "task_dependencies", "task_tags", "tasks"]

metadata = MetaData()

# Positions are compared byte by byte, which SQLite does by default and PostgreSQL in this collation.
Position = String(64).with_variant(String(64, collation="C"), "postgresql")
Number = BigInteger().with_variant(Integer(), "sqlite")

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("project", String(128), nullable=False),
    Column("title", String(255), nullable=False),
    Column("description", Text),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("position", Position, nullable=False),
    # JSON arrays and objects.
    Column("tags", Text, nullable=False),
    Column("attachments", Text, nullable=False),
    Column("agent_decision", Text),
    Column("assignee", String(128)),
    Column("estimate_hours", Float),
    Column("actual_hours", Float),
    Column("due_ms", BigInteger),
    Column("confidence", Float),
    Column("ai_analysis", Text),
    Column("ai_analysis_status", String(16), nullable=False),
    Column("ai_analysis_confidence", Float),
    Column("version", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # Time at which it entered its column.
    Column("entered_ms", BigInteger, nullable=False),
    # Time at which the current work on it began.
    Column("started_ms", BigInteger),
    # The due date that was announced.
    Column("due_told_ms", BigInteger),
    # Title, description and tags, case-folded by Unicode rules, so that both databases find the same.
    Column("search_text", Text, nullable=False),
    Index("tasks_by_place", "client_id", "project", "status", "position", "id"),
    Index("tasks_by_creation", "client_id", "created_ms", "id"),
    Index("tasks_by_update", "client_id", "updated_ms", "id"),
    Index("tasks_by_due", "due_ms"),
    Index("tasks_by_analysis", "ai_analysis_status", "created_ms"),
)

task_tags = Table(
    "task_tags",
    metadata,
    Column("task_id", String(36), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(64), primary_key=True),
)

task_dependencies = Table(
    "task_dependencies",
    metadata,
    Column("task_id", String(36), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("depends_on", String(36), ForeignKey("tasks.id"), primary_key=True),
    # Order in the task's list.
    Column("place", Integer, nullable=False),
    Index("dependents", "depends_on"),
)

history = Table(
    "task_history",
    metadata,
    Column("number", Number, primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Not a foreign key: history outlives its task.
    Column("task_id", String(36), nullable=False),
    Column("project", String(128), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("device_id", String(64), nullable=False),
    # Set if the column changed: the column left and the time spent there, the new column, and at `done` the total
    # time.
    Column("from_status", String(16)),
    Column("to_status", String(16)),
    Column("stay_ms", BigInteger),
    Column("cycle_ms", BigInteger),
    Column("changes", Text, nullable=False),
    Index("history_of_task", "client_id", "task_id", "number"),
    Index("history_of_columns", "client_id", "to_status", "time_ms"),
)

board_limits = Table(
    "board_limits",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("project", String(128), primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("most", Integer, nullable=False),
)

task_claims = Table(
    "task_claims",
    metadata,
    Column("task_id", String(36), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Shown by its holder to renew or release it.
    Column("lease", String(36), nullable=False),
    Column("holder", String(128), nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    # The column and assignee to restore when the task is returned.
    Column("from_status", String(16), nullable=False),
    Column("from_assignee", String(128)),
    Index("claims_by_end", "until_ms"),
)
