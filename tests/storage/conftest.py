"""Fixtures of this folder."""

from tests.database_fixture import connection, database, database_engine
from tests.postgresql_fixture import postgresql_database

__all__ = ["connection", "database", "database_engine", "postgresql_database"]
