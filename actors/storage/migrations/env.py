"""Alembic's entry point. It receives a connection and never opens its own."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
# SQLite cannot alter most things in place; Alembic copies the table then.
context.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
