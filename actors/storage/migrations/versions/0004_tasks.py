"""Tasks, their history and the settings of boards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make its tables."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("position", sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql"), nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("attachments", sa.Text, nullable=False),
        sa.Column("agent_decision", sa.Text),
        sa.Column("assignee", sa.String(128)),
        sa.Column("estimate_hours", sa.Float),
        sa.Column("actual_hours", sa.Float),
        sa.Column("due_ms", sa.BigInteger),
        sa.Column("confidence", sa.Float),
        sa.Column("ai_analysis", sa.Text),
        sa.Column("ai_analysis_status", sa.String(16), nullable=False),
        sa.Column("ai_analysis_confidence", sa.Float),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("entered_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("due_told_ms", sa.BigInteger),
        sa.Column("search_text", sa.Text, nullable=False),
    )
    op.create_index("tasks_by_place", "tasks", ["client_id", "project", "status", "position", "id"])
    op.create_index("tasks_by_creation", "tasks", ["client_id", "created_ms", "id"])
    op.create_index("tasks_by_update", "tasks", ["client_id", "updated_ms", "id"])
    op.create_index("tasks_by_due", "tasks", ["due_ms"])
    op.create_index("tasks_by_analysis", "tasks", ["ai_analysis_status", "created_ms"])
    op.create_table(
        "task_tags",
        sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", sa.String(64), primary_key=True),
    )
    op.create_table(
        "task_dependencies",
        sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("depends_on", sa.String(36), sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_index("dependents", "task_dependencies", ["depends_on"])
    op.create_table(
        "task_history",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("from_status", sa.String(16)),
        sa.Column("to_status", sa.String(16)),
        sa.Column("stay_ms", sa.BigInteger),
        sa.Column("cycle_ms", sa.BigInteger),
        sa.Column("changes", sa.Text, nullable=False),
    )
    op.create_index("history_of_task", "task_history", ["client_id", "task_id", "number"])
    op.create_index("history_of_columns", "task_history", ["client_id", "to_status", "time_ms"])
    op.create_table(
        "board_limits",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("status", sa.String(16), primary_key=True),
        sa.Column("most", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("board_limits")
    op.drop_table("task_history")
    op.drop_table("task_dependencies")
    op.drop_table("task_tags")
    op.drop_table("tasks")
