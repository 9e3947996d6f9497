"""Fixtures of the assistant's tests."""

from tests.database_fixture import connection, database, database_engine
from tests.server_fixture import engineless_server, server

__all__ = ["connection", "database", "database_engine", "engineless_server", "server"]
