"""`leanvibe model load` and `unload`, and which model the running server has in use."""

from __future__ import annotations

import threading
import urllib.parse
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.command_line.options import data_dir_option, fail, find_server, settings_from, url_given
from actors.command_line.place import rest_url_of
from actors.command_line.printing import json_text, print_line
from actors.command_line.rest_call import NoAnswer, RestFailed, rest_call
from actors.command_line.screen import Screen, words
from actors.inference.checkpoints.catalogue import checkpoint_folder, full_name
from actors.inspection.server_file import ServerFile
from actors.settings import Settings

__all__ = ["encoder_in_use", "folders_in_use", "load", "models_elsewhere", "unload"]

SECONDS = 5.0
HELD_STATES = frozenset({"loading", "loaded", "draining", "unloading"})
CHANGE_SECONDS = 900.0
PROGRESS_SECONDS = 0.5


@click.command()
@click.argument("name")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def load(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Let the running server, or the one at `--url`, change to the model NAME. Answers in the making are finished by the one that began them."""
    _change(_server(data_dir), name, "load", as_json)


@click.command()
@click.argument("name")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def unload(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Let the running server, or the one at `--url`, give the model's memory back; the next question loads it again."""
    _change(_server(data_dir), name, "unload", as_json)


@frozen
class FoldersInUse:
    """Model folders that a server uses, with links resolved; none for the mock engine."""

    serving: Path | None
    """That which new requests go to."""
    others: frozenset[Path] = frozenset()
    """Those that are being loaded, or still answer what they began."""

    def __contains__(self, folder: Path) -> bool:
        return folder.resolve() in {self.serving, *self.others}


def encoder_in_use(settings: Settings, server: ServerFile) -> bool:
    """Return whether the server reports its encoder as loaded."""
    try:
        told = _ask(_here(settings, server), "/health/mlx", SECONDS)["encoder"]
        return bool(told["state"] == "ready")
    except (RestFailed, KeyError, TypeError):
        return False


def folders_in_use(settings: Settings, server: ServerFile) -> FoldersInUse:
    """Return the folders in use now, or at the server's start if it does not answer."""
    started = None if server.model_folder is None else Path(server.model_folder)
    try:
        listed = _ask(_here(settings, server), "/models", SECONDS)["models"]
        serving = next((one["full_name"] for one in listed if one["is_in_use"]), None)
        others = [one["full_name"] for one in listed if one["state"] in HELD_STATES and not one["is_in_use"]]
    except (RestFailed, KeyError, TypeError):
        return FoldersInUse(started)

    def folder_of(name: str) -> Path | None:
        """The server tells names and no paths: that of the model named at the start, or of a folder of the cache."""
        if started is not None and name in (started.name, full_name(server.model)):
            return started
        folder = checkpoint_folder(name, settings.cache_dir)
        return folder.resolve() if folder.is_dir() else None

    held = [folder_of(str(name)) for name in others]
    return FoldersInUse(
        started if serving is None else folder_of(str(serving)), frozenset(one for one in held if one is not None)
    )


@frozen
class _Reached:
    """A server that takes changes."""

    rest_url: str
    credentials: Credentials
    who: str
    """As the subject of a sentence."""


def models_elsewhere(settings: Settings) -> list[dict[str, Any]] | None:
    """Return the models of the server at `--url`; None if none was given. Ends the command if it does not answer."""
    reached = _elsewhere(settings)
    if reached is None:
        return None
    try:
        listed: list[dict[str, Any]] = _ask(reached, "/models", SECONDS)["models"]
    except RestFailed as error:
        fail(str(error))
    return listed


def _elsewhere(settings: Settings) -> _Reached | None:
    url = url_given()
    if url is None:
        return None
    rest_url = rest_url_of(url)
    if rest_url is None:
        fail(
            f"models are asked for over REST, and --url names a WebSocket; give --url http://HOST:PORT, not {url}",
            status=2,
        )
    return _Reached(rest_url, credentials_elsewhere(settings, url), "the server")


def _here(settings: Settings, server: ServerFile) -> _Reached:
    return _Reached(server.rest_url, credentials_here(settings, server), f"the server (process {server.pid})")


def _server(data_dir: Path | None) -> _Reached:
    settings = settings_from(data_dir=data_dir)
    reached = _elsewhere(settings)
    if reached is not None:
        return reached
    server = find_server(settings)
    if server is None:
        fail(f"no server runs on {settings.data_dir}; start one with `leanvibe serve --model NAME`", status=3)
    return _here(settings, server)


def _change(reached: _Reached, name: str, change: str, as_json: bool) -> None:
    path = f"/models/{urllib.parse.quote(name)}/{change}"
    is_over = threading.Event()
    with Screen(stderr=True).status(words(f"{change} {name}")) as shown:

        def follow() -> None:
            while not is_over.wait(PROGRESS_SECONDS):
                stage = _stage(reached)
                if stage:
                    shown.update(words(f"{change} {name}: {stage}"))

        subscriber = threading.Thread(target=follow, daemon=True)
        subscriber.start()
        try:
            done = _ask(reached, path, CHANGE_SECONDS, method="POST")
        except RestFailed as error:
            fail(str(error))
        finally:
            is_over.set()
            subscriber.join()
    said = f"{done['model']} is {done['state']}"
    print_line(json_text(done) if as_json else said)


def _stage(reached: _Reached) -> str | None:
    try:
        stage = _ask(reached, "/health", SECONDS)["engine"]["change_stage"]
    except (RestFailed, KeyError):
        return None
    return None if stage is None else str(stage)


def _ask(reached: _Reached, path: str, seconds: float, *, method: str = "GET") -> dict[str, Any]:
    """Raises `RestFailed`, which names the server where it does not answer."""
    try:
        told: dict[str, Any] = rest_call(
            method, f"{reached.rest_url}{path}", credentials=reached.credentials, seconds=seconds
        )
    except NoAnswer as error:
        raise RestFailed(f"{reached.who} does not answer at {reached.rest_url}: {error.why}") from None
    return told
