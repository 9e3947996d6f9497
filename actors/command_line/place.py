"""A running server's REST address as commands use it: nothing here is slow to import, so that short questions are short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, urlencode

from attrs import frozen

import protocol
from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.command_line.options import address_of, fail, running_server, url_given
from actors.command_line.prefixes import NotOne, one_beginning
from actors.command_line.rest_call import RestFailed, rest_bytes, rest_call
from actors.settings import Settings

__all__ = ["Place", "one_of_prefix", "place_of", "rest_url_of", "websocket_url_of"]


@frozen
class Place:
    """The server and the client id of a command."""

    rest_url: str | None
    """None where only a WebSocket elsewhere was named."""
    client_id: str
    credentials: Credentials
    address: Callable[[], str]
    """Where its WebSocket is now."""
    room: str
    """First part of the paths, as `notifications`."""

    def call(self, method: str, path: str = "", body: Any = None, **query: Any) -> Any:
        """Ask the server; ends the command with what it says is wrong."""
        try:
            return rest_call(method, self._url(path, query), body, credentials=self.credentials)
        except RestFailed as failed:
            fail(str(failed))

    def text(self, path: str, **query: Any) -> str:
        """Return the answer as text."""
        try:
            return rest_bytes("GET", self._url(path, query), credentials=self.credentials).decode("utf-8", "replace")
        except RestFailed as failed:
            fail(str(failed))

    def _url(self, path: str, query: dict[str, Any]) -> str:
        if self.rest_url is None:
            fail("this asks over REST, and --url names a WebSocket; give --url http://HOST:PORT", status=2)
        wanted = {name: value for name, value in query.items() if value is not None}
        address = f"{self.rest_url}/{self.room}/{quote(self.client_id, safe='')}{path}"
        return f"{address}?{urlencode(wanted, doseq=True)}" if wanted else address


def place_of(settings: Settings, client_id: str, room: str) -> Place:
    """Return the place of the server given by `--url`, or of the data folder's. Ends the command if there is none."""
    url = url_given()
    if url is not None:
        credentials = credentials_elsewhere(settings, url)
        rest_url = rest_url_of(url)
        return Place(rest_url, client_id, credentials, lambda: websocket_url_of(url), room)
    server = running_server(settings)
    return Place(server.rest_url, client_id, credentials_here(settings, server), address_of(settings, server), room)


def rest_url_of(url: str) -> str | None:
    """The address as that of REST; None where it is a WebSocket's. Ends the command where it is neither."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return url.rstrip("/")
    if scheme in ("ws", "wss"):
        return None
    fail(f"--url {url} is no address: it begins with http://, https://, ws:// or wss://", status=2)


def websocket_url_of(url: str) -> str:
    """The address as that of a WebSocket, which REST's port serves as well; ends the command where it is neither."""
    rest_url = rest_url_of(url)
    if rest_url is None:
        return url
    scheme, _, rest = rest_url.partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest.removesuffix(protocol.PATH)}{protocol.PATH}"


def one_of_prefix(beginning: str, found: Iterable[tuple[str, str]], *, what: str, word: str = "id") -> str:
    """The id that begins so, as `one_beginning` has it. Ends the command unless it is exactly one."""
    try:
        return one_beginning(beginning, found, what=what, word=word)
    except NotOne as error:
        fail(str(error), status=1 if beginning else 2)
