"""How an answer is asked for on the command line: what the person set, and for the rest what the server answers people with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import frozen

from protocol.client import Client

__all__ = ["AnswerOptions", "answer_note", "answer_options"]

Function = TypeVar("Function", bound=Callable[..., Any])
_SAMPLING = ("temperature", "top_p", "repetition_penalty")


@frozen(kw_only=True)
class AnswerOptions:
    """What was set; None leaves it to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def fields(self, client: Client) -> dict[str, Any]:
        """Fields of `generate`, for a client that is connected."""
        defaults = client.welcome.get("answer_defaults") or {}
        given = {name: getattr(self, name) for name in _SAMPLING}
        chosen = {name: defaults.get(name) if value is None else value for name, value in given.items()}
        return {
            **{name: value for name, value in chosen.items() if value is not None},
            "max_tokens": self.max_tokens,
            "max_tokens_if_room": defaults.get("max_tokens"),
            "seed": self.seed,
        }


def answer_options(function: Function) -> Function:
    """The options that `AnswerOptions` is made of."""
    server = "  [default: the server's]"
    for option in (
        click.option("--seed", type=click.IntRange(0, 2**53), help="The same seed gives the same answer again."),
        click.option(
            "--repetition-penalty",
            type=click.FloatRange(0.1, 10),
            help=f"Above 1 avoids saying the same again.{server}",
        ),
        click.option("--top-p", type=click.FloatRange(1e-6, 1), help=f"Draw among the likeliest tokens only.{server}"),
        click.option("--temperature", type=click.FloatRange(0, 5), help=f"0 takes the likeliest token.{server}"),
        click.option("--max-tokens", type=click.IntRange(1, 2**31), help=f"Longest answer, in tokens.{server}"),
    ):
        function = option(function)
    return function


def answer_note(done: dict[str, Any]) -> str | None:
    """What a person should know of how an answer ended; None where it ended by itself."""
    if done.get("repetition"):
        return "the answer repeated itself and was ended"
    if done.get("finish_reason") == "length":
        return f"cut at {done['usage']['completion_tokens']} tokens; --max-tokens allows more"
    return None
