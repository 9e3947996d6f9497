"""Shares the running servers with this folder."""

from tests.server_fixture import server

__all__ = ["server"]
