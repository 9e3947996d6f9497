"""Shares the running servers with this folder."""

from tests.server_fixture import engineless_server, server

__all__ = ["engineless_server", "server"]
