"""`leanvibe status`: the server's health as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from actors.command_line.credentials import credentials_elsewhere, credentials_here
from actors.command_line.options import data_dir_option, fail, running_server, settings_from, url_given
from actors.command_line.place import rest_url_of
from actors.command_line.printing import print_json
from actors.command_line.rest_call import NoAnswer, RestFailed, rest_call
from actors.command_line.screen import Screen, words
from actors.terminal_text import shown_document

__all__ = ["status"]

SECONDS = 5.0
_COLOURS = {"healthy": "green", "mock": "yellow", "loading": "yellow", "unloaded": "yellow", "degraded": "red"}


@click.command()
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print what /health said.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show how the server and its engine are. Exit status 0 only when it can answer questions."""
    settings = settings_from(data_dir=data_dir)
    url = url_given()
    server = running_server(settings) if url is None else None
    if server is None:
        assert url is not None
        rest_url, credentials, who = rest_url_of(url), credentials_elsewhere(settings, url), "the server"
    else:
        rest_url, credentials = server.rest_url, credentials_here(settings, server)
        who = f"the server (process {server.pid})"
    if rest_url is None:
        fail(f"status asks over REST, and --url names a WebSocket; give --url http://HOST:PORT, not {url}", status=2)
    try:
        health: dict[str, Any] = rest_call("GET", f"{rest_url}/health", credentials=credentials, seconds=SECONDS)
    except NoAnswer as error:
        fail(f"{who} does not answer at {rest_url}: {error.why}")
    except RestFailed as error:
        fail(f"{who} does not tell how it is at {rest_url}: {error}")
    here = {} if server is None else {"pid": server.pid, "websocket_url": server.websocket_url}
    if as_json:
        print_json({**health, **here})
    else:
        _show(health, here)
    raise SystemExit(0 if health["status"] in ("healthy", "mock", "unloaded") else 1)


def _show(health: dict[str, Any], here: dict[str, Any]) -> None:
    health = shown_document(health)
    engine = health["engine"]
    colour = _COLOURS.get(health["status"], "red")
    table = Table(title=f"LeanVibe {health['version']}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("status", words(health["status"], colour))
    for reason in [*health["reasons"], *([engine["problem"]] if engine["problem"] else [])]:
        table.add_row("", words(reason, "yellow"))
    table.add_row(
        "process",
        f"{here.get('pid', 'elsewhere')} (worker {_shown(engine['worker_pid'])}, restarts {engine['restarts']})",
    )
    if "websocket_url" in here:
        table.add_row("address", here["websocket_url"])
    table.add_row("model", f"{engine['model']} ({_shown(engine['dtype'])} on {_shown(engine['backend'])})")
    if engine["changing_to"]:
        table.add_row("changing to", f"{engine['changing_to']} ({_shown(engine['change_stage'])})")
    table.add_row(
        "pretrained", f"{engine['has_pretrained_weights']} (canary {_shown(engine['canary_nll'], '{:.2f}')} nats)"
    )
    table.add_row("BLAS", _shown(engine["blas"]))
    table.add_row("running", f"{engine['running']}, waiting {engine['queue_depth']}")
    table.add_row("speed", f"{_shown(engine['tokens_per_second'], '{:.1f}')} tokens/s over the last steps")
    table.add_row("last answer", f"{_shown(engine['last_inference_time'], '{:.0f}')} ms")
    table.add_row("memory", f"{_shown(engine['memory_usage_mb'], '{:.0f}')} MiB")
    for warning in engine["warnings"]:
        table.add_row(words("warning", "yellow"), warning)
    Screen().print(table)


def _shown(value: Any, form: str = "{}") -> str:
    """A measured value, or a dash where nothing was measured."""
    return "–" if value is None else form.format(value)
