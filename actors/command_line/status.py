"""`leanvibe status`: the server's health as a table or as JSON."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from actors.command_line.credentials import credentials_here
from actors.command_line.options import data_dir_option, fail, running_server, settings_from
from actors.command_line.printing import print_json
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
    server = running_server(settings)
    credentials = credentials_here(settings, server)
    try:
        # The environment's proxy is for the world; this address is on this machine.
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=credentials.tls)
        )
        request = urllib.request.Request(f"{server.rest_url}/health", headers=credentials.headers)  # noqa: S310
        with direct.open(request, timeout=SECONDS) as response:
            health: dict[str, Any] = json.load(response)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        fail(f"the server (process {server.pid}) does not answer at {server.rest_url}: {error}")
    if as_json:
        print_json({**health, "pid": server.pid, "websocket_url": server.websocket_url})
    else:
        _show(health, server.pid, server.websocket_url)
    raise SystemExit(0 if health["status"] in ("healthy", "mock", "unloaded") else 1)


def _show(health: dict[str, Any], pid: int, websocket_url: str) -> None:
    health = shown_document(health)
    engine = health["engine"]
    colour = _COLOURS.get(health["status"], "red")
    table = Table(title=f"LeanVibe {health['version']}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("status", words(health["status"], colour))
    for reason in [*health["reasons"], *([engine["problem"]] if engine["problem"] else [])]:
        table.add_row("", words(reason, "yellow"))
    table.add_row("process", f"{pid} (worker {_shown(engine['worker_pid'])}, restarts {engine['restarts']})")
    table.add_row("address", websocket_url)
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
