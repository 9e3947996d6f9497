"""Fixtures of this folder."""

from tests.database_fixture import connection, database, database_engine

__all__ = ["connection", "database", "database_engine"]
