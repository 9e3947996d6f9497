"""`leanvibe token`: manage tokens, through the running server, or under the data folder's lock if none is running."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from attrs import asdict
from rich.table import Table
from sqlalchemy import Connection

from actors.access.messages import ROLES, USER, CreateToken
from actors.access.store import RevokeStored, forget_tokens, load_tokens, revoke_token, save_token
from actors.access.tokens import checked_token, describe
from actors.command_line.inspection_socket import ask_socket
from actors.command_line.offline_database import offline_database
from actors.command_line.options import (
    ReachingGroup,
    data_dir_option,
    fail,
    find_server,
    running_server,
    settings_from,
)
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen
from actors.command_line.web_page import open_web_page
from actors.errors import CommandError
from actors.settings import Settings
from actors.storage.errors import DatabaseUnusable
from actors.terminal_text import shown_document

__all__ = ["stored_tokens", "token"]

_DURATION = re.compile(r"(\d{1,6})([mhdw])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


@click.group(cls=ReachingGroup)
@data_dir_option
@click.pass_context
def token(context: click.Context, data_dir: Path | None) -> None:
    """Control access.

    Without tokens the server takes everything that comes from this machine, and nothing from elsewhere. As soon as
    there is one token, each request and connection needs one.
    """
    context.obj = settings_from(data_dir=data_dir)


@token.command()
@click.option("--client", "clients", multiple=True, required=True, help="A client id that it opens; may be repeated.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="May be repeated. [default: user]")
@click.option("--name", default="", help="What to call it in the list.")
@click.option("--expires", help="When it ends: 30m, 12h, 90d, 4w from now, or a date and time in ISO 8601.")
@click.option(
    "--open",
    "opens_page",
    is_flag=True,
    help="Open the console with a one-time link that creates the token; the token is not printed.",
)
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def create(
    settings: Settings,
    clients: tuple[str, ...],
    roles: tuple[str, ...],
    name: str,
    expires: str | None,
    opens_page: bool,
    as_json: bool,
) -> None:
    """Make a token and show it, this once; or hand it to the console by a link that is good for once."""
    wanted = CreateToken(
        client_ids=clients,
        roles=roles or (USER,),
        name=name,
        expires_ms=None if expires is None else _moment_ms(expires),
    )
    if opens_page:
        _hand_over(settings, wanted, as_json=as_json)
        return
    server = find_server(settings)
    if server is not None:
        made = ask_socket(server, {"command": "token_create", **asdict(wanted)})
    else:
        with _database(settings) as connection:
            stored, text = checked_token(wanted, _now_ms())
            save_token(connection, stored)
        made = {"token": text, **asdict(describe(stored))}
    if as_json:
        print_json(made)
        return
    print_line(made["token"])
    print_line(f"Token {made['token_id']} opens {_opens(made)} until {_date(made['expires_ms'], 'revoked')}.", err=True)
    print_line("It is shown this once and kept nowhere: only its hash is stored.", style="yellow", err=True)


def _hand_over(settings: Settings, wanted: CreateToken, *, as_json: bool) -> None:
    """A code that the page shows to the server for a token: the token itself is in no address, output or history."""
    server = running_server(settings)
    offer = ask_socket(server, {"command": "token_offer", **asdict(wanted)})
    link = f"{server.rest_url}/#/enter/{offer['code']}"
    if as_json:
        print_json({"link": link, "seconds": offer["seconds"], "is_opened": open_web_page(link)})
        return
    print_line(link)
    is_opened = open_web_page(link)
    done = (
        "It is open in the browser."
        if is_opened
        else "No browser was found here: open it where this server is reached."
    )
    print_line(f"{done} It works once, within {offer['seconds']:g} seconds; the token is made then.", err=True)


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_tokens(settings: Settings, as_json: bool) -> None:
    """Show all tokens, without their secrets."""
    server = find_server(settings)
    if server is not None:
        tokens: list[dict[str, Any]] = ask_socket(server, {"command": "token_list"})["tokens"]
    else:
        tokens = stored_tokens(settings)
    if as_json:
        print_json({"tokens": tokens})
        return
    if not tokens:
        print_line(
            "no tokens: every program of this machine may enter; `leanvibe token create --client NAME` makes one"
        )
        return
    table = Table()
    table.add_column("id", no_wrap=True)
    for column in ("name", "clients", "roles", "made", "expires", "state"):
        table.add_column(column)
    for one in shown_document(tokens):
        clients = "all" if one["client_ids"] is None else ", ".join(one["client_ids"])
        ends = _date(one["expires_ms"], "never")
        table.add_row(
            one["token_id"],
            one["name"],
            clients,
            ", ".join(one["roles"]),
            _date(one["created_ms"]),
            ends,
            _state(one),
        )
    Screen().print(table)


@token.command()
@click.argument("token_id")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def revoke(settings: Settings, token_id: str, as_json: bool) -> None:
    """End the token TOKEN_ID now; its open connections are closed."""
    server = find_server(settings)
    if server is not None:
        ask_socket(server, {"command": "token_revoke", "token_id": token_id})
    else:
        with _database(settings) as connection:
            revoke_token(connection, RevokeStored(token_id=token_id, time_ms=_now_ms()))
    if as_json:
        print_json({"revoked": token_id})
    else:
        print_line(f"revoked {token_id}")


@token.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def forget(settings: Settings, yes: bool, as_json: bool) -> None:
    """Delete all tokens: every program of this machine may then enter again."""
    if not yes:
        click.confirm("Delete all tokens, and let every program of this machine enter without?", abort=True, err=True)
    server = find_server(settings)
    if server is not None:
        count = ask_socket(server, {"command": "token_forget"})["forgotten"]
    else:
        with _database(settings) as connection:
            count = forget_tokens(connection, None).value
    if as_json:
        print_json({"forgotten": count})
    else:
        print_line(f"forgot {count} tokens")


def stored_tokens(settings: Settings) -> list[dict[str, Any]]:
    """Return all tokens, read from the database under the lock; none if there is no database."""
    with _database(settings) as connection:
        return [asdict(describe(one)) for one in load_tokens(connection, None)]


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[Connection]:
    """Run a transaction on the database while no server can start; a refusal ends the command."""
    try:
        with (
            offline_database(settings, "token", busy="it is perhaps just starting, so try again") as engine,
            engine.begin() as connection,
        ):
            yield connection
    except (DatabaseUnusable, CommandError) as error:
        fail(str(error))


def _now_ms() -> int:
    return int(time.time() * 1000)


def _moment_ms(text: str) -> int:
    """POSIX milliseconds of `90d` from now or of an ISO 8601 time; without a zone it is meant here."""
    found = _DURATION.fullmatch(text)
    if found is not None:
        return _now_ms() + int(found[1]) * _UNIT_MS[found[2]]
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        fail(f"--expires {text!r} is neither a time from now, as 90d, nor a date, as 2030-01-31", status=2)


def _date(time_ms: int | None, otherwise: str = "") -> str:
    if time_ms is None:
        return otherwise
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _opens(one: dict[str, Any]) -> str:
    return f"{', '.join(one['client_ids'])} as {', '.join(one['roles'])}"


def _state(one: dict[str, Any]) -> str:
    if one["revoked_ms"] is not None:
        return f"revoked {_date(one['revoked_ms'])}"
    if one["expires_ms"] is not None and one["expires_ms"] <= _now_ms():
        return "expired"
    return "local, in force" if one["is_local"] else "in force"
