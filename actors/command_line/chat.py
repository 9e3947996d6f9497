"""`leanvibe chat`: a conversation in the terminal, kept by the server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import trio
from rich.markup import escape

from actors.command_line.answer_options import AnswerOptions, answer_options
from actors.command_line.ask import run_until_interrupted
from actors.command_line.chat_conversations import NotOne, free_name, new_name, stored_name
from actors.command_line.chat_input import BadCommand, parse_slash
from actors.command_line.chat_lines import ChatLines, chat_lines
from actors.command_line.chat_session import ChatSession
from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.command_line.ephemeral_server import server_for
from actors.command_line.options import (
    address_of,
    ca_option,
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
from actors.command_line.served_model import ServerWish
from actors.command_line.small_model import introduce_small_model
from actors.own_command import command_here
from protocol.client import Client, connect

__all__ = ["chat"]


@click.command()
@data_dir_option
@url_option
@ca_option
@click.option("--engine", type=click.Choice(["mlx", "mock"]), help="For the server that is started if none is running.")
@click.option("--model", help="For the server that is started; one that runs must have it, or the chat does not begin.")
@answer_options
@click.option(
    "--conversation", metavar="NAME", help="Go on with this stored conversation; the beginning of its name will do."
)
@click.option("--new", metavar="NAME", help="Begin a conversation of this name; by default it is named by the time.")
def chat(
    data_dir: Path | None,
    url: str | None,
    ca: Path | None,
    engine: str | None,
    model: str | None,
    conversation: str | None,
    new: str | None,
    **options: Any,
) -> None:
    """Talk with the model. /help shows more; Ctrl-C ends the answer, Ctrl-D the program."""
    url = url_given(url)
    settings = settings_from(data_dir=data_dir, engine=engine, model=model, ca=ca)
    wish = ServerWish(engine, model)
    if conversation is not None and new is not None:
        fail("--conversation goes on with a conversation and --new begins one; give one of them", status=2)
    console = Screen(markup=True)
    lines = chat_lines(console, settings.data_dir)
    sessions: list[ChatSession] = []

    def tell(text: str) -> None:
        if not any(one.notice(text) for one in sessions):
            lines.tell(f"[yellow]{text}[/yellow]")

    outage = Outage(tell)

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
            wish.hold_against_model(client.welcome["model"], settings)
            try:
                name = await conversation_for(client, conversation, new)
            except NotOne as error:
                fail(str(error), status=2)
            served, server_name = escape(client.welcome["model"]), escape(client.welcome["server"])
            console.print(f"[bold]{served}[/bold] on {server_name}. /help shows more, Ctrl-D leaves.")
            if url is None:
                introduce_small_model(client.welcome["model"], settings.data_dir)
            session = ChatSession(
                client=client,
                console=console,
                rest_url=rest_url,
                credentials=credentials,
                client_id=client_name_default(),
                outage=outage,
                conversation=name,
                options=AnswerOptions(**options),
            )
            sessions.append(session)
            with lines.owned_terminal():
                await converse(session, console, lines)

    if url is not None:
        wish.refuse_elsewhere()
        elsewhere = credentials_elsewhere(settings, url)
        run_until_interrupted(lambda: talk(websocket_url_of(url), rest_url_of(url), elsewhere))
        return
    with server_for(settings, wish) as server:
        credentials = credentials_here(settings, server)
        run_until_interrupted(lambda: talk(address_of(settings, server), server.rest_url, credentials))


async def conversation_for(client: Client, conversation: str | None, new: str | None) -> str:
    """Its name, from the options. Raises `NotOne`."""
    if conversation is not None:
        return await stored_name(client, conversation, begins=command_here("chat", "--new"))
    if new is not None:
        return await free_name(client, new, goes_on=command_here("chat", "--conversation"))
    return new_name()


async def converse(session: ChatSession, console: Screen, lines: ChatLines) -> None:
    """Read, answer, read. Ctrl-C cancels what is being done, or what is being typed."""
    async with trio.open_nursery() as nursery:
        running: list[trio.CancelScope] = []

        def interrupted() -> None:
            lines.forget()
            lines.tell("[dim]Ctrl-D leaves[/dim]")

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
        nursery.cancel_scope.cancel(reason="left")


async def _carry_out(session: ChatSession, text: str, console: Screen) -> None:
    try:
        slash = parse_slash(text)
    except BadCommand as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        return
    await (session.say(text) if slash is None else session.carry_out(slash))
