"""Rephrases refusals for the command line: options and arguments in place of fields. Pure functions.

The protocol names what it refuses by a path (`data.due`, `body.messages[0].content`), which is right for programs. A
person knows `--due` and TITLE. The names come from the command that runs, so that a new option needs no entry here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from protocol.errors import ErrorCode
from protocol.tls_faults import TlsProblem

__all__ = ["failure_words", "name_of_field", "tls_words", "with_advice", "words_of_fault"]

_PATH = re.compile(r"\b(?:data|body|query|path)(?:\.[A-Za-z_]+(?:\[\d+\])?)+|\b[a-z_]+(?:\[\d+\])(?:\.[a-z_]+)*")
_QUOTED = re.compile(r"`([a-z_]+)`")
_OTHER_NAMES = {
    "messages": "words",
    "max_tokens_if_room": "max_tokens",
    "quiet_hours": "quiet",
    "rate_limit": "rate",
    "ai_notifications": "ai",
}
"""Fields that a command fills from a parameter of another name."""


_ADVICE = {
    "a token is needed": "put one into LEANVIBE_TOKEN; `leanvibe token create` on the server's machine prints one",
    "this token is for another client id": "name its client with --client",
    "this token opens nothing here": "it was revoked, has expired or is another server's; put another one into LEANVIBE_TOKEN",
}
"""What a person does about a sentence that is the same for programs."""
NOT_FOUND = "not found"
"""Everything of another client, whether it is there or not."""
_OF_PROGRAMS = {"see GET /models": "see `leanvibe models`"}


_OF_TLS = {
    TlsProblem.UNKNOWN_AUTHORITY: "give its certificate, or that of who issued it, with --ca FILE or LEANVIBE_CA",
    TlsProblem.OTHER_NAME: "give --url with a name that the certificate has",
    TlsProblem.EXPIRED: "renew it where the server runs",
    TlsProblem.NOT_YET: "see what time it is here and there",
    TlsProblem.OTHER: "see its certificate, and what --ca or LEANVIBE_CA names",
    TlsProblem.PLAIN: "begin the address with http:// or ws:// in place of https:// or wss://",
    TlsProblem.SECURED: "begin the address with https:// or wss:// in place of http:// or ws://",
}


def tls_words(problem: TlsProblem, said: str) -> str:
    """Explain a TLS problem and how to solve it from a terminal."""
    return f"{said}; {_OF_TLS[problem]}"


def with_advice(message: str) -> str:
    """The sentence, and what to do about it from a terminal where that is known."""
    for said, here in _OF_PROGRAMS.items():
        message = message.replace(said, here)
    if message == NOT_FOUND:
        return f"{message}: it is not there, or the token in LEANVIBE_TOKEN is for another client; name its client with --client"
    advice = next((todo for sentence, todo in _ADVICE.items() if message.endswith(sentence)), None)
    return message if advice is None else f"{message}: {advice}"


def failure_words(data: dict[str, Any]) -> str:
    """The sentence of an `error`, without its code and without paths."""
    message = str(data.get("message") or data.get("code") or "the server refused without a reason")
    field = data.get("field")
    if data.get("code") == ErrorCode.INVALID_FIELD.value and isinstance(field, str) and message.startswith(field):
        message = name_of_field(field) + message[len(field) :]
    return with_advice(without_paths(message))


def words_of_fault(path: str, problem: str) -> str:
    """The sentence of a fault that was found here, before anything was sent."""
    return f"{name_of_field(path)} {without_paths(problem)}"


def without_paths(message: str) -> str:
    """Spell every path and every quoted field of the protocol in a message as the person knows it."""
    parameters = _parameters()
    named = _QUOTED.sub(lambda found: parameters.get(found[1], found[0]), message)
    return _PATH.sub(lambda found: name_of_field(found[0]), named)


def name_of_field(path: str) -> str:
    """Return the option or argument for a field of the running command, or the field in words."""
    names = [re.sub(r"\[\d+\]", "", part) for part in path.split(".")]
    names = names[1:] if len(names) > 1 and names[0] in ("data", "body", "query", "path") else names
    parameters = _parameters()
    for name in names:
        for wanted in (name, name.removesuffix("s"), f"{name}s", _OTHER_NAMES.get(name, name)):
            if wanted in parameters:
                return parameters[wanted]
    words = [name for name in names if not name.isdigit()]
    return "the " + words[-1].replace("_", " ") if words else "a field"


def _parameters() -> dict[str, str]:
    context = click.get_current_context(silent=True)
    return {} if context is None else dict(_spelt(context.command.params))


def _spelt(parameters: Iterable[click.Parameter]) -> Iterable[tuple[str, str]]:
    for one in parameters:
        if one.name is not None:
            yield one.name, max(one.opts, key=len) if isinstance(one, click.Option) else one.human_readable_name
            if isinstance(one, click.Option):
                yield max(one.opts, key=len).lstrip("-").replace("-", "_"), max(one.opts, key=len)
