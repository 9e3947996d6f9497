"""The whole server, for promises that are kept at its doors."""

from tests.server_fixture import engineless_server, server

__all__ = ["engineless_server", "server"]
