"""Server access of the task commands: short reads over REST, everything else over the WebSocket.

The WebSocket client and its event loop take longer to import than a list takes to arrive, so they are imported on use. For
a remote URL only the WebSocket is used.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import frozen

from actors.command_line.credentials import credentials_elsewhere, credentials_here
from actors.command_line.options import (
    address_of,
    client_name_default,
    client_option,
    data_dir_option,
    running_server,
    settings_from,
    url_given,
    url_option,
)
from actors.command_line.place import one_of_prefix, place_of, rest_url_of, websocket_url_of

if TYPE_CHECKING:
    from protocol.client import Client

__all__ = ["PAGE", "Ask", "Where", "ask_of", "find", "look", "project_option", "run", "server_options"]

Function = TypeVar("Function", bound=Callable[..., Any])
Ask = Callable[..., Awaitable[dict[str, Any]]]
"""Takes the name of a command and its data; None values are omitted."""
PAGE = 100
WHOLE_ID = 36


@frozen
class Where:
    """The server and the board of a command."""

    data_dir: Path | None
    url: str | None
    client_id: str | None


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the server and the output: `where` and `as_json`."""

    @functools.wraps(function)
    def packed(data_dir: Path | None, url: str | None, client_id: str | None, **given: Any) -> Any:
        return function(where=Where(data_dir, url_given(url), client_id), **given)

    wrapped = click.option("--json", "as_json", is_flag=True, help="Print what the server answered.")(packed)
    return data_dir_option(client_option(url_option(wrapped)))


def project_option(function: Function) -> Function:
    """Add the option of the board."""
    return click.option("--project", default="default", show_default=True, help="Which board.")(function)


def look(where: Where, work: Callable[[Ask], Coroutine[Any, Any, None]]) -> None:
    """Run what only reads: over REST where the server is this machine's."""
    if where.url is not None and rest_url_of(where.url) is None:
        run(where, lambda client: work(ask_of(client)))
        return
    place = place_of(settings_from(data_dir=where.data_dir), where.client_id or client_name_default(), "tasks")
    paths = {"task_list": "", "task_board": "/board", "task_get": "/{task_id}", "task_history": "/{task_id}/history"}

    async def ask(kind: str, **data: Any) -> dict[str, Any]:
        path = paths[kind].format(**data)
        query = {name: one for name, one in data.items() if name != "task_id" or not path}
        plain = {name: str(one).lower() if isinstance(one, bool) else one for name, one in query.items()}
        answer: dict[str, Any] = place.call("GET", path, **plain)
        return answer

    try:
        # Nothing in it waits but by blocking, so that it needs no loop.
        work(ask).send(None)
    except StopIteration:
        return
    raise AssertionError("unreachable: there is nothing to wait for")


def run(
    where: Where,
    work: Callable[[Client], Awaitable[None]],
    *,
    follows: bool = False,
    say: Callable[[str], None] | None = None,
) -> None:
    """Run it on a connection to the server. What ``follows`` waits for a server that is away, and ``say`` shows that."""
    from actors.command_line.ask import run_until_interrupted
    from actors.command_line.outage import Outage
    from protocol.client import connect

    settings = settings_from(data_dir=where.data_dir)
    address: str | Callable[[], str]
    if where.url is None:
        server = running_server(settings)
        credentials, address = credentials_here(settings, server), address_of(settings, server)
    else:
        credentials, address = credentials_elsewhere(settings, where.url), websocket_url_of(where.url)

    async def connected() -> None:
        async with connect(
            address,
            client_id=where.client_id or client_name_default(),
            device_id="terminal",
            agent="leanvibe task",
            token=credentials.token,
            ssl_context=credentials.tls,
            reconnect=follows,
            events=follows,
            on_change=Outage(say).take if follows else None,
        ) as client:
            await work(client)

    run_until_interrupted(connected)


def ask_of(client: Client) -> Ask:
    """Ask on this connection."""

    async def ask(kind: str, **data: Any) -> dict[str, Any]:
        answer = await client.command(kind, {name: value for name, value in data.items() if value is not None})
        value: dict[str, Any] = answer["data"]
        return value

    return ask


async def find(ask: Ask, beginning: str) -> dict[str, Any]:
    """The one task whose id begins so; anything else ends the command."""
    if set(beginning) <= set(f"{hexdigits}-"):
        beginning = beginning.lower()
    if len(beginning) == WHOLE_ID:
        return await ask("task_get", task_id=beginning)
    found: dict[str, dict[str, Any]] = {}
    cursor = None
    while True:
        page = await ask("task_list", limit=PAGE, cursor=cursor)
        found.update((one["id"], one) for one in page["tasks"] if one["id"].startswith(beginning))
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    return found[one_of_prefix(beginning, [(name, one["title"]) for name, one in found.items()], what="task")]
