"""Puts one question to a server and prints the answer as it comes; what else talks with servers shares its errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import trio

from actors.command_line.answer_options import AnswerOptions, answer_note
from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.command_line.failure_words import failure_words, tls_words, with_advice
from actors.command_line.options import address_of, client_name_default, fail
from actors.command_line.outage import Outage
from actors.command_line.place import websocket_url_of
from actors.command_line.printing import AnswerPrinter, end_line, print_json, print_line
from actors.command_line.served_model import ServerWish
from actors.command_line.small_model import introduce_small_model
from actors.inspection.server_file import ServerFile
from actors.settings import Settings
from protocol.client import Client, CommandFailed, Disconnected, OutcomeUnknown, Refused, connect
from protocol.commands import ChatMessage, Generate, Role
from protocol.tls_faults import TlsFault
from protocol.validation import FieldFault

__all__ = ["put_question", "question_as_messages", "run_until_interrupted", "stream_answer"]

INTERRUPTED = 130
_SAID = (CommandFailed, OutcomeUnknown, Refused)
"""What a server said."""
_LOST = (OSError, Disconnected)
"""What became of the connection."""


def put_question(
    messages: list[ChatMessage],
    wanted: AnswerOptions,
    wish: ServerWish,
    settings: Settings,
    at: ServerFile | str,
    *,
    as_json: bool,
) -> None:
    """Ask the server of this machine, or the one at an address, and print its answer as it comes."""
    is_here = isinstance(at, ServerFile)
    shown = None if as_json else AnswerPrinter()

    def say(text: str) -> None:
        if shown is not None:
            shown.end_line()
        print_line(f"leanvibe: {text}", style="yellow", err=True)

    async def put(address: str | Callable[[], str], credentials: Credentials) -> None:
        async with connect(
            address,
            client_id=client_name_default(),
            agent="leanvibe ask",
            token=credentials.token,
            ssl_context=credentials.tls,
            # An answer goes on where it stood when the connection is cut, and when the server is started again.
            reconnect=True,
            detach=True,
            on_change=Outage(say).take,
        ) as client:
            wish.hold_against_model(client.welcome["model"], settings)
            if is_here and shown is not None:
                introduce_small_model(client.welcome["model"], settings.data_dir)
            generate = Generate(messages=messages, **wanted.fields(client))
            text, done = await stream_answer(client, generate, shown.add if shown else lambda _: None)
            if shown is None:
                print_json({"text": text, **done})
            else:
                shown.end()
                if note := answer_note(done):
                    print_line(f"[{note}]", style="dim", err=True)

    if isinstance(at, ServerFile):
        here = credentials_here(settings, at)
        run_until_interrupted(lambda: put(address_of(settings, at), here))
        return
    elsewhere = credentials_elsewhere(settings, at)
    run_until_interrupted(lambda: put(websocket_url_of(at), elsewhere))


def question_as_messages(question: str) -> list[ChatMessage]:
    """The question as the protocol has it; one that it cannot carry ends the command."""
    messages = [ChatMessage(Role.USER, question)]
    try:
        Generate(messages=messages)
    except FieldFault as error:
        fail(f"the question {error.problem}", status=2)
    return messages


async def stream_answer(client: Client, generate: Generate, piece: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Put one question and hand on its text piece by piece; the whole text and the data of `done`."""
    texts: list[str] = []
    async with client.generate(generate) as answer:
        async for text in answer:
            texts.append(text)
            piece(text)
    return "".join(texts), answer.done or {}


def run_until_interrupted(work: Callable[[], Any]) -> None:
    """Run it; Ctrl-C cancels it in order, and whatever goes wrong is one line for a person.

    Raises `SystemExit`, also where the work calls `fail`.
    """

    async def run() -> bool:
        interrupted = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal interrupted
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    interrupted = True
                    scope.cancel(reason="interrupted")
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            await work()
            nursery.cancel_scope.cancel(reason="done")
        return interrupted

    try:
        is_interrupted = trio.run(run)
    except (BaseExceptionGroup, SystemExit, *_SAID, *_LOST) as error:
        _end(error)
    if is_interrupted:
        end_line()
        sys.exit(INTERRUPTED)


def _end(error: BaseException) -> NoReturn:
    """End the command with a sentence for people instead of an exception group.

    Nothing here is raised out of an `except*`: Python 3.11.2, which Debian 12 has, makes a group of that too and shows its stacks.
    """
    leaves = _leaves(error)
    for one in leaves:
        if isinstance(one, SystemExit):
            raise one from None
    if not all(isinstance(one, _SAID + _LOST) for one in leaves):
        raise error
    said = [_said(one) for one in leaves if isinstance(one, _SAID)]
    fail("; ".join(said or [f"no answer from the server: {_lost(one)}" for one in leaves]))


def _said(error: BaseException) -> str:
    return failure_words(error.data) if isinstance(error, CommandFailed) else with_advice(str(error))


def _lost(error: BaseException) -> str:
    return tls_words(error.problem, str(error)) if isinstance(error, TlsFault) else str(error)


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions inside nested groups."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in _leaves(one)]
