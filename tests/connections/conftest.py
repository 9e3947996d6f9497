"""Fixtures of this folder: the running servers."""

from tests.server_fixture import engineless_server, server

__all__ = ["engineless_server", "server"]
