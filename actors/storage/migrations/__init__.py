"""Alembic migrations of the whole database, one chain for all services."""
