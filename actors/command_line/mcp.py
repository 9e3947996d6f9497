"""`leanvibe mcp`: the running server's tools and resources for programs that speak MCP over a pipe."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from actors.command_line.options import (
    client_name_default,
    client_option,
    data_dir_option,
    fail,
    find_server,
    settings_from,
    url_given,
)
from actors.command_line.place import place_of

__all__ = ["mcp"]


@click.command()
@data_dir_option
@client_option
def mcp(data_dir: Path | None, client_id: str | None) -> None:
    """Speak MCP on standard input and output, for a program that starts this. Ends when its input does."""
    settings = settings_from(data_dir=data_dir)
    place = place_of(settings, client_id or client_name_default(), "mcp")
    if place.rest_url is None:
        fail("MCP is spoken over REST, and --url names a WebSocket; give --url http://HOST:PORT", status=2)
    # Nothing is kept here, and the thread that reads standard input cannot be told to stop: a signal may end all of it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The SDK takes a second to import, which a wrong option need not wait for.
    from actors.command_line.mcp_relay import Target, serve_standard_streams

    first = Target(f"{place.rest_url}/mcp", place.client_id, place.credentials)

    def target() -> Target:
        """Return the server's current address; after a restart, port and token may differ."""
        if url_given() is not None or (server := find_server(settings)) is None:
            return first
        from actors.command_line.credentials import credentials_here

        return Target(f"{server.rest_url}/mcp", place.client_id, credentials_here(settings, server))

    serve_standard_streams(target)
