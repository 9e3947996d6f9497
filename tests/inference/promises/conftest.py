"""The whole server, for promises that hold at its transports."""

from tests.server_fixture import engineless_server, server

__all__ = ["engineless_server", "server"]
