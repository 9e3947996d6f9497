"""`leanvibe model calibrate`: how often answers of some confidence are right, measured on the running server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
from rich.progress import Progress

from actors.command_line.calibration_set import BadSet, Item, parse_set
from actors.command_line.credentials import Credentials, credentials_here
from actors.command_line.options import data_dir_option, fail, find_server, settings_from
from actors.command_line.printing import print_json, print_line
from actors.command_line.rest_call import RestFailed, rest_call
from actors.command_line.running_models import folders_in_use
from actors.command_line.screen import Screen
from actors.inference.calibration import MINIMUM_ITEMS, Calibration, fit, manifest_sha256, write_calibration
from actors.inference.checkpoints.errors import ModelError
from actors.inference.checkpoints.inventory import InventoryEntry, inventory
from actors.inspection.server_file import ServerFile
from actors.settings import Settings

__all__ = ["calibrate", "measure"]

CLIENT_ID = "calibration"
"""A separate client id, because events of answers go to all devices of a client."""
ANSWER_TOKENS = 128
"""A small model that finds no end is cut there, and judged by what it said."""
ANSWER_SECONDS = 300.0
DEFAULT_SET = Path(__file__).with_name("calibration_set.jsonl")


@click.command()
@click.argument("name")
@click.option(
    "--set",
    "labelled",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Questions with checks, JSONL. [default: thirty small ones that come with the program]",
)
@click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for models.")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(name: str, labelled: Path | None, cache_dir: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Measure how far the confidence of the model NAME is to be believed; the running server must have it in use.

    Each line of the set is `{"prompt": …, "check": {"contains": …}}`, or `regex`, or `python_parses` in the check's
    place. From then on `done` of `assist` has `calibrated`, until the checkpoint changes.
    """
    settings = settings_from(data_dir=data_dir, cache_dir=cache_dir)
    items = _read_set(labelled or DEFAULT_SET)
    server = find_server(settings)
    if server is None:
        fail(f"no server runs on {settings.data_dir}; start one with `leanvibe serve --model {name}`", status=3)
    folder = _in_use(settings, server, name)
    try:
        manifest = manifest_sha256(folder)
    except ModelError as error:
        fail(str(error))
    measured = _ask_all(server, credentials_here(settings, server), items)
    if _in_use(settings, server, name) != folder or manifest_sha256(folder) != manifest:
        fail(f"{name} was changed while it was measured; nothing is stored")
    try:
        calibration = fit(measured)
    except ValueError as error:
        fail(str(error))
    try:
        path = write_calibration(folder, calibration, manifest)
    except OSError as error:
        fail(f"the calibration cannot be stored: {error}")
    _show(name, calibration, sum(is_right for _, is_right in measured), path, as_json)


def measure(
    url: str, credentials: Credentials, items: list[Item], told: Callable[[], None]
) -> list[tuple[float, bool]]:
    """Confidence of each answer of the server at ``url``, and whether it was right; ``told`` is called after each.

    Blocking. Raises `RestFailed`.
    """
    measured: list[tuple[float, bool]] = []
    for item in items:
        answer = rest_call(
            "POST",
            f"{url}/ai/process",
            {"type": "command", "intent": "ask", "content": item.prompt, "max_tokens": ANSWER_TOKENS},
            credentials=credentials,
            seconds=ANSWER_SECONDS,
            client_id=CLIENT_ID,
        )
        # An answer without a token has none, and says nothing of any.
        if answer.get("confidence") is not None:
            measured.append((float(answer["confidence"]), item.check.is_right(answer["content"])))
        told()
    return measured


def _read_set(path: Path) -> list[Item]:
    try:
        items = parse_set(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BadSet) as error:
        fail(f"{path}: {error}", status=2)
    if len(items) < MINIMUM_ITEMS:
        fail(f"{path} has {len(items)} items; {MINIMUM_ITEMS} are needed", status=2)
    return items


def _in_use(settings: Settings, server: ServerFile, name: str) -> Path:
    """The checkpoint's folder. Ends the program where the server has another model in use, or one without a folder."""
    entry: InventoryEntry | None = next(
        (
            one
            for one in inventory(settings.cache_dir, folders_in_use(settings, server).serving)
            if name in (one.name, one.full_name)
        ),
        None,
    )
    if entry is None or entry.folder is None:
        fail(f"there is no model called {name} on this machine; see `leanvibe model list`")
    if not entry.is_in_use:
        fail(f"the server does not have {name} in use; `leanvibe model load {name}` changes to it")
    return entry.folder


def _ask_all(server: ServerFile, credentials: Credentials, items: list[Item]) -> list[tuple[float, bool]]:
    with Progress(console=Screen(stderr=True)) as progress:
        task = progress.add_task("Asking", total=len(items))
        try:
            return measure(server.rest_url, credentials, items, lambda: progress.advance(task))
        except RestFailed as error:
            fail(str(error))


def _show(name: str, calibration: Calibration, right: int, path: Path, as_json: bool) -> None:
    content: dict[str, Any] = {"name": name, "right": right, "file": str(path), **attrs.asdict(calibration)}
    if as_json:
        print_json(content)
        return
    print_line(f"{name}: {right} of {calibration.items} answers were right")
    for point in calibration.points:
        print_line(f"  confidence {point.confidence:.3f}: {point.rate:.0%} right")
