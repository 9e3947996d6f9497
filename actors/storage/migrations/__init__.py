"""Alembic's migrations of the whole database, one chain for all rooms."""
