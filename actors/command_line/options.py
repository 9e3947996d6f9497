"""Options and failures that several commands share."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable
from typing import Any, NoReturn

from actors.command_line.everywhere import (
    ReachingGroup,
    Remembered,
    ca_option,
    client_option,
    data_dir_option,
    url_option,
)
from actors.command_line.printing import print_line
from actors.inspection.server_file import ServerFile, is_locked, read_server_file
from actors.own_command import line_here
from actors.settings import Settings, SettingsFault, load_settings

__all__ = [
    "ReachingGroup",
    "Remembered",
    "address_of",
    "ca_option",
    "client_name_default",
    "client_option",
    "data_dir_option",
    "fail",
    "find_server",
    "refuse_elsewhere",
    "running_server",
    "settings_from",
    "url_given",
    "url_option",
]


def settings_from(**overrides: Any) -> Settings:
    """Settings with the options that were given on the command line; a wrong one ends the command."""
    if overrides.get("data_dir") is None:
        overrides["data_dir"] = Remembered.value(Remembered.DATA_DIR)
    if overrides.get("ca") is None:
        overrides["ca"] = Remembered.value(Remembered.CA)
    config = overrides.pop("config", None)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return load_settings(given, config=config)
    except SettingsFault as error:
        fail(f"a setting is wrong: {error}", status=2)


def url_given(own: str | None = None) -> str | None:
    """Return the value of `--url`, given before or after the command's name; None for the server of the data folder."""
    return own or Remembered.value(Remembered.URL)


def refuse_elsewhere(command: str, reason: str = "works on the server of this machine alone") -> None:
    """End a command that reaches no server elsewhere, where one was named."""
    if url_given() is not None:
        fail(f"--url is of no use here: leanvibe {command} {reason}; run it on the machine that is meant", status=2)


def find_server(settings: Settings) -> ServerFile | None:
    """The running server of this data folder, if there is one."""
    return read_server_file(settings.data_dir)


def running_server(settings: Settings) -> ServerFile:
    """Like `find_server`, but ends the command if there is none."""
    server = find_server(settings)
    if server is None and is_locked(settings.data_dir):
        fail(
            f"a server runs on {settings.data_dir}, and no file says where it listens: it is still starting, or belongs to "
            "another user and its disk takes nothing; try again in a moment, or give --url http://HOST:PORT",
            status=3,
        )
    if server is None:
        fail(f"no server runs on {settings.data_dir}; start one with `{line_here(settings, 'serve')}`", status=3)
    return server


def address_of(settings: Settings, server: ServerFile) -> Callable[[], str]:
    """Return a function that gives the server's current WebSocket URL; a restart may change the ports."""

    def address() -> str:
        return (find_server(settings) or server).websocket_url

    return address


def client_name_default() -> str:
    """Return the default client id: the user's name, reduced to valid characters."""
    if given := Remembered.value(Remembered.CLIENT):
        return str(given)
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", os.environ.get("LEANVIBE_CLIENT_ID", "") or name).lstrip("._-")
    return name[:64] or "local"


def fail(message: str, *, status: int = 1) -> NoReturn:
    """End the command with one line that says what is wrong and what to do."""
    print_line(f"leanvibe: {message}", style="red", err=True)
    raise SystemExit(status)
