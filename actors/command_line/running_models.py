"""`leanvibe model load` and `unload`, and which model the running server has in use."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from actors.command_line.credentials import Credentials, credentials_here
from actors.command_line.options import data_dir_option, fail, find_server, settings_from
from actors.inspection.server_file import ServerFile
from actors.settings import Settings

__all__ = ["load", "model_in_use", "unload"]

SECONDS = 5.0
CHANGE_SECONDS = 900.0
PROGRESS_SECONDS = 0.5


@click.command()
@click.argument("name")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def load(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Let the running server change to the model NAME. Answers in the making are finished by the one that began them."""
    _change(_server(data_dir), name, "load", as_json)


@click.command()
@click.argument("name")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def unload(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Let the running server give the model's memory back; the next question loads it again."""
    _change(_server(data_dir), name, "unload", as_json)


def model_in_use(settings: Settings, server: ServerFile) -> str:
    """What the server has in use now; what it was started with where it does not say."""
    try:
        listed = _ask(server, credentials_here(settings, server), "/models", SECONDS)["models"]
    except (OSError, ValueError, KeyError):
        return server.model
    return next((str(one["full_name"]) for one in listed if one["is_in_use"]), server.model)


def _server(data_dir: Path | None) -> tuple[ServerFile, Credentials]:
    settings = settings_from(data_dir=data_dir)
    server = find_server(settings)
    if server is None:
        fail(f"no server runs on {settings.data_dir}; start one with `leanvibe serve --model NAME`", status=3)
    return server, credentials_here(settings, server)


def _change(found: tuple[ServerFile, Credentials], name: str, change: str, as_json: bool) -> None:
    server, credentials = found
    path = f"/models/{urllib.parse.quote(name)}/{change}"
    is_over = threading.Event()
    with Console(stderr=True).status(f"{change} {name}") as shown:

        def follow() -> None:
            while not is_over.wait(PROGRESS_SECONDS):
                stage = _stage(server, credentials)
                if stage:
                    shown.update(f"{change} {name}: {stage}")

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            done = _ask(server, credentials, path, CHANGE_SECONDS, method="POST")
        except urllib.error.HTTPError as error:
            fail(_reason(error))
        except (OSError, ValueError) as error:
            fail(f"the server (process {server.pid}) does not answer at {server.rest_url}: {error}")
        finally:
            is_over.set()
            follower.join()
    said = f"{done['model']} is {done['state']}"
    click.echo(json.dumps(done) if as_json else said)


def _stage(server: ServerFile, credentials: Credentials) -> str | None:
    try:
        stage = _ask(server, credentials, "/health", SECONDS)["engine"]["change_stage"]
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, ValueError, KeyError):
        return None
    return None if stage is None else str(stage)


def _reason(error: urllib.error.HTTPError) -> str:
    """What the problem document says."""
    try:
        with error:
            body = json.load(error)
        return str(body.get("detail") or body.get("message") or body.get("title") or error)
    except ValueError:
        return str(error)


def _ask(
    server: ServerFile, credentials: Credentials, path: str, seconds: float, *, method: str = "GET"
) -> dict[str, Any]:
    # The environment's proxy is for the world; this address is on this machine.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=credentials.tls)
    )
    request = urllib.request.Request(  # noqa: S310  the server's own address
        f"{server.rest_url}{path}", method=method, headers=credentials.headers
    )
    with direct.open(request, timeout=seconds) as response:
        content: dict[str, Any] = json.load(response)
    return content
