"""Fixtures of this folder: a server for each test, and a migrated database for the store's."""

from tests.database_fixture import connection, database, database_engine
from tests.server_fixture import engineless_server, server

__all__ = ["connection", "database", "database_engine", "engineless_server", "server"]
