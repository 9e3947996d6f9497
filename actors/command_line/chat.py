"""`leanvibe chat`: a conversation in the terminal, kept by the server."""

from __future__ import annotations

import datetime
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import trio
from rich.markup import escape

from actors.command_line.answer_options import AnswerOptions, answer_options
from actors.command_line.ask import run_until_interrupted
from actors.command_line.chat_input import BadCommand, parse_slash
from actors.command_line.chat_lines import ChatLines, chat_lines
from actors.command_line.chat_session import ChatSession
from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.command_line.ephemeral_server import server_for
from actors.command_line.options import (
    address_of,
    client_name_default,
    data_dir_option,
    fail,
    settings_from,
    url_given,
    url_option,
)
from actors.command_line.outage import Outage
from actors.command_line.place import rest_url_of, websocket_url_of
from actors.command_line.screen import Screen
from actors.command_line.small_model import introduce_small_model
from protocol.client import connect
from protocol.validation import is_client_name

__all__ = ["chat"]


@click.command()
@data_dir_option
@url_option
@click.option("--engine", type=click.Choice(["mlx", "mock"]), help="For the server that is started if none is running.")
@answer_options
@click.option("--conversation", help="Go on with a stored conversation; by default a new one begins.")
def chat(data_dir: Path | None, url: str | None, engine: str | None, conversation: str | None, **options: Any) -> None:
    """Talk with the model. /help shows more; Ctrl-C ends the answer, Ctrl-D the program."""
    url = url_given(url)
    settings = settings_from(data_dir=data_dir, engine=engine)
    if conversation is not None and not is_client_name(conversation):
        fail("--conversation takes 1 to 64 letters, digits, dots, dashes and underscores", status=2)
    console = Screen(markup=True)
    lines = chat_lines(console, settings.data_dir)
    outage = Outage(lambda text: console.print(f"[yellow]{text}[/yellow]"))

    async def talk(address: str | Callable[[], str], rest_url: str | None, credentials: Credentials) -> None:
        async with connect(
            address,
            client_id=client_name_default(),
            agent="leanvibe chat",
            token=credentials.token,
            ssl_context=credentials.tls,
            reconnect=True,
            detach=True,
            on_change=outage.take,
        ) as client:
            model, name = escape(client.welcome["model"]), escape(client.welcome["server"])
            console.print(f"[bold]{model}[/bold] on {name}. /help shows more, Ctrl-D leaves.")
            if url is None:
                introduce_small_model(client.welcome["model"], settings.data_dir)
            session = ChatSession(
                client=client,
                console=console,
                rest_url=rest_url,
                credentials=credentials,
                client_id=client_name_default(),
                conversation=conversation or new_conversation(),
                options=AnswerOptions(**options),
            )
            with lines.owned_terminal():
                await converse(session, console, lines)

    if url is not None:
        elsewhere = credentials_elsewhere(settings, url)
        run_until_interrupted(lambda: talk(websocket_url_of(url), rest_url_of(url), elsewhere))
        return
    with server_for(settings) as server:
        credentials = credentials_here(settings, server)
        run_until_interrupted(lambda: talk(address_of(settings, server), server.rest_url, credentials))


def new_conversation() -> str:
    """A name that says when it began, and is no other's that began in the same second."""
    return f"chat-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def converse(session: ChatSession, console: Screen, lines: ChatLines) -> None:
    """Read, answer, read. Ctrl-C cancels what is being done, or what is being typed."""
    async with trio.open_nursery() as nursery:
        running: list[trio.CancelScope] = []

        def interrupted() -> None:
            lines.forget()
            console.print("\n[dim]Ctrl-D leaves[/dim]")

        async def watch() -> None:
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async for _ in signals:
                    if running:
                        running[0].cancel(reason="interrupted")
                    else:
                        interrupted()

        nursery.start_soon(watch)
        while not session.has_left:
            try:
                text = await lines.read()
            except KeyboardInterrupt:
                # The editor has the key, and no signal comes.
                interrupted()
                continue
            if text is None:
                break
            if not text.strip():
                continue
            with trio.CancelScope() as scope:
                running.append(scope)
                await _carry_out(session, text, console)
            running.clear()
            if scope.cancelled_caught:
                console.print("[dim]cancelled[/dim]")
            if session.wants_another:
                session.conversation, session.wants_another = new_conversation(), False
        nursery.cancel_scope.cancel(reason="left")


async def _carry_out(session: ChatSession, text: str, console: Screen) -> None:
    try:
        slash = parse_slash(text)
    except BadCommand as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        return
    await (session.say(text) if slash is None else session.carry_out(slash))
