"""Shares the running servers and a browser with this folder."""

from tests.console.browser import browser
from tests.server_fixture import engineless_server, server

__all__ = ["browser", "engineless_server", "server"]
