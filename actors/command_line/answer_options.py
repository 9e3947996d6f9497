"""Options of answers on the command line; unset ones take the server's defaults for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve, frozen

if TYPE_CHECKING:
    from protocol.client import Client

__all__ = ["AnswerOptions", "BadOption", "answer_note", "answer_options"]

Function = TypeVar("Function", bound=Callable[..., Any])
_SAMPLING = ("temperature", "top_p", "repetition_penalty")
_SERVER = "  [default: the server's]"
_OPTIONS: dict[str, tuple[click.ParamType[Any], str]] = {
    "max-tokens": (click.IntRange(1, 2**31), f"Longest answer, in tokens.{_SERVER}"),
    "temperature": (click.FloatRange(0, 5), f"0 takes the likeliest token.{_SERVER}"),
    "top-p": (click.FloatRange(1e-6, 1), f"Draw among the likeliest tokens only.{_SERVER}"),
    "repetition-penalty": (click.FloatRange(0.1, 10), f"Above 1 avoids saying the same again.{_SERVER}"),
    "seed": (click.IntRange(0, 2**53), "The same seed gives the same answer again."),
}
"""What they are called, which values they take and what they do."""


@frozen(kw_only=True)
class AnswerOptions:
    """Options that were given; None leaves one to the server."""

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

    def with_option(self, text: str) -> AnswerOptions:
        """These with one changed, as `temperature 0.5`; `default` leaves it to the server. Raises `BadOption`."""
        name, _, value = text.replace("=", " ").partition(" ")
        name, value = name.strip().lstrip("-").replace("-", "_"), value.strip()
        spelt = name.replace("_", "-")
        if spelt not in _OPTIONS:
            raise BadOption(f"there is no {spelt[:40]!r} to set; there are {', '.join(_OPTIONS)}")
        if not value:
            raise BadOption(f"usage: /set {spelt} VALUE")
        try:
            set_to = None if value == "default" else _OPTIONS[spelt][0].convert(value, None, None)
        except click.BadParameter as error:
            raise BadOption(f"{spelt}: {error.message}") from None
        return evolve(self, **{name: set_to})

    def shown(self, client: Client) -> dict[str, str]:
        """Each option by its name, with what holds for it."""
        defaults = client.welcome.get("answer_defaults") or {}
        found: dict[str, str] = {}
        for spelt in _OPTIONS:
            value, default = getattr(self, spelt.replace("-", "_")), defaults.get(spelt.replace("-", "_"))
            found[spelt] = f"{'none' if default is None else default} (default)" if value is None else f"{value}"
        return found


class BadOption(ValueError):
    """No such option, or no value for it; the text says what would be right."""


def answer_options(function: Function) -> Function:
    """The options that `AnswerOptions` is made of."""
    for spelt, (kind, words) in reversed(_OPTIONS.items()):
        function = click.option(f"--{spelt}", type=kind, help=words)(function)
    return function


def answer_note(done: dict[str, Any], *, option: str = "--max-tokens") -> str | None:
    """Return a note on how an answer ended, or None if it ended by itself. ``option`` is the one that sets its length."""
    if done.get("repetition"):
        return "the answer repeated itself and was ended"
    if done.get("finish_reason") == "length":
        return f"cut at {done['usage']['completion_tokens']} tokens; {option} allows more"
    return None
