"""Fixtures of this folder."""

from tests.postgresql_fixture import postgresql_database
from tests.redis_fixture import redis

__all__ = ["postgresql_database", "redis"]
