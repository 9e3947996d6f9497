"""`leanvibe ask`. Apart from what asks, so that a server is on its way before the client of its protocol is imported."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actors.command_line.answer_options import AnswerOptions, answer_options
from actors.command_line.ephemeral_server import server_for
from actors.command_line.options import ca_option, data_dir_option, settings_from, url_given, url_option
from actors.command_line.piped_input import whole_question
from actors.command_line.served_model import ServerWish
from actors.startup import without_collections

if TYPE_CHECKING:
    from protocol.commands import ChatMessage

__all__ = ["ask"]


@click.command()
@click.argument("words", nargs=-1, metavar="QUESTION")
@data_dir_option
@url_option
@ca_option
@click.option("--engine", type=click.Choice(["mlx", "mock"]), help="For the server that is started if none is running.")
@click.option("--model", help="For the server that is started; one that runs must have it, or nothing is asked.")
@answer_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the whole answer.")
def ask(
    words: tuple[str, ...],
    data_dir: Path | None,
    url: str | None,
    ca: Path | None,
    engine: str | None,
    model: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask QUESTION and stream the answer. Its words need no quotes, and what is piped in goes with it."""
    url = url_given(url)
    question = whole_question(words)
    settings = settings_from(data_dir=data_dir, engine=engine, model=model, ca=ca)
    wanted, wish = AnswerOptions(**options), ServerWish(engine, model)
    if url is not None:
        wish.refuse_elsewhere()

    def check() -> list[ChatMessage]:
        with without_collections():
            from actors.command_line.ask import question_as_messages

        return question_as_messages(question)

    with nullcontext(url) if url is not None else server_for(settings, wish, meanwhile=check) as at:
        messages = check()
        from actors.command_line.ask import put_question

        put_question(messages, wanted, wish, settings, at, as_json=as_json)
