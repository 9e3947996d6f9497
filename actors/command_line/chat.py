"""`leanvibe chat`: a conversation in the terminal."""

from __future__ import annotations

import signal
from pathlib import Path

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from actors.command_line.ask import run_until_interrupted, stream_answer
from actors.command_line.borrowed_server import server_for
from actors.command_line.credentials import Credentials, credentials_here
from actors.command_line.options import client_name_default, data_dir_option, settings_from
from protocol.client import Client, CommandFailed, connect
from protocol.commands import ChatMessage, Generate, Role

__all__ = ["chat"]


@click.command()
@data_dir_option
@click.option("--engine", type=click.Choice(["mlx", "mock"]), help="For the server that is started where none runs.")
@click.option("--max-tokens", type=int, help="Longest answer, in tokens.")
@click.option("--temperature", type=float, default=0.0, show_default=True)
def chat(data_dir: Path | None, engine: str | None, max_tokens: int | None, temperature: float) -> None:
    """Talk with the model. An empty line or Ctrl-D leaves; Ctrl-C ends the answer, not the program."""
    settings = settings_from(data_dir=data_dir, engine=engine)
    console = Console()

    async def talk(url: str, credentials: Credentials) -> None:
        async with connect(
            url,
            client_id=client_name_default(),
            agent="leanvibe chat",
            token=credentials.token,
            ssl_context=credentials.tls,
        ) as client:
            console.print(f"[bold]{client.welcome['model']}[/bold] on {client.welcome['server']}. Ctrl-D leaves.")
            turns: list[ChatMessage] = []
            while (question := await trio.to_thread.run_sync(_read_line, console, abandon_on_cancel=True)) is not None:
                turns.append(ChatMessage(Role.USER, question))
                generate = Generate(messages=list(turns), max_tokens=max_tokens, temperature=temperature)
                turns.append(ChatMessage(Role.ASSISTANT, await _answer(client, generate, console)))

    with server_for(settings) as server:
        credentials = credentials_here(settings, server)
        run_until_interrupted(lambda: talk(server.websocket_url, credentials))


def _read_line(console: Console) -> str | None:
    try:
        return console.input("[bold cyan]> [/bold cyan]").strip() or None
    except (EOFError, KeyboardInterrupt):
        return None


async def _answer(client: Client, generate: Generate, console: Console) -> str:
    """Show the answer as Markdown while it comes; Ctrl-C keeps what there is of it."""
    text = ""
    with Live(Markdown(""), console=console, auto_refresh=False) as live:

        def show(piece: str) -> None:
            nonlocal text
            text += piece
            live.update(Markdown(text), refresh=True)

        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                with trio.open_signal_receiver(signal.SIGINT) as signals:
                    async for _ in signals:
                        nursery.cancel_scope.cancel(reason="interrupted")

            nursery.start_soon(watch)
            try:
                await stream_answer(client, generate, show)
            except CommandFailed as error:
                console.print(f"[red]{error}[/red]")
            nursery.cancel_scope.cancel(reason="answered")
    return text
